"""A database of Flowcept's has exactly the documents of these files, each once and as they are: check_documents.py DATABASE BUFFER..."""

import json
import sys

import lmdb

env = lmdb.open(sys.argv[1], map_size=10**12, max_dbs=5, readonly=True)
stored = {}
with env.begin() as txn:
    for kind in ("task", "workflow"):
        for id, row in txn.cursor(env.open_db(f"{kind}s".encode(), txn=txn, create=False)):
            stored[kind, id.decode()] = json.loads(row)
count = 0
for path in sys.argv[2:]:
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            sent = json.loads(line)
            kind = sent["type"]
            if kind == "task":
                del sent["type"]
                sent[sent["status"].lower()] = True
            id = sent[f"{kind}_id"]
            there = stored.pop((kind, id), None)
            assert there is not None, f"{kind} {id} of {path} is lost"
            assert there == sent, (there, sent)
            count += 1
assert not stored, f"{len(stored)} documents that nobody sent: {list(stored)[:3]}"
print(count)

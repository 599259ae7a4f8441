"""What two of Flowcept's LMDB databases hold is equal, but for what its own consumer adds: compare_databases.py THEIRS OURS"""

import json
import sys

import lmdb

# When it came, what its consumer thinks of it, and whose consumer it was where the message does not say where it was made.
ADDED = {"registered_at", "tags", "hostname", "node_name", "login_name", "public_ip", "private_ip", "telemetry_summary", "campaign_id"}


def read(folder):
    environment = lmdb.open(folder, max_dbs=5, readonly=True)
    found = {}
    for name in (b"tasks", b"workflows", b"agents"):
        table = environment.open_db(name, create=False)
        with environment.begin() as transaction:
            found[name.decode()] = {k.decode(): json.loads(v) for k, v in transaction.cursor(table)}
    environment.close()
    return found


theirs, ours = map(read, sys.argv[1:3])
count = 0
for table in theirs:
    # A loop's iterations have ids that each consumer makes itself where the message has none.
    assert theirs[table].keys() == ours[table].keys(), (table, theirs[table].keys() ^ ours[table].keys())
    for id, expected in theirs[table].items():
        found = ours[table][id]
        expected = {k: v for k, v in expected.items() if k in found or k not in ADDED}
        found = {k: v for k, v in found.items() if k != "tags"}
        expected.pop("tags", None)
        assert found == expected, {k: (expected.get(k), found.get(k)) for k in expected.keys() | found if expected.get(k) != found.get(k)}
        count += 1
print(count, "documents are equal")

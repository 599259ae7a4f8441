"""What Flowcept 1.0.3 has stored equals what was sent to it: check_database.py BUFFER"""

import json
import sys
from datetime import datetime, timezone

from flowcept import Flowcept

with open(sys.argv[1], encoding="utf-8") as lines:
    sent = [json.loads(line) for line in lines]

# What its consumer adds to a task: the status as a key, tags, when it came, and a summary of telemetry.
ADDED = {"tags", "registered_at", "telemetry_summary"}
for document in sent:
    kind = document["type"]
    id = document[f"{kind}_id"]
    query = Flowcept.db.task_query if kind == "task" else Flowcept.db.workflow_query
    stored = query(filter={f"{kind}_id": id})
    assert len(stored) == 1, f"{kind} {id} is stored {len(stored)} times"
    stored = dict(stored[0])
    stored.pop("_id", None)
    # MongoDB has dates, to the millisecond.
    for name, value in stored.items():
        if isinstance(value, datetime) and name in document:
            seconds = value.replace(tzinfo=timezone.utc).timestamp()
            assert abs(seconds - document[name]) <= 0.001, (name, seconds, document[name])
            stored[name] = document[name]
    expected = dict(document)
    if kind == "task":
        expected.pop("type")
        assert stored.pop(document["status"].lower()) is True
    for name in ADDED - expected.keys():
        stored.pop(name, None)
    assert stored == expected, {k: (stored.get(k), expected.get(k)) for k in stored.keys() | expected if stored.get(k) != expected.get(k)}
print(len(sent), "documents are equal")

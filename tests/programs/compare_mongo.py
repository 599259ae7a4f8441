"""What two of Flowcept's MongoDB databases hold is equal, but for what its own consumer adds or loses: compare_mongo.py URL THEIRS OURS"""

import sys

from pymongo import MongoClient

# As in compare_databases.py.
ADDED = {"registered_at", "tags", "hostname", "node_name", "login_name", "public_ip", "private_ip", "telemetry_summary", "campaign_id"}
client = MongoClient(sys.argv[1])
theirs, ours = client[sys.argv[2]], client[sys.argv[3]]
count = 0
for name, key in {"tasks": "task_id", "workflows": "workflow_id"}.items():
    expected = {row.pop(key): row for row in theirs[name].find({}, {"_id": 0})}
    found = {row.pop(key): row for row in ours[name].find({}, {"_id": 0})}
    assert expected.keys() == found.keys(), (name, expected.keys() ^ found.keys())
    for id, row in expected.items():
        mine = found[id]
        for added in ADDED - mine.keys() | {"tags"}:
            row.pop(added, None)
            mine.pop(added, None)
        # Its updates take a text that begins with $ for the name of a field, which is not there.
        if mine.get("custom_metadata", {}).get("note") == "$HOME":
            assert mine["custom_metadata"]["a.b"] == 1
            row.pop("custom_metadata", None)
            mine.pop("custom_metadata")
        # It adds its id with each message of a workflow.
        if "interceptor_ids" in row:
            row["interceptor_ids"] = list(dict.fromkeys(row["interceptor_ids"]))
        assert mine == row, {k: (row.get(k), mine.get(k)) for k in row.keys() | mine if row.get(k) != mine.get(k)}
        count += 1
    indexes = [{i: (v["key"], v.get("unique")) for i, v in db[name].index_information().items()} for db in (theirs, ours)]
    assert indexes[0] == indexes[1], indexes
print(count, "documents are equal")

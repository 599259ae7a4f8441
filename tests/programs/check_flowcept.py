"""Flowcept 1.0.3, unmodified, reads a JSONL buffer and makes a workflow card of it: check_flowcept.py BUFFER CARD"""

import json
import sys

from flowcept import Flowcept

buffer, card = sys.argv[1], sys.argv[2]
records = Flowcept.read_buffer_file(buffer)
with open(buffer, encoding="utf-8") as lines:
    written = [json.loads(line, parse_constant=lambda word: sys.exit(f"{word} is not strict JSON")) for line in lines]
assert records == written, "Flowcept reads something else than was written"
kinds = [r["type"] for r in records]
assert kinds.count("workflow") == 1, kinds
workflow = next(r for r in records if r["type"] == "workflow")
tasks = [r for r in records if r["type"] == "task"]
assert len({t["task_id"] for t in tasks}) == len(tasks), "task ids are not distinct"
for task in tasks:
    missing = {"workflow_id", "campaign_id", "activity_id", "status", "started_at", "hostname", "node_name", "login_name"} - task.keys()
    assert not missing, f"{task['task_id']} lacks {missing}"
    assert ("ended_at" in task) == (task["status"] != "RUNNING"), task["task_id"]
    assert len(task["task_id"]) <= 200 and not set(task["task_id"]) & set("/?#%"), task["task_id"]


def unfit(value):
    """What poisons the stock consumer: nulls, empty blocks, keys and values that MongoDB evaluates."""
    if isinstance(value, dict):
        return any(k.startswith("$") or "." in k or v in ({}, []) or unfit(v) for k, v in value.items())
    return any(map(unfit, value)) if isinstance(value, list) else value is None or str(value).startswith("$")


assert not any(map(unfit, records)), next(filter(unfit, records))

made = Flowcept.generate_report(report_type="workflow_card", format="markdown", input_jsonl_path=buffer, output_path=card)
assert (made["tasks"], made["skipped_lines"]) == (len(tasks), 0), made
text = open(card, encoding="utf-8").read()
wanted = [workflow["name"], workflow["hostname"], workflow["workflow_id"], workflow["compute_hardware"], workflow["host_os"]]
wanted += [v for k, v in workflow.get("code_repository", {}).items() if k in ("remote", "branch", "short_sha") and v]
for word in filter(None, wanted):
    assert word in text, f"the card does not name {word}"
pages = sum(t.get("subtype") == "file_page" for t in tasks)
files = [len({f["entity"] for t in tasks for f in t.get(side, {}).get("files", [])}) for side in ("used", "generated")]
print(f"{len(tasks)} tasks, {pages} of them pages, card of {len(text)} characters, {files[0]} entities used, {files[1]} generated")

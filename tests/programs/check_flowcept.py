"""Flowcept 1.0.3, unmodified, reads a JSONL buffer and makes a workflow card of it: check_flowcept.py BUFFER CARD"""

import json
import sys

from flowcept import Flowcept

buffer, card = sys.argv[1], sys.argv[2]
records = Flowcept.read_buffer_file(buffer)
kinds = [r["type"] for r in records]
assert kinds.count("workflow") == 1, kinds
with open(buffer) as lines:
    assert len(records) == sum(1 for _ in lines)
Flowcept.generate_report(report_type="workflow_card", format="markdown", input_jsonl_path=buffer, output_path=card)
text = open(card).read()
workflow = next(r for r in records if r["type"] == "workflow")
for wanted in [workflow["name"], workflow["hostname"], workflow["workflow_id"]]:
    assert wanted in text, f"the card does not name {wanted}"
print(f"{kinds.count('task')} tasks, card of {len(text)} characters")

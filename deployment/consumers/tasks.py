"""Tells of each task how it ended and what it was:

flowcept stream --from redis://127.0.0.1:6379 --stream runs --group tasks | python3 tasks.py
"""

import json
import sys

for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "task":
        print(message["status"], message["activity_id"], message["task_id"], flush=True)

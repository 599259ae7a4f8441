"""What Flowcept 1.0.3 answers on its database to the filters of a file, one a line: a list of tasks for each."""

import json
import sys

from flowcept import Flowcept

with open(sys.argv[1], encoding="utf-8") as filters:
    print(json.dumps([Flowcept.db.task_query(filter=json.loads(line)) for line in filters]))

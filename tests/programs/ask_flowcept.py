"""What Flowcept 1.0.3's Python interface says of a workflow in its database, as JSON: ask_flowcept.py WORKFLOW CAMPAIGN"""

import json
import sys

from flowcept import Flowcept, configs

workflow, campaign = sys.argv[1:]
of_workflow = {"workflow_id": workflow}
db = Flowcept.db
found = db.get_workflow_object(workflow)
summary = db.task_summary(of_workflow)
answers = {
    "tasks": len(db.task_query(filter=of_workflow)),
    "frame": len(db.to_df(collection="tasks", filter=of_workflow)),
    "name": found.name,
    "status": found.status,
    "statuses": summary["status_counts"],
    "campaigns": [row["campaign_id"] for row in db.derive_campaigns(campaign)],
}
if configs.MONGO_ENABLED:
    tree = db.get_tasks_recursive(workflow)
    answers["recursive"] = len(tree)
    answers["depths"] = sorted({task["depth"] for task in tree})
print(json.dumps(answers))

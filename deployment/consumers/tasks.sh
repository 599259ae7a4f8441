#!/bin/sh
# Tells of each task how it ended and what it was:
# flowcept stream --from redis://127.0.0.1:6379 --stream runs --group tasks | ./tasks.sh
exec jq --unbuffered -r 'select(.type == "task") | "\(.status) \(.activity_id) \(.task_id)"'

"""Waits until Flowcept's LMDB database in a folder has so many tasks: `wait_for_rows.py FOLDER COUNT`. It takes no lock of it, and
prints how many were there first, and the seconds from then until all were."""

import sys
import time

import lmdb


def rows(folder):
    try:
        with lmdb.open(folder, max_dbs=5, readonly=True, lock=False) as env:
            table = env.open_db(b"tasks", create=False)
            with env.begin() as transaction:
                return transaction.stat(table)["entries"]
    except lmdb.Error:
        return 0


folder, count = sys.argv[1], int(sys.argv[2])
first = tasks = 0
while tasks < count:
    time.sleep(0.05)
    tasks = rows(folder)
    if tasks and not first:
        first, begun = tasks, time.monotonic()
print(first, time.monotonic() - begun)

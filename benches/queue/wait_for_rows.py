"""Waits until Flowcept's LMDB database in a folder has so many tasks: `wait_for_rows.py FOLDER COUNT`. It takes no lock of it."""

import sys
import time

import lmdb

folder, count = sys.argv[1], int(sys.argv[2])
tasks = 0
while tasks < count:
    time.sleep(0.05)
    try:
        with lmdb.open(folder, max_dbs=5, readonly=True, lock=False) as env:
            table = env.open_db(b"tasks", create=False)
            with env.begin() as transaction:
                tasks = transaction.stat(table)["entries"]
    except lmdb.Error:
        continue

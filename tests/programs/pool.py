"""A pool of two workers, each of which takes one item, and always the same: pool.py fork|spawn."""

import multiprocessing
import os
import sys


def begin(*shared):
    """In each worker: the second comes only when the first has its item."""
    global taken, both
    taken, both = shared
    if not is_first():
        taken.acquire()


def is_first():
    return multiprocessing.current_process().name.endswith("-1")


def work(name):
    if is_first():
        taken.release()
    both.wait()
    with open(name) as source, open(name + ".out", "w") as out:
        out.write(source.read().upper())
    return name


if __name__ == "__main__":
    # Numbers of descriptors are in the arguments of spawned workers: nothing that was inherited may change them.
    os.closerange(3, 256)
    way = multiprocessing.get_context(sys.argv[1])
    with way.Pool(2, begin, (way.Semaphore(0), way.Barrier(2))) as pool:
        done = pool.map(work, ["a", "b"], chunksize=1)
        pool.close()
        pool.join()
    with open("done", "w") as out:
        out.write(" ".join(done))

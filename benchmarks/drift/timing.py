"""How watch and contenders are timed alike; standard library only, for each runs in an environment of its own."""

import time


def timed(work, rounds):
    """CPU seconds of each round, after one that is not counted."""
    work()
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return spent

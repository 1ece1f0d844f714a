"""Prediction ids: unique across workers and machines, in order of time, and known again without a database.

`<milliseconds, 12 hex>-<worker 8, count 4, check 4 hex>-<row>`; the rows of one request share all but the row.
"""

import itertools
import os
import time
from hashlib import blake2b


class Ids:
    """One per process, made after the fork."""

    def __init__(self) -> None:
        self._worker = os.urandom(4).hex()
        self._count = itertools.count()  # next() is atomic

    def request(self) -> str:
        """The part all rows of a request share; unique for 65,536 requests of a worker in one millisecond."""
        body = f"{time.time_ns() // 1_000_000:012x}-{self._worker}{next(self._count) & 0xFFFF:04x}"
        return body + _check(body)


def issued(prediction_id: str) -> bool:
    """Whether a service of ours made this id: its check digits fit. The pattern is the schema's business."""
    request = prediction_id.rpartition("-")[0]
    return _check(request[:-4]) == request[-4:]


def _check(body: str) -> str:
    return blake2b(body.encode(), digest_size=2, key=b"perennial").hexdigest()

"""Prediction ids: unique across workers and machines, in order of time, and known again without a database.

`<milliseconds, 12 hex>-<worker 8, count 4, check 4 hex>-<row>-<version 12, class 4, figure 8 hex>`; the rows of one
request share the first two parts. The last one holds what was answered, so that a label can be judged when it comes.
"""

import itertools
import os
import struct
import time
from dataclasses import dataclass
from hashlib import blake2b

PATTERN = r"^[0-9a-f]{12}-[0-9a-f]{16}-[0-9a-f]{1,5}(-[0-9a-f]{24})?$"  # the first ones had no answer in them


@dataclass(frozen=True)
class Answer:
    version: str  # the head of the model's SHA-256
    place: int  # of the predicted class; 0 for a number
    figure: float  # the positive class's probability, the predicted class's, or the value; float32


class Ids:
    """One per process, made after the fork."""

    def __init__(self) -> None:
        self._worker = os.urandom(4).hex()
        self._count = itertools.count()  # next() is atomic

    def request(self) -> str:
        """The part all rows of a request share; unique for 65,536 requests of a worker in one millisecond."""
        body = f"{time.time_ns() // 1_000_000:012x}-{self._worker}{next(self._count) & 0xFFFF:04x}"
        return body + _check(body)


def whole(request: str, row: int, version: str, place: int, figure: float) -> str:
    """The id of one row of a request."""
    return f"{request}-{row:x}-{version}{min(place, 0xFFFF):04x}{struct.pack('>f', figure).hex()}"


def issued(prediction_id: str) -> bool:
    """Whether a service of ours made this id: its check digits fit. The pattern is the schema's business."""
    request = prediction_id[:29]
    return _check(request[:-4]) == request[-4:]


def answer_in(prediction_id: str) -> Answer | None:
    """What was answered; None for an id of the first format. A figure that is no number is nobody's answer."""
    last = prediction_id.rpartition("-")[2]
    if len(last) != 24:
        return None
    (figure,) = struct.unpack(">f", bytes.fromhex(last[16:]))
    return Answer(last[:12], int(last[12:16], 16), figure) if abs(figure) < float("inf") else None


def _check(body: str) -> str:
    return blake2b(body.encode(), digest_size=2, key=b"perennial").hexdigest()

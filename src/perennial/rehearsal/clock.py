"""A service that lives in simulated time: the real application, whose clock is a number in a file.

Only the rehearsal starts gunicorn with it. Whoever drives the story moves the number; the workers see it at once.
"""

import mmap
import os
import struct
import time
from datetime import datetime
from pathlib import Path

from perennial.serving.app import create_app as real_app
from perennial.serving.front import Front

VARIABLE = "REHEARSAL_CLOCK"
SECONDS = struct.Struct("d")


def set_clock(path: Path, now: datetime) -> None:
    """Move the clock; the file is written in place, for workers have it mapped."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(SECONDS.pack(now.timestamp()))


def create_app() -> Front:
    """The application of one worker, after its clock was changed."""
    with open(os.environ[VARIABLE], "rb") as file:
        shown = mmap.mmap(file.fileno(), SECONDS.size, access=mmap.ACCESS_READ)
    time.time = lambda: float(SECONDS.unpack(shown[:])[0])
    time.time_ns = lambda: int(time.time() * 1e9)
    return real_app()

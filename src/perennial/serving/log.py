"""Lines that are on disk before the answer leaves: the prediction log and the labels.

Each worker appends to a segment of its own, one `write` a request; a killed worker loses nothing it
acknowledged. A segment is `<kind>-<time>-<worker>.open` under an exclusive lock while it is written, and
`.jsonl` when it is closed by size, age or the end of the worker. `ship.py` closes what a dead worker left
open (its lock is gone) and takes the closed ones away.
"""

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

OPEN, CLOSED = ".open", ".jsonl"


class SegmentLog:
    """Append-only lines of one kind from one process; safe for its threads."""

    def __init__(self, folder: Path, kind: str, max_bytes: int, max_seconds: float) -> None:
        self._folder, self._kind = folder, kind
        self._max_bytes, self._max_seconds = max_bytes, max_seconds
        self._lock = threading.Lock()
        self._file: int | None = None
        self._path, self._size, self._opened = folder, 0, 0.0

    def append(self, lines: bytes) -> None:
        """Write whole lines with one call, or none of them.

        Raises:
            OSError: when the disk is full or not writable; what a short write left is cut off again.
        """
        with self._lock:
            if self._file is None:
                self._open()
            assert self._file is not None
            try:
                if os.write(self._file, lines) != len(lines):
                    raise OSError(28, "No space left on device")
            except OSError:
                os.ftruncate(self._file, self._size)
                raise
            self._size += len(lines)
            if self._size >= self._max_bytes:
                self._close()

    def rotate(self, now: bool = False) -> None:
        """Close the segment when it is old enough, or now."""
        with self._lock:
            if self._file is not None and (now or time.monotonic() - self._opened >= self._max_seconds):
                self._close()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._kind}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(time.time()))}-{os.urandom(6).hex()}"
        path = self._folder / f".{name}{OPEN}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC, 0o640)
        fcntl.flock(file, fcntl.LOCK_EX)
        self._path = path.with_name(name + OPEN)  # it has its name only once it is locked: nobody takes it away
        path.rename(self._path)
        self._file, self._size, self._opened = file, 0, time.monotonic()

    def _close(self) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        try:
            self._path.rename(self._path.with_suffix(CLOSED))
        finally:
            os.close(file)


def adopt(folder: Path) -> None:
    """Close the segments whose writer is gone: its lock went with it."""
    for path in folder.glob(f"[!.]*{OPEN}"):  # one with a dot is about to be locked by its writer
        # Its writer, or another that adopts, may close it at the same moment.
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as segment:
            fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.rename(path.with_suffix(CLOSED))

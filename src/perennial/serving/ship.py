"""Take closed log segments to PREDICTION_STORE; nothing is deleted here before it was read back from there.

`python -m perennial.serving.ship` ships what is there and ends: the workers start it, a cron job or sidecar may too.
Segments go to <store>/<kind>/dt=<day>/<segment>. Shipping one twice writes the same bytes to the same name.
"""

import fcntl
import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perennial.errors import UserError
from perennial.serving.log import CLOSED, adopt
from perennial.serving.settings import Settings, from_environment

SEGMENT = re.compile(r"\w+-\d{8}T\d{6}-")  # other files are nobody's business
TRIES = 4  # then the segment waits for the next round
logger = logging.getLogger("perennial.ship")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        settings = from_environment()
        with _alone(settings.log_dir) as alone:
            if alone:
                adopt(settings.log_dir)
                ship(settings)
    except UserError as error:
        sys.exit(f"Error {error}")


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other shipper is at work in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".ship.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def ship(settings: Settings) -> int:
    """Take every closed segment away; how many were.

    Raises:
        UserError: when the store's URL is of a kind that no installed package understands.
    """
    segments = sorted(path for path in settings.log_dir.glob(f"*{CLOSED}") if SEGMENT.match(path.name))
    if not segments:
        return 0
    import fsspec

    try:
        store, root = fsspec.core.url_to_fs(settings.store)
    except (ValueError, ImportError) as error:
        raise UserError(f"PREDICTION_STORE={settings.store}: {error}", "install the fsspec package for it") from None
    for done, segment in enumerate(segments):
        if not _take(store, root, segment):
            return done  # the store is in trouble: the next round goes on from here
    return len(segments)


def _take(store: Any, root: str, segment: Path) -> bool:
    kind, written = segment.name.split("-")[:2]
    target = f"{root}/{kind}/dt={written[:4]}-{written[4:6]}-{written[6:8]}/{segment.name}"
    content = segment.read_bytes()
    for attempt in range(TRIES if content else 0):
        time.sleep(0.2 * 4 ** (attempt - 1) * (1 + os.urandom(1)[0] / 256) if attempt else 0)
        try:
            store.makedirs(target.rpartition("/")[0], exist_ok=True)
            store.pipe_file(target, content)
            store.invalidate_cache()
            if hashlib.sha256(store.cat_file(target)).digest() == hashlib.sha256(content).digest():
                break
            logger.warning("%s arrived damaged, trying again", target)
        except Exception as error:  # whatever the store's library raises, the segment stays here
            logger.warning("%s not shipped (%s: %s)", segment.name, type(error).__name__, error)
    else:
        if content:
            return False
    segment.unlink()
    return True


if __name__ == "__main__":
    main()

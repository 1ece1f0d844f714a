"""A worker's housekeeper: a thread that closes old segments and has closed ones shipped."""

import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from perennial.serving.log import CLOSED, adopt
from perennial.serving.settings import Settings

if TYPE_CHECKING:
    from perennial.serving.app import Service

logger = logging.getLogger("perennial.keeper")


class Keeper(threading.Thread):
    """Every few seconds: rotate by age, and start the shipper when there is something to take away.

    The shipper is a process of its own, so that no storage library lives in a worker; a lock keeps it single.
    """

    def __init__(self, service: "Service", settings: Settings) -> None:
        super().__init__(name="keeper", daemon=True)
        self._logs, self._settings = [service.predictions, service.feedback], settings
        self._over = threading.Event()
        self._pause = min(5.0, settings.segment_seconds / 4)

    def run(self) -> None:
        while not self._over.wait(self._pause):
            try:
                self._round()
            except Exception:  # a full disk, a lost mount: it may pass, and the next round must come
                logger.exception("housekeeping failed")

    def _round(self) -> None:
        for log in self._logs:
            log.rotate()
        adopt(self._settings.log_dir)
        if any(self._settings.log_dir.glob(f"*{CLOSED}")):
            subprocess.run([sys.executable, "-m", "perennial.serving.ship"], check=False)

    def stop(self) -> None:
        """Close what this worker wrote; another worker, or the next start, ships it."""
        self._over.set()
        for log in self._logs:
            log.rotate(now=True)

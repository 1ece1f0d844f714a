"""What a person sees while a stage runs: steps, spinners, and errors without a traceback."""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from perennial.errors import UserError

out, err = Console(highlight=False), Console(stderr=True, highlight=False)


@contextmanager
def step(text: str) -> Iterator[None]:
    """A spinner on a terminal while the block runs, and a line when it is done."""
    with out.status(escape(text)):
        yield
    say(text)


def say(text: str) -> None:
    out.print(f"[green]✓[/] {escape(text)}", soft_wrap=True)


def run(main: Callable[[], None]) -> None:
    """Run a command: an error a user can mend ends it with its text and code 1, Ctrl-C with 130."""
    try:
        main()
    except UserError as error:
        fail(str(error))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC):
            raise
        folder = Path(error.filename or ".").parent
        what = f"{error.filename or 'writing'}: {error.strerror}"
        fail(f"{what}\n  Fix: make {folder} writable, with room left on its disk, then run again")
    except KeyboardInterrupt:
        err.print("Stopped. Nothing half-written is left; run again to go on.")
        sys.exit(130)


def fail(text: str) -> None:
    err.print(f"[bold red]Error[/] {escape(text)}", soft_wrap=True)
    sys.exit(1)

"""What a person sees while a stage runs: steps, spinners, and errors without a traceback."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from perennial.errors import UserError

out, err = Console(highlight=False), Console(stderr=True, highlight=False)


@contextmanager
def step(text: str) -> Iterator[None]:
    """A spinner on a terminal while the block runs, and a line when it is done."""
    with out.status(text):
        yield
    say(text)


def say(text: str) -> None:
    out.print(f"[green]✓[/] {text}")


def run(main: Callable[[], None]) -> None:
    """Run a command: an error a user can mend ends it with its text and code 1, Ctrl-C with 130."""
    try:
        main()
    except UserError as error:
        fail(str(error))
    except PermissionError as error:
        folder = Path(error.filename or ".").parent
        fail(f"{error.filename}: {error.strerror}\n  Fix: make {folder} writable (chmod u+w {folder}), then run again")
    except KeyboardInterrupt:
        err.print("Stopped. Nothing half-written is left; run again to go on.")
        sys.exit(130)


def fail(text: str) -> None:
    err.print(f"[bold red]Error[/] {text.replace('[', chr(92) + '[')}", soft_wrap=True)
    sys.exit(1)

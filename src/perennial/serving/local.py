"""`make serve`: the last model on this machine, with a request to try."""

import os
import shlex
import socket
import sys

import orjson

from perennial.console import out
from perennial.serving import artifacts
from perennial.serving.settings import from_environment


def serve(port: int = 0) -> None:
    """Replace this process by gunicorn on 127.0.0.1; a free port unless one is given.

    Raises:
        UserError: when there is no sound model.
    """
    settings = from_environment()
    found = artifacts.read(settings.model_dir, settings.model_sha256)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    body = orjson.dumps({"instances": [found.profile["example"]["row"]]}).decode()
    out.print(
        f"Model {found.version} on {url} (a form to try it), {url}/docs/ (its API). Ctrl-C ends it. In another shell:"
    )
    out.print(f"  curl {url}/predict -H 'Content-Type: application/json' -d {shlex.quote(body)}", soft_wrap=True)
    sys.stdout.flush()
    command = [sys.executable, "-m", "gunicorn", "--config", "python:perennial.serving.gunicorn_conf"]
    os.execvpe(command[0], command, {"HOST": "127.0.0.1", "OMP_NUM_THREADS": "1"} | os.environ | {"PORT": str(port)})  # noqa: S606


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

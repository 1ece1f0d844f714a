"""Gunicorn's settings, each with its reason (measured in benchmarks/serving).

The master reads and verifies the model, and imports all but onnxruntime: less memory, faster workers.
It must not import onnxruntime, which aborts in a forked process.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from perennial.errors import UserError
from perennial.serving import artifacts
from perennial.serving.settings import from_environment

try:
    settings = from_environment()
    artifacts.current = artifacts.read(settings.model_dir, settings.model_sha256)
except UserError as error:
    sys.exit(f"Error {error}")

shared = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  memory, not a disk
given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
metrics_folder = Path(given or tempfile.mkdtemp(prefix="perennial-metrics-", dir=shared))
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_folder)

from perennial.serving import app as _  # noqa: E402, F401  prometheus_client reads its folder when it is imported

bind = f"{os.environ.get('HOST', '0.0.0.0')}:{os.environ.get('AIP_HTTP_PORT') or os.environ.get('PORT', '8080')}"  # noqa: S104
wsgi_app = "perennial.serving.app:create_app()"
workers = int(os.environ.get("WEB_CONCURRENCY", len(os.sched_getaffinity(0))))
worker_class, threads = "gthread", int(os.environ.get("THREADS", "2"))  # sync closes every connection
keepalive = 75  # longer than a load balancer's idle time, or it meets closed connections
timeout, graceful_timeout = 30, 30
worker_tmp_dir = shared  # a heartbeat file must not wait for a disk
control_socket_disable = True
preload_app = False


def on_starting(server: Any) -> None:  # noqa: ARG001
    """Counters start at zero with the process; files of an earlier run would be added up."""
    shutil.rmtree(metrics_folder, ignore_errors=True)
    metrics_folder.mkdir(parents=True)
    assert artifacts.current
    if problem := _tried(artifacts.current):
        sys.exit(f"Error {problem}")


def _tried(found: artifacts.Artifacts) -> str:
    """What a worker would say of this model: tried in a fork, for the master must not import onnxruntime."""
    reader, writer = os.pipe()
    if child := os.fork():
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        return said or ("" if os.waitpid(child, 0)[1] == 0 else "the model could not be tried")
    try:
        from perennial.serving.predictor import Predictor

        Predictor(found)
    except Exception as error:  # whatever it is, a worker would end with it, and gunicorn with its workers
        os.write(writer, str(error).encode() or b"the model could not be tried")
    finally:
        os._exit(0)


def on_reload(server: Any) -> None:
    """SIGHUP: take the model that is there now, if it is sound and answers; else go on with the old one."""
    try:
        found = artifacts.read(settings.model_dir, settings.model_sha256)
        if problem := _tried(found):
            raise UserError(problem)
    except UserError as error:
        server.log.error("Reload refused, the old model goes on: %s", error)
        return
    artifacts.current = found
    server.log.info("Model %s", found.version)


def post_worker_init(worker: Any) -> None:
    from perennial.serving import metrics
    from perennial.serving.keeper import Keeper

    metrics.WORKERS.inc()
    worker.keeper = Keeper(worker.wsgi.service, settings)
    worker.keeper.start()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    if keeper := getattr(worker, "keeper", None):
        keeper.stop()


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:  # noqa: ARG001
    if not given:
        shutil.rmtree(metrics_folder, ignore_errors=True)

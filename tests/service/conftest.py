from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, make_params: Any, make_table: Any) -> Callable[[str], Path]:
    """A folder with the model of a task; trained at the first call, the same afterwards."""
    trained: dict[str, Path] = {}

    def model(task: str = "binary") -> Path:
        if task not in trained:
            family = "Ridge" if task == "regression" else "LogisticRegression"
            params = make_params(task, train={"estimator": f"sklearn.linear_model.{family}"})
            folder = tmp_path_factory.mktemp("model") / task
            trained[task] = servers.train_model(folder, params, make_table(task, rows=500))
        return trained[task]

    return model


@pytest.fixture
def start(models: Callable[[str], Path], tmp_path: Path) -> Callable[..., servers.Server]:
    """A server that is not started yet, with environment variables as keywords; `with` starts it."""

    def make(task: str = "binary", folder: Path | None = None, **environment: Any) -> servers.Server:
        logs = environment.pop("LOG_DIR", tmp_path / "logs")
        return servers.Server(folder or models(task), logs, tmp_path / "said.txt", **environment)

    return make


@pytest.fixture(scope="module")
def server(models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """One server for a whole module that asks it and changes nothing."""
    folder = tmp_path_factory.mktemp("module")
    with servers.Server(models("binary"), folder / "logs", folder / "said.txt") as running:
        yield running

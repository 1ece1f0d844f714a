from pathlib import Path

import pytest
import repository
from gates import ONCE, gate, start


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> repository.Repository:
    """A repository whose pipeline has run, with the result committed. Tests work on copies and clones."""
    return repository.built(tmp_path_factory.mktemp("built") / "repository")


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> repository.Repository:
    """`main` has a poor model, then a good one; both commits are tagged."""
    here = start(tmp_path_factory.mktemp("history") / "repository", ONCE.replace("max_iter: 20", "max_iter: 1"))
    here.git("tag", "poor")
    here.replace("params.yaml", "max_iter: 1\n", "max_iter: 20\n")
    here.perennial("run")
    here.commit("A better model")
    here.git("tag", "good")
    return here


@pytest.fixture
def here(history: repository.Repository, tmp_path: Path) -> repository.Repository:
    """A branch off `main`, with nothing changed yet."""
    copy = history.copy(tmp_path / "here")
    copy.git("switch", "-q", "-c", "change")
    return copy


@pytest.fixture(scope="session")
def worse(history: repository.Repository, tmp_path_factory: pytest.TempPathFactory) -> repository.Repository:
    """A branch that brings the poor model back, all committed, and judged."""
    copy = history.copy(tmp_path_factory.mktemp("worse") / "repository")
    copy.git("switch", "-q", "-c", "change")
    copy.git("checkout", "-q", "poor", "--", ".")
    copy.perennial("run")
    copy.commit("A worse model")
    gate(copy, expect=1)
    return copy

import pytest
import repository


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> repository.Repository:
    """A repository whose pipeline has run, with the result committed. Tests work on copies and clones."""
    return repository.built(tmp_path_factory.mktemp("built") / "repository")

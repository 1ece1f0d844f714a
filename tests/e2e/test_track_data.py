"""Data outgrows Git: it moves under DVC into a folder or a bucket, and every clone finds it again."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from repository import Repository, write_table

BUCKET = "s3://bucket/some/path"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def here(built: Repository, tmp_path: Path) -> Repository:
    return built.copy(tmp_path / "here")


@pytest.fixture
def colleague(here: Repository, tmp_path: Path) -> Callable[[], Repository]:
    """Push what `here` has committed to a bare repository, and clone that."""
    origin = tmp_path / "origin.git"
    here.git("init", "-q", "--bare", "-b", "main", str(origin))
    here.git("remote", "add", "origin", str(origin))

    def clone() -> Repository:
        here.git("push", "-q", "origin", "main")
        here.git("clone", "-q", str(origin), str(tmp_path / "colleague"))
        other = Repository(tmp_path / "colleague")
        other.environment |= {name: value for name, value in here.environment.items() if name.startswith("AWS_")}
        return other

    return clone


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder for the bytes, such as a network drive."""
    return tmp_path / "a store"


class Bucket:
    """A server that speaks S3, with one empty bucket."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        lines = iter(self.process.stderr.readline, "")
        self.url = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        keys = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
        resource = boto3.resource("s3", endpoint_url=self.url, region_name=KEYS["AWS_DEFAULT_REGION"], **keys)
        self.bucket = resource.create_bucket(Bucket="bucket")

    def contents(self) -> set[bytes]:
        return {item.get()["Body"].read() for item in self.bucket.objects.filter(Prefix="some/path/")}

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    running = Bucket()
    yield running
    running.stop()


def raw(repository: Repository) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((repository.path / "data/raw").glob("*.csv"))}


def inside(folder: Path) -> set[bytes]:
    return {file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def track(here: Repository, remote: str) -> None:
    """Move the data and commit what the command staged, as its message says."""
    text = here.perennial("track-data", remote)
    command = re.search(r"git commit -m '([^']+)'", text)
    assert command
    here.git("commit", "-q", "-m", command[1])


def test_a_folder(here: Repository, colleague: Callable[[], Repository], store: Path) -> None:
    before = raw(here)
    text = here.perennial("track-data", str(store))
    assert "data/raw" in text
    assert str(store) in text
    assert here.git("ls-files", "data/raw") == ""
    staged = set(here.git("diff", "--cached", "--name-only", "--diff-filter=AM").splitlines())
    assert staged == {".dvc/config", "data/.gitignore", "data/raw.dvc"}
    assert raw(here) == before
    assert inside(store) >= set(before.values())
    here.perennial("verify")
    assert "Nothing changed" in here.perennial("run")

    here.git("commit", "-q", "-m", "Track the raw data with DVC")
    assert here.changed() == []
    other = colleague()
    assert raw(other) == {}
    other.perennial("verify")
    text = other.perennial("run")
    assert f"Pulled data/raw from {store}" in text
    assert raw(other) == before
    assert other.changed() == []


def test_a_bucket_by_environment(here: Repository, colleague: Callable[[], Repository], bucket: Bucket) -> None:
    here.environment |= KEYS | {"AWS_ENDPOINT_URL": bucket.url}
    track(here, BUCKET)
    assert bucket.contents() >= set(raw(here).values())
    assert "secret" not in here.read(".dvc/config")
    other = colleague()
    assert f"Pulled data/raw from {BUCKET}" in other.perennial("run")
    assert raw(other) == raw(here)
    assert other.changed() == []


def test_a_bucket_by_configuration(here: Repository, colleague: Callable[[], Repository], bucket: Bucket) -> None:
    """What was set for the remote stays, and reaches every clone; credentials come from the environment."""
    here.environment |= KEYS
    here.dvc("remote", "add", "data", BUCKET)
    here.dvc("remote", "modify", "data", "endpointurl", bucket.url)
    track(here, BUCKET)
    assert bucket.contents() >= set(raw(here).values())
    other = colleague()
    other.dvc("pull", "data/raw.dvc")
    assert raw(other) == raw(here)
    assert other.changed() == []


def test_again(here: Repository, store: Path, tmp_path: Path) -> None:
    """A second call does nothing, or moves what is new: other data, another place."""
    track(here, str(store))
    here.perennial("track-data", str(store))
    assert here.changed() == []

    write_table(here.path / "data/raw", range(5, 6))
    here.perennial("track-data", str(store))
    assert inside(store) >= set(raw(here).values())
    assert here.git("diff", "--cached", "--name-only").splitlines() == ["data/raw.dvc"]

    other_store = tmp_path / "other"
    here.perennial("track-data", str(other_store))
    assert inside(other_store) >= set(raw(here).values())
    assert str(other_store) in here.read(".dvc/config")
    assert str(store) not in here.read(".dvc/config")


def test_new_data(here: Repository, colleague: Callable[[], Repository], store: Path) -> None:
    """A new batch makes the lock stale, a run takes it in; after `git pull` a colleague's run has it too."""
    track(here, str(store))
    other = colleague()
    other.perennial("run")
    write_table(here.path / "data/raw", range(5, 6))
    assert "data/raw" in here.perennial("verify", expect=1)
    here.perennial("run")
    here.perennial("verify")
    here.perennial("track-data", str(store))
    here.commit("A new week")
    here.git("push", "-q", "origin", "main")

    other.git("pull", "-q")
    other.perennial("run")
    assert other.changed() == []  # not the old data that still lay there
    assert raw(other) == raw(here)


def test_a_pointer_that_the_lock_does_not_know(
    here: Repository, colleague: Callable[[], Repository], store: Path
) -> None:
    """Someone committed new data without a run: verify tells, even where the data itself is not."""
    track(here, str(store))
    write_table(here.path / "data/raw", range(5, 6))
    here.perennial("track-data", str(store))
    here.git("commit", "-q", "-m", "A new week, not run")
    text = colleague().perennial("verify", expect=1)
    assert "prepare" in text
    assert "data/raw" in text


def test_reproduce_pulls(here: Repository, colleague: Callable[[], Repository], store: Path) -> None:
    track(here, str(store))
    other = colleague()
    assert "same bytes" in other.perennial("reproduce")
    assert other.changed() == []


class TestTheRemoteIsGone:
    def check(self, text: str, *, url: str) -> None:
        assert "data/raw" in text  # what
        assert url in text  # from where
        assert "dvc remote modify data url" in text  # and how to go on

    def test_a_folder(self, here: Repository, colleague: Callable[[], Repository], store: Path, tmp_path: Path) -> None:
        track(here, str(store))
        other = colleague()
        store.rename(tmp_path / "moved")
        self.check(other.perennial("run", expect=1), url=str(store))
        assert other.changed() == []
        other.dvc("remote", "modify", "data", "url", str(tmp_path / "moved"))
        other.perennial("run")
        assert raw(other) == raw(here)

    def test_a_file_of_it(self, here: Repository, colleague: Callable[[], Repository], store: Path) -> None:
        track(here, str(store))
        other = colleague()
        content = raw(here)["3.csv"]
        next(file for file in store.rglob("*") if file.is_file() and file.read_bytes() == content).unlink()
        for _ in range(2):  # never with a part of the data
            self.check(other.perennial("run", expect=1), url=str(store))
        assert other.changed() == []

    def test_a_server(self, here: Repository, colleague: Callable[[], Repository], bucket: Bucket) -> None:
        here.environment |= KEYS | {"AWS_ENDPOINT_URL": bucket.url}
        track(here, BUCKET)
        other = colleague()
        bucket.stop()
        other.environment["AWS_MAX_ATTEMPTS"] = "1"  # it will not come back
        self.check(other.perennial("run", expect=1), url=BUCKET)

    def test_a_bucket(self, here: Repository, bucket: Bucket) -> None:
        here.environment |= KEYS | {"AWS_ENDPOINT_URL": bucket.url}
        text = here.perennial("track-data", "s3://no-such-bucket/path", expect=1)
        assert "s3://no-such-bucket/path" in text
        assert len(raw(here)) == 4
        track(here, BUCKET)  # and the right address mends it
        assert bucket.contents() >= set(raw(here).values())

    def test_the_credentials(self, here: Repository, colleague: Callable[[], Repository], bucket: Bucket) -> None:
        here.environment |= KEYS | {"AWS_ENDPOINT_URL": bucket.url}
        track(here, BUCKET)
        other = colleague()
        for name in KEYS:
            del other.environment[name]
        self.check(other.perennial("run", expect=1), url=BUCKET)


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ("ftp://host/path", ["ftp://", "s3", "gs", "azure", "ssh", "folder"]),
        ("https://host/path", ["https://"]),
        ("gs://bucket/path", ["dvc-gs", "pyproject.toml"]),
    ],
)
def test_a_place_that_is_not_supported(here: Repository, remote: str, words: list[str]) -> None:
    text = here.perennial("track-data", remote, expect=1)
    assert all(word in text for word in words)
    assert here.changed() == []


def test_a_store_that_cannot_be_written_to(here: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    text = here.perennial("track-data", str(tmp_path / "file"), expect=1)
    assert str(tmp_path / "file") in text
    assert len(raw(here)) == 4

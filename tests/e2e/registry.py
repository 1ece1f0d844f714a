"""A real registry on the loopback: Debian's docker-registry, with skopeo and buildah told that it speaks plain HTTP."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

PROGRAMS = ("docker-registry", "skopeo", "buildah")
needs_registry = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason=f"one of {', '.join(PROGRAMS)} is not installed"
)
CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/registry}}, delete: {{enabled: true}}}}
http: {{addr: {host}}}
"""


class Registry:
    """A context in which it listens. It may be stopped and started; what was pushed stays."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"
        self.folder, self.config = folder, folder / "registry.yml"
        self.config.write_text(CONFIG.format(folder=folder, host=self.host), encoding="utf-8")
        self.home = folder / "home"  # where its clients look for their settings
        settings = self.home / ".config/containers/registries.conf"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(f'[[registry]]\nlocation = "{self.host}"\ninsecure = true\n', encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        log = (self.folder / "registry.log").open("a")
        command = ["docker-registry", "serve", str(self.config)]
        self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        log.close()
        for _ in range(100):
            with suppress(urllib.error.URLError):
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=2).close()
                return
            time.sleep(0.1)
        raise AssertionError((self.folder / "registry.log").read_text())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def everything(self) -> dict[str, dict[str, str]]:
        """The digest of each tag of each image."""
        return {name: {tag: self.digest(f"{name}:{tag}") for tag in self.tags(name)} for name in self._names()}

    def _names(self) -> list[str]:
        return list(self._ask("_catalog")["repositories"])

    def tags(self, name: str) -> list[str]:
        return sorted(self._ask(f"{name}/tags/list")["tags"] or [])

    def digest(self, reference: str) -> str:
        return str(self.inspect(reference)["Digest"])

    def inspect(self, reference: str) -> dict[str, Any]:
        """What is there under `name:tag` or `name@digest`, by skopeo."""
        return dict(json.loads(self.skopeo("inspect", f"docker://{self.host}/{reference}")))

    def skopeo(self, *arguments: str, expect: int = 0) -> str:
        told = {"HOME": str(self.home), "PATH": "/usr/bin:/bin:/usr/local/bin"}
        done = subprocess.run(["skopeo", *arguments], env=told, capture_output=True, text=True)
        assert done.returncode == expect, done.stderr
        return done.stdout if expect == 0 else done.stderr

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.host}/v2/{path}", timeout=10) as answer:
            return json.load(answer)

    def blob(self, digest: str) -> Path:
        """The file in which it keeps a blob."""
        kind, _, name = digest.partition(":")
        return self.folder / f"registry/docker/registry/v2/blobs/{kind}/{name[:2]}/{name}/data"

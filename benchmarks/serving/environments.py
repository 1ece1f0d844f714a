"""A virtual environment for each contender, kept in the user's cache under the digest of what is in it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perennial-bench"
# Of these a server's speed depends; whichever of them an environment has is told.
TOLD = (
    "flask", "gunicorn", "gunicorn_h1c", "onnxruntime", "orjson", "pydantic", "numpy", "pandas", "scikit-learn",
    "mlflow", "bentoml", "fastapi", "starlette", "uvicorn", "uvloop",
)  # fmt: skip
LIST = "import json, importlib.metadata as m; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"


@dataclass(frozen=True)
class Environment:
    folder: Path
    facts: dict[str, Any]  # installed_mb, pruned_mb, versions

    @property
    def bin(self) -> Path:
        return self.folder / "bin"


def make(requirements: str, prune: str = "") -> Environment:
    """The environment of these requirements, compiled; `prune` is shell run in its site-packages before."""
    digest = hashlib.sha256("\0".join([requirements, prune, sys.version]).encode()).hexdigest()[:16]
    folder = CACHE / digest
    if not (folder / "facts.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "requirements.txt").write_text(requirements, "utf-8")
        _run(_uv(), "venv", "--quiet", "--python", sys.executable, folder / "venv")
        python = folder / "venv/bin/python"
        # Copied, not linked: files shared between environments would be counted as shared memory.
        install = ("pip", "install", "--quiet", "--link-mode", "copy", "--python", python)
        _run(_uv(), *install, "-r", folder / "requirements.txt")
        (packages,) = (folder / "venv/lib").glob("python*/site-packages")
        facts: dict[str, Any] = {"installed_mb": _size(packages)}
        listed = json.loads(subprocess.check_output([python, "-c", LIST], text=True))
        facts["versions"] = {name: listed[name] for name in TOLD if name in listed}
        if prune:
            subprocess.run(["sh", "-ec", prune], cwd=packages, check=True)
            facts["pruned_mb"] = _size(packages)
        # Some packages carry files for other versions of Python, which do not compile.
        subprocess.run([python, "-m", "compileall", "-q", "-j", "0", packages], capture_output=True)
        (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
    return Environment(folder / "venv", json.loads((folder / "facts.json").read_text("utf-8")))


def pruning(dockerfile: Path) -> str:
    """What the image's build removes from site-packages, as shell."""
    text = re.sub(r"\n\s*#[^\n]*", "", dockerfile.read_text("utf-8")).replace("\\\n", "")
    found = re.search(r"cd \S*site-packages\s*&&(.*)", text)
    if not found:
        raise SystemExit(f"{dockerfile} no longer prunes site-packages: mend pruning() in {__file__}")
    return found[1].strip()


def pinned(requirements: str, *names: str) -> str:
    """The versions these packages have in a lock file, as requirements."""
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", requirements, re.MULTILINE))
    return "\n".join(f"{name}=={pins[name]}" for name in names)


def _uv() -> str:
    found = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if not found:
        raise SystemExit("uv is not there. Fix: pip install uv")
    return found


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")


def _size(folder: Path) -> float:
    """Megabytes (2**20 bytes) of all files but compiled Python."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return round(sum(path.stat().st_size for path in files) / 2**20, 1)

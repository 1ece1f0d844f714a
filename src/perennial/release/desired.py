"""deploy/ says which image runs where. Reading and writing that, and nothing else of it."""

import re
from dataclasses import dataclass
from pathlib import Path

from perennial.errors import UserError
from perennial.git import found
from perennial.release.version import Version

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NOTHING = "sha256:" + "0" * 64  # nothing is deployed yet
ENVIRONMENTS = ("staging", "production")  # in the order a version goes through them
COMPOSE, TRACKS = "deploy/compose.env", {"staging": "CHALLENGER", "production": "CHAMPION"}
KEYS = {"image": "newName", "digest": "digest", "version": "perennial.dev/version", "commit": "perennial.dev/commit"}


@dataclass(frozen=True)
class Deployed:
    """One environment's image, version and commit."""

    image: str  # the registry's name of it, without tag or digest
    digest: str
    version: str
    commit: str

    @property
    def reference(self) -> str:
        return f"{self.image}@{self.digest}"

    @property
    def number(self) -> Version | None:
        return Version.of(self.version)


def place(environment: str) -> str:
    """The one file that names an environment's digest.

    Raises:
        UserError: for an environment that is not kept here.
    """
    path = f"deploy/kubernetes/overlays/{environment}/kustomization.yaml"
    if environment not in ENVIRONMENTS or not Path(path).exists():
        raise UserError(f"{environment}: no such environment", f"one of {', '.join(ENVIRONMENTS)}")
    return path


def text_at(environment: str, branch: str = "") -> str:
    """The file as a branch has it, or as it is here."""
    path = place(environment)
    if not branch:
        return Path(path).read_text(encoding="utf-8")
    text = found("show", f"{branch}:{path}")
    if text is None:
        raise UserError(f"{path} is not in {branch}", "merge it there first")
    return text + "\n"


def read(environment: str, branch: str = "") -> Deployed | None:
    """What is to run there; None when nothing is.

    Raises:
        UserError: when the file names no image, or more than one.
    """
    text = text_at(environment, branch)
    values = {name: _line(key, text, environment)[2].strip("'\"") for name, key in KEYS.items()}
    if values["digest"] == NOTHING:
        return None
    if not DIGEST.fullmatch(values["digest"]):
        raise UserError(f"{place(environment)}: {values['digest']!r} is no digest", "sha256: and 64 hexadecimal digits")
    return Deployed(**values)


def write(environment: str, wanted: Deployed, branch: str = "") -> bytes:
    """The file with these four values in place of what it says; all else as it was."""
    text = text_at(environment, branch)
    for name, key in KEYS.items():
        line = _line(key, text, environment)
        text = text[: line.start()] + f"{line[1]}{_quoted(getattr(wanted, name))}" + text[line.end() :]
    return text.encode()


def files(environment: str, wanted: Deployed, branch: str = "") -> dict[str, bytes]:
    """Every file that changes with an environment: its overlay, and on one machine the track that stands for it."""
    text = found("show", f"{branch}:{COMPOSE}") if branch else Path(COMPOSE).read_text(encoding="utf-8")
    track = TRACKS[environment]
    values = {"IMAGE": wanted.image, f"{track}_DIGEST": wanted.digest}
    values |= {f"{track}_VERSION": wanted.version, f"{track}_COMMIT": wanted.commit}
    for key, value in values.items():
        text = re.sub(rf"(?m)^{key}=.*$", f"{key}={value}", text or "")
    changed = {COMPOSE: (text.rstrip("\n") + "\n").encode()} if text else {}
    return {place(environment): write(environment, wanted, branch)} | changed


def _quoted(value: str) -> str:
    """As YAML needs it: a commit of digits alone would be a number."""
    return f"'{value}'" if re.fullmatch(r"[\d.e+_]+", value) else value


def _line(key: str, text: str, environment: str) -> re.Match[str]:
    """The one line `key: value`, in parts: what stands before the value, and the value; a comment after it goes."""
    lines = list(re.finditer(rf"(?m)^(\s*{re.escape(key)}:\s*)([^\s#]+)[^\n]*$", text))
    if len(lines) != 1:
        raise UserError(f"{place(environment)}: {len(lines)} lines of {key}: instead of one", "git restore the file")
    return lines[0]

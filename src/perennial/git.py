"""Git, asked by its command line."""

import json
import subprocess
from typing import Any

from perennial.errors import UserError
from perennial.files import parse_yaml


def git(*arguments: str) -> str:
    """What the command prints, without the last line's end.

    Raises:
        UserError: with git's own words.
    """
    text = _run(*arguments)
    if text.returncode:
        said = text.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(f"git {arguments[0]}: {said[-1]}", "run `git status` here and mend what it says")
    return text.stdout.rstrip("\n")


def found(*arguments: str) -> str | None:
    """The same, or None where git has no answer: an unknown commit, a file that is not in it, no repository."""
    text = _run(*arguments)
    return None if text.returncode else text.stdout.rstrip("\n")


def yaml_at(commit: str, path: str) -> Any:
    """A YAML file as the commit has it; None where it has none that can be read."""
    from ruamel.yaml.error import YAMLError

    text = found("show", f"{commit}:{path}")
    try:
        return parse_yaml(text) if text else None
    except YAMLError:
        return None


def json_at(commit: str, path: str) -> Any:
    """A JSON file as the commit has it; None where it has none that can be read."""
    text = found("show", f"{commit}:{path}")
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError:
        return None


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False)

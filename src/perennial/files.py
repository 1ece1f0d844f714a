"""Files that are whole or absent, and JSON that is the same for the same content."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """A path to write to, moved to its name only when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def rounded(value: Any, decimals: int | None) -> Any:
    """Floats rounded all the way down, for what lies behind differs between machines. Not a number becomes null."""
    if isinstance(value, dict):
        return {key: rounded(item, decimals) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, decimals) for item in value]
    if isinstance(value, float):
        if not abs(value) < float("inf"):
            return None
        return value if decimals is None else round(value, decimals) + 0.0
    return value


def write_json(path: Path | str, value: Any, sort_keys: bool = True, decimals: int | None = 6) -> None:
    with atomic(path) as unfinished:
        text = json.dumps(rounded(value, decimals), indent=2, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
        unfinished.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def parse_yaml(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def sha256(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

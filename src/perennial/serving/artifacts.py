"""Model and profile as they were deployed: read and verified once, by the process that forks the workers.

So all workers serve one version, a worker that is replaced later gets the same one, and a reload that
finds a broken model keeps the old one.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from perennial.contract import Contract
from perennial.errors import UserError


@dataclass(frozen=True)
class Artifacts:
    profile: dict[str, Any]
    contract: Contract
    model: bytes

    @property
    def version(self) -> str:
        """The head of the model file's SHA-256."""
        return str(self.profile["model"]["sha256"][:12])


NEEDED = (
    "inputs",
    "example",
    "features",
    "answers",
    "promised",
    "value",
    "classes",
    "threshold",
    "trained_on",
    "contract_digest",
    "versions",
)
current: Artifacts | None = None  # what the master read; workers inherit it


def read(folder: Path, expected_sha256: str = "") -> Artifacts:
    """model.onnx and profile.json of one training run.

    Raises:
        UserError: when one is missing or broken, they do not belong together, or are not the expected model.
    """
    path, model = folder / "profile.json", _read(folder / "model.onnx")
    try:
        profile = json.loads(_read(path))
        contract = Contract.model_validate(profile["contract"])
        digests = {"profile.json": profile["model"]["sha256"], "MODEL_SHA256": expected_sha256}
        absent = [key for key in NEEDED if key not in profile]
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        problem = str(error).splitlines()[0]
        raise UserError(f"{path} is not the profile of a model: {problem}", "run `make run` again") from None
    if absent:
        raise UserError(f"{path} has no {', '.join(absent)}", "train again with `make run`: it is of another version")
    digest = hashlib.sha256(model).hexdigest()
    for source, wanted in digests.items():
        if wanted and digest != wanted:
            problem = f"{folder}/model.onnx has the SHA-256 {digest[:16]}…, {source} wants {wanted[:16]}…"
            raise UserError(problem, "deploy model and profile of one training run (`make run` writes both)")
    return Artifacts(profile, contract, model)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fix = "run `make run`, or set MODEL_DIR to the folder of the model"
        raise UserError(f"{path}: {error.strerror}", fix) from None

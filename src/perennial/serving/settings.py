"""What an operator may set, by environment variables; read once at start."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perennial.errors import UserError


class Settings(BaseModel):
    """Each field is an environment variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_dir: Path = Path("models")
    metrics_file: Path = Path("reports/metrics.json")  # told by /version
    lock_file: Path = Path("dvc.lock")
    model_sha256: str = ""  # refuse any other model; the image sets it
    model_name: str = Field("model", pattern=r"^[A-Za-z0-9_.-]+$")  # in /v1/models/<name>:predict
    git_commit: str = ""
    image_digest: str = ""
    api_key: str = ""  # asked for everywhere but by probes, when set
    max_bytes: int = Field(4_000_000, ge=1_000)
    max_rows: int = Field(1_000, ge=1, le=100_000)
    log_dir: Path = Path("logs")
    log_full: Literal["answer", "refuse"] = "answer"  # when a prediction cannot be logged
    segment_bytes: int = Field(16_000_000, ge=1_000)
    segment_seconds: float = Field(60, gt=0)
    prediction_store: str = ""  # where closed segments go: any fsspec URL; empty for <log_dir>/store
    aip_predict_route: str = ""  # Vertex AI names its own routes
    aip_health_route: str = ""

    @property
    def store(self) -> str:
        return self.prediction_store or str((self.log_dir / "store").absolute())


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises UserError naming each variable that is wrong, and what is allowed."""
    given = {name: environment[name.upper()] for name in Settings.model_fields if environment.get(name.upper())}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        lines = [f"{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors()]
        raise UserError("\n".join(lines), "set these environment variables right, or leave them out") from None

"""Requests and answers, typed by the contract."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from perennial.contract import Boolean, Category, Contract, Number, Target
from perennial.serving import ids

FLOAT32 = 3.4028234e38  # the model's numbers hold no more
WORD, TEXT = 200, 10_000  # longest category and text, in characters


def requests(contract: Contract, max_rows: int) -> TypeAdapter[Any]:
    """`{"instances": [row, …]}`; what is not required may be null or left out of a row."""
    row = _record("Row", {name: _field(spec) for name, spec in contract.features.items()})
    return TypeAdapter(_record("PredictRequest", {"instances": _several(row, max_rows)}))


def feedback(contract: Contract, max_rows: int) -> TypeAdapter[Any]:
    """`{"labels": [{"prediction_id", "label"}, …]}` with labels the target can have."""
    target = contract.target
    label: Any = Literal[target.values] if target.values else _number(target)
    prediction_id = Annotated[str, Field(pattern=ids.PATTERN)]
    entry = _record("Label", {"prediction_id": prediction_id, "label": label})
    return TypeAdapter(_record("FeedbackRequest", {"labels": _several(entry, max_rows)}))


def _record(name: str, fields: dict[str, Any]) -> Any:
    make: Any = TypedDict  # made from data, which type checkers do not follow
    return with_config(ConfigDict(extra="forbid", strict=True))(make(name, fields))


def _several(kind: Any, most: int) -> Any:
    return Annotated[list[kind], Field(min_length=1, max_length=most)]


def _number(spec: Number | Target) -> Any:
    low, high = (-FLOAT32 if spec.min is None else spec.min), (FLOAT32 if spec.max is None else spec.max)
    return Annotated[float, Field(ge=low, le=high, allow_inf_nan=False)]


def _field(spec: Any) -> Any:
    if isinstance(spec, Number):
        kind: Any = _number(spec)
    elif isinstance(spec, Boolean):
        kind = bool
    elif isinstance(spec, Category):
        free = Annotated[str, Field(max_length=WORD, examples=list(spec.values))]
        kind = Literal[spec.values] if spec.unseen == "refuse" else free
    else:
        kind = Annotated[str, Field(max_length=TEXT)]
    return kind if spec.required else NotRequired[kind | None]


def problems(errors: Sequence[Any], most: int = 20) -> list[dict[str, str]]:
    """Pydantic's errors as JSON path and message, never with the input."""
    return [{"path": _path(error["loc"]), "message": error["msg"]} for error in errors[:most]]


def _path(location: Sequence[Any]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)

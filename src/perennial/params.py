"""`params.yaml` as one frozen, typed object, with errors that name the line."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from perennial.contract import Contract, Section, problem
from perennial.errors import UserError

# True where more is better; the metrics of each task, the first one leads.
METRICS: dict[str, dict[str, bool]] = {
    "binary": {
        "roc_auc": True, "average_precision": True, "log_loss": False, "brier": False,
        "calibration_error": False, "accuracy": True, "precision": True, "recall": True, "f1": True,
    },
    "multiclass": {"accuracy": True, "f1_macro": True, "roc_auc_macro": True, "log_loss": False},
    "regression": {"mae": False, "rmse": False, "r2": True},
}  # fmt: skip


class Split(Section):
    holdout: float = Field(gt=0, lt=1)  # share of rows kept for the evaluation
    # Older rows neither train nor judge. A time as the data writes it, which YAML may have read as a date or number.
    since: Annotated[str | None, BeforeValidator(lambda time: None if time is None else str(time))] = None


class Words(Section):
    """How a text feature becomes numbers (TF-IDF)."""

    max_features: int = Field(200, ge=1)
    ngrams: int = Field(1, ge=1, le=3)


class Train(Section):
    estimator: str
    params: dict[str, Any] = Field(default_factory=dict)
    calibration: Literal["none", "sigmoid"] = "none"
    text: Words = Words()


class Value(Section):
    """What one prediction is worth, in the currency of your choice (binary targets)."""

    currency: str = ""
    true_positive: float
    false_positive: float
    true_negative: float = 0
    false_negative: float = 0


class Evaluate(Section):
    bootstrap: int = Field(ge=100, le=10_000)  # resamples behind each interval


class Slices(Section):
    """Bounds on the leading metric within each slice and sensitive group."""

    floor: float | None = None  # the worst figure of a slice
    margin: float = Field(0.02, ge=0)  # the largest fall of a slice; of an error: as a share of the champion's
    rows: int = Field(100, ge=20)  # slices with fewer rows are not judged


class Budget(Section):
    """A cost may grow to `ratio` times the champion's, and to any figure up to `free`."""

    ratio: float = Field(gt=1)
    free: float = Field(0, ge=0)


class Gate(Section):
    """What a model must hold to be merged; null switches a rule off."""

    floors: dict[str, float]  # the worst value of a metric that may be merged
    margin: float | None = Field(0.002, ge=0)  # a fall of the leading metric that is let pass even when it is certain
    baseline: bool = True  # better than a dummy
    slices: Slices | None = Slices()
    fairness: float | None = Field(0.2, gt=0)  # the largest gap between sensitive groups
    calibration: float | None = Field(0.05, gt=0)  # the largest calibration error
    size: Budget | None = Budget(ratio=2, free=10)  # MB of the model
    latency: Budget | None = Budget(ratio=2, free=1)  # ms for one row
    reproduced: Literal["bytes", "metrics"] | None = "metrics"  # what a second run must give again


class Watch(Section):
    """How production is looked at: three windows of so many days, the newest first."""

    days: float = Field(7, gt=0)
    rows: int = Field(500, ge=100)  # fewer in a window say nothing
    importance: float = Field(0.1, ge=0, le=1)  # share of the model's importance that must have drifted to retrain


class Params(Section):
    """Every section is written out, because DVC compares them key by key; `value: null` means none."""

    seed: int = Field(ge=0, lt=2**32)
    data: Contract
    split: Split
    train: Train
    value: Value | None
    evaluate: Evaluate
    gate: Gate
    watch: Watch = Watch()

    @model_validator(mode="after")
    def fits_the_task(self) -> "Params":
        if self.split.since and not self.data.time:
            raise problem("needs data.time: without one no row is older than another", "split", "since")
        if self.value and self.data.task != "binary":
            raise problem(f"a value matrix needs a binary target, this one is {self.data.task}", "value")
        known = [*METRICS[self.data.task], *(["value_per_1000"] if self.value else [])]
        for name in self.gate.floors:
            if name not in known:
                raise problem(
                    f"no metric of a {self.data.task} target. Allowed: {', '.join(known)}", "gate", "floors", name
                )
        return self


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check the whole file.

    Raises:
        UserError: naming every wrong key with its line, and what is allowed there.
    """
    tree = read_yaml(Path(path))
    try:
        return Params.model_validate(_plain(tree))
    except ValidationError as error:
        found = [_explain(entry) for entry in error.errors() if entry["type"] != "too_short" or not entry["input"]]
        lines = [f"{path}:{_line(tree, keys)}: {'.'.join(keys)}: {text}" for keys, text in found]
        raise UserError("\n".join(lines), f"edit {path}; README.md explains each key") from None


def read_yaml(path: Path) -> Any:
    """YAML 1.2, so that a bare `no` is a word; a repeated key is an error."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        tree = YAML(typ="rt").load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "run in the repository's root, where params.yaml is") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not valid YAML: {error.problem}", "mend that line") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a text file in UTF-8: {str(error).splitlines()[0]}", "save it as UTF-8") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected sections such as data: and train:, found {type(tree).__name__}")
    return tree


def _plain(node: Any) -> Any:
    """Ruamel's annotated types as Python's own."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _explain(error: Any) -> tuple[list[str], str]:
    """The keys down to the fault and what is wrong with it, without pydantic's own words for tags."""
    keys = [str(part) for part in error["loc"]]
    if keys[:2] == ["data", "features"] and len(keys) > 3:
        del keys[3]  # the feature's type, which pydantic adds to the path
    context = error.get("ctx", {})
    if error["type"] == "contract":
        return [*keys, *context["keys"]], context["text"]
    if error["type"].startswith("union_tag"):
        return [
            *keys,
            "type",
        ], f"unknown type. Allowed: {context.get('expected_tags', 'number, boolean, category, text')}"
    given = "" if error["type"] == "missing" else f" (found {error['input']!r})"
    return keys, f"{error['msg']}{given}"


def _line(tree: Any, keys: list[str]) -> int:
    """The line of the deepest of these keys that the file has, from ruamel's own notes (`lc`)."""
    line: int = 0
    node: Any = tree
    for key in keys:
        if isinstance(node, list):
            place: Any = int(key) if key.isdigit() and int(key) < len(node) else None
            place = next((index for index, item in enumerate(node) if str(item) == key), place)
            where = node.lc.item if place is not None else None  # type: ignore[attr-defined]
        else:
            place = next((name for name in node if str(name) == key), None) if isinstance(node, dict) else None
            where = node.lc.key if place is not None else None
        if where is not None:
            line, node = where(place)[0], node[place]
    return int(line) + 1

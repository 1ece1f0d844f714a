"""What the data is: `params.yaml: data:`, read once into frozen objects.

Everything else asks these objects for the columns; no other file names one.
"""

import hashlib
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def problem(text: str, *keys: str) -> PydanticCustomError:
    """An error at these keys, one below the other, of the section under validation (or at the section itself)."""
    return PydanticCustomError("contract", "{text}", {"text": text, "keys": list(keys)})


def suggest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class Section(BaseModel):
    """A frozen part of params.yaml that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def known_keys(cls, given: Any) -> Any:
        allowed = list(cls.model_fields)
        unknown = [str(key) for key in given if key not in allowed] if isinstance(given, dict) else []
        if unknown:
            others = f"; unknown too: {', '.join(unknown[1:])}" if unknown[1:] else ""
            text = f"unknown key{suggest(unknown[0], allowed)} (allowed: {', '.join(allowed)}){others}"
            raise problem(text, unknown[0])
        return given


def _as_text(value: Any) -> str:
    """Category values are text, as in CSV; 0 and "0" are the same value."""
    if isinstance(value, bool):
        raise problem("is true/false: put it in quotes, or make the feature a boolean")
    if value is None or isinstance(value, (list, dict)):
        raise problem("is no text or number")
    return str(value)


Values = Annotated[tuple[Annotated[str, BeforeValidator(_as_text)], ...], Field(min_length=1)]


def _refuse_repeats(values: tuple[str, ...]) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise problem(f"lists {', '.join(repeated)} more than once", "values")


class Ranged(Section):
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def possible(self) -> "Ranged":
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise problem(f"no number lies between min {self.min:g} and max {self.max:g}", "min")
        return self


class Number(Ranged):
    type: Literal["number"]
    required: bool = False


class Boolean(Section):
    type: Literal["boolean"]
    required: bool = False


class Category(Section):
    type: Literal["category"]
    values: Values
    unseen: Literal["score", "refuse"] = "score"  # what to do with a value not listed
    required: bool = False

    @model_validator(mode="after")
    def distinct(self) -> "Category":
        _refuse_repeats(self.values)
        return self


class Text(Section):
    type: Literal["text"]
    required: bool = False


Feature = Annotated[Number | Boolean | Category | Text, Field(discriminator="type")]


class Target(Ranged):
    """`values` (and `positive` when there are two) for classes, `type: number` for a regression."""

    name: str
    type: Literal["class", "number"] = "class"
    values: Values | None = None
    positive: Annotated[str, BeforeValidator(_as_text)] | None = None

    @model_validator(mode="after")
    def consistent(self) -> "Target":
        if self.type == "number":
            if self.values or self.positive:
                raise problem("a target of type number has neither values nor positive", "type")
            return self
        if self.min is not None or self.max is not None:
            raise problem("min and max are for a target of type number", "min" if self.min is not None else "max")
        if not self.values:
            raise problem("needs values: the list of its classes (or type: number for a regression)")
        _refuse_repeats(self.values)
        if len(self.values) < 2:
            raise problem("needs at least two classes", "values")
        if (len(self.values) == 2) != (self.positive is not None):
            raise problem("positive: names the class that is predicted, when there are exactly two", "positive")
        if self.positive is not None and self.positive not in self.values:
            raise problem(f"is not one of the values: {', '.join(self.values)}", "positive")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the model's order, positive last; empty for a regression."""
        return tuple(sorted(self.values or (), key=lambda value: value == self.positive))


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Time(Section):
    name: str
    format: str = "ISO8601"  # or a strptime pattern such as "%d/%m/%Y"


class Csv(Section):
    """How the CSV files are written, where it is not the usual way."""

    delimiter: str = Field(",", min_length=1, max_length=1)
    quote: str = Field('"', max_length=1)  # "" when quotes are ordinary characters
    encoding: str = "utf-8"
    columns: tuple[str, ...] | None = None  # for files without a header


class Contract(Section):
    raw: str
    csv: Csv = Csv()
    target: Target
    id: str | None = None
    time: Annotated[Time, BeforeValidator(_named)] | None = None
    features: dict[str, Feature] = Field(min_length=1)
    sensitive: tuple[str, ...] = ()
    tolerance: float = Field(0.01, ge=0, lt=1)  # share of a file's rows that may break the contract
    allow_leak: tuple[str, ...] = ()

    @model_validator(mode="after")
    def roles(self) -> "Contract":
        """A column is one thing only: the target, the id and the time are no features."""
        taken = {self.target.name: "target"}
        for role, name in (("id", self.id), ("time", self.time and self.time.name)):
            if name in taken:
                raise problem(f"{name!r} is already the {taken[name]}", role)
            if name:
                taken[name] = role
        for part, names in (("features", self.features), ("sensitive", self.sensitive)):
            for name in names:
                if name in taken:
                    raise problem(f"is the {taken[name]}, so it cannot be listed here", part, name)
        for name in self.allow_leak:
            if name not in self.features:
                raise problem(f"{name!r} is no feature{suggest(name, list(self.features))}", "allow_leak")
        return self

    @property
    def task(self) -> Literal["binary", "multiclass", "regression"]:
        if self.target.type == "number":
            return "regression"
        return "binary" if self.target.positive else "multiclass"

    def values_of(self, name: str) -> tuple[str, ...]:
        """What the contract lists for a category or a class target; empty for all else."""
        spec = self.target if name == self.target.name else self.features.get(name)
        return getattr(spec, "values", None) or ()

    def named(self, *types: str) -> tuple[str, ...]:
        """The features of these types, in the contract's order."""
        return tuple(name for name, feature in self.features.items() if feature.type in types)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column the contract speaks of, each once."""
        return tuple(dict.fromkeys((*self.keys, *self.features, *self.sensitive, self.target.name)))

    @property
    def keys(self) -> tuple[str, ...]:
        """The id and the time, as far as there are any."""
        return tuple(name for name in (self.id, self.time and self.time.name) if name)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that make a row unique: the id, within its time; empty without an id."""
        return self.keys if self.id else ()

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

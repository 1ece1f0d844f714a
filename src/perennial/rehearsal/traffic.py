"""Customers of the simulated service: what they send, what becomes of them, and how good the answers were."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perennial.contract import Boolean, Contract, Number
from perennial.errors import UserError
from perennial.simulate import Columns, Drift, simulate_month, write_month

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Day:
    """One day's customers: requests, labels, and the true probability behind each label."""

    rows: list[dict[str, Any]]
    labels: list[str]
    truth: Floats


class Customers:
    """A world that changes on one day; the same seed gives the same customers."""

    def __init__(self, contract: Contract, daily: int, onset: datetime.datetime, seed: int) -> None:
        made = set(simulate_month("2026-01", 1, seed).columns)
        if not set(contract.columns) <= made:
            lacking = ", ".join(sorted(set(contract.columns) - made))
            raise UserError(f"the loop plays with the built-in data, which has no {lacking}", "run it before you adopt")
        self._contract, self._daily, self._onset, self._seed = contract, daily, onset, seed
        self._months: dict[tuple[str, bool], Any] = {}

    @property
    def positive(self) -> str:
        return self._contract.target.classes[-1]

    def of(self, day: datetime.datetime) -> Day:
        columns, truth = self._columns(day)
        cells = zip(*(columns[name] for name in self._contract.features), strict=True)
        rows = [
            {name: self._value(name, cell) for name, cell in zip(self._contract.features, row, strict=True)}
            for row in cells
        ]
        return Day(rows, [str(label) for label in columns[self._contract.target.name]], truth)

    def frame(self, days: list[datetime.datetime], folder: Path) -> "pd.DataFrame":
        """All of these days' customers with their true labels, as the pipeline reads them."""
        import pandas as pd

        from perennial.pipeline.read import read_batch
        from perennial.simulate import Month

        frames = []
        for day in days:
            columns, truth = self._columns(day)
            write_month(Month(columns, truth), folder / "day.csv")
            frames.append(read_batch(folder / "day.csv", self._contract).frame)
        return pd.concat(frames, ignore_index=True)

    def _columns(self, day: datetime.datetime) -> tuple[Columns, Floats]:
        month, changed = f"{day:%Y-%m}", day >= self._onset
        if (month, changed) not in self._months:
            drift: Drift = "concept" if changed else "none"
            self._months[month, changed] = simulate_month(month, 31 * self._daily, self._seed + 1, drift)
        found, part = self._months[month, changed], slice((day.day - 1) * self._daily, day.day * self._daily)
        return {name: cells[part] for name, cells in found.columns.items()}, found.probability[part]

    def _value(self, name: str, cell: Any) -> Any:
        """As a client would send it."""
        spec = self._contract.features[name]
        if cell == "":
            return None
        if isinstance(spec, Number):
            return float(cell)
        return cell == "true" if isinstance(spec, Boolean) else str(cell)

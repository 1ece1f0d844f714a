"""Production of the small table: what its service would have logged of weeks of customers, and of their labels."""

import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repository import Repository
from traffic import DAY, UNTIL, Log, label, prediction

from perennial.serving import artifacts
from perennial.serving.predictor import Predictor

Row = dict[str, Any]
World = Callable[[Row, random.Random], Row]  # what a row of the old world is now; its "answer" too


def same(row: Row, draw: random.Random) -> Row:
    return row | {"answer": truth(row, draw)}


def shifted(row: Row, draw: random.Random) -> Row:
    """Other customers; what they mean is what it was."""
    return same(row | {"distance": row["distance"] + 1.5}, draw)


def nudged(row: Row, draw: random.Random) -> Row:
    """The same, by less: what was known before still helps."""
    return same(row | {"distance": row["distance"] + 0.5}, draw)


def turned(row: Row, draw: random.Random) -> Row:
    """The same customers, who mean the contrary."""
    return row | {"answer": "yes" if truth(row, draw) == "no" else "no"}


def gone(row: Row, draw: random.Random) -> Row:
    """Half of a feature is missing: something broke."""
    return same(row, draw) | {"distance": None if draw.random() < 0.5 else row["distance"]}


def unlabelled(row: Row, draw: random.Random) -> Row:
    return shifted(row, draw) | {"answer": None}


def truth(row: Row, draw: random.Random) -> str:
    """As repository.write_table has it."""
    score = row["amount"] / 50 - 1 + row["distance"] + (row["colour"] == "red") - row["urgent"] + draw.gauss(0, 0.7)
    return "yes" if score > 0 else "no"


def customer(draw: random.Random) -> Row:
    return {
        "amount": round(draw.uniform(0, 100), 1), "distance": round(draw.gauss(0, 1), 3),
        "colour": draw.choice(["red", "green", "blue"]), "urgent": draw.random() < 0.4,
        "remark": draw.choice(["on time", "too late", "again, please"]),
    }  # fmt: skip


class Production:
    """A store that the model of a repository fills, seven days at a time."""

    def __init__(self, here: Repository, store: Path, rows: int = 700) -> None:
        self.log, self.rows = Log(store), rows
        self._predictor = Predictor(artifacts.read(here.path / "models", ""))

    def weeks(self, *worlds: World, until: datetime.datetime = UNTIL) -> "Production":
        """The newest first; labels come a day later, or an hour before `until`."""
        for back, world in enumerate(worlds):
            for day in range(7):
                self._day(world, until - (7 * back + day + 1) * DAY, until)
        return self

    def _day(self, world: World, since: datetime.datetime, until: datetime.datetime) -> None:
        draw = random.Random(f"{until - since}")
        rows = [world(customer(draw), draw) for _ in range(self.rows // 7)]
        sent = [{name: cell for name, cell in row.items() if name != "answer"} for row in rows]
        about = {"model_version": self._predictor.version}
        first, predictions, labels = since.timestamp() * 1000, [], []
        for place, (row, answer) in enumerate(zip(rows, self._predictor.predict(sent), strict=True)):
            at = since + draw.uniform(0.01, 0.99) * DAY
            predictions.append(prediction(int(first) + place, at, features=sent[place], output=answer, **about))
            if row["answer"] is not None:
                told = min(at + DAY, until - DAY / 24)
                labels.append(label(int(first) + place, row["answer"], told))
        self.log.predictions(*predictions)
        if labels:
            self.log.feedback(*labels)

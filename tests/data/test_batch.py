"""Labelled rows of production become a batch: what the pipeline reads back is what was logged, and nothing else."""

import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from traffic import DAY, NOON, SINCE, UNTIL, Log, label, prediction, prediction_id

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.files import read_json, sha256, write_json
from perennial.monitoring import batch
from perennial.monitoring.window import read
from perennial.pipeline.read import read_batch

Facts = dict[str, Any]
TOLD = {"since": SINCE.isoformat(), "until": UNTIL.isoformat(), "model_versions": ["one"]}
FILE = "data/raw/production-20260309-0000.csv"
USUAL: Facts = {"id": "parcel", "time": {"name": "day", "format": "%Y-%m-%d"}, "sensitive": ["district"]}
FEATURES = {"mass": 2.5, "width": 4.0, "sealed": True, "colour": "red", "remark": "fine"}
WRITTEN: dict[str, Facts] = {
    "as usual": {},
    "delimiter": {"delimiter": ";"},
    "tabs": {"delimiter": "\t"},
    "other quotes": {"quote": "'"},
    "no quotes": {"quote": ""},
    "no quotes, delimiter": {"quote": "", "delimiter": ";"},
    "no header": {"columns": ["grade", "extra", "parcel", "day", *FEATURES, "district"]},
    "encoding": {"encoding": "latin-1"},
    "two bytes": {"encoding": "utf-16"},
}
NASTY = ";,|\"'\t\r\n \\\u2028\x85\x00ü🟣#@a1"


@pytest.fixture(scope="module")
def contract(make_params: Any) -> Callable[..., Contract]:
    return lambda task="binary", **data: make_params(task, **USUAL | data).data


class Tree:
    """A folder with a contract's raw data, and a log."""

    def __init__(self, root: Path) -> None:
        self.root, self.log, self._rows = root, Log(root / "store"), 0
        (root / "data/raw").mkdir(parents=True)

    def logged(self, *rows: Facts, answer: Any = "bad", at: datetime.datetime = NOON) -> None:
        """Rows that were predicted and, a day later, labelled."""
        numbers = range(self._rows, self._rows + len(rows))
        self._rows += len(rows)
        about = list(zip(numbers, rows, strict=True))
        self.log.predictions(*[prediction(n, at, features=FEATURES | row) for n, row in about])
        self.log.feedback(*[label(n, answer, at + DAY) for n, _ in about])

    def write(self, contract: Contract) -> Facts:
        return batch.write(self.root, read(self.log.url, SINCE, UNTIL).rows, contract, TOLD)

    def read(self, contract: Contract) -> pd.DataFrame:
        """As the pipeline reads it, without one complaint."""
        found = read_batch(self.root / FILE, contract)
        assert found.violations.empty
        return found.frame


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def spoken(text: Any) -> str:
    """A text as far as its words go: what white space stands between them is no matter."""
    return " ".join(str(text).replace("\0", " ").split())


# What is written


def test_a_row_is_what_was_sent_what_came_of_it_and_when(tree: Tree, contract: Callable[..., Contract]) -> None:
    tree.logged({"mass": 1e-7, "sealed": False, "colour": "🟣", "remark": None})
    tree.write(contract())
    header, row = (tree.root / FILE).read_text("utf-8").splitlines()
    assert header == "parcel,day,mass,width,sealed,colour,remark,district,grade"
    assert row == f"{prediction_id(0)},2026-03-02,1e-07,4.0,false,🟣,,,bad"


@pytest.mark.parametrize("how", WRITTEN)
def test_the_pipeline_reads_what_was_logged(tree: Tree, contract: Callable[..., Contract], how: str) -> None:
    csv, draw = WRITTEN[how], random.Random(how)
    letters = NASTY.encode(csv.get("encoding", "utf-8"), "ignore").decode(csv.get("encoding", "utf-8"))
    rows: list[Facts] = [
        {
            "mass": draw.choice([draw.gauss(0, 1e9), draw.gauss(0, 1e-9), draw.randrange(-9, 9), None]),
            "width": draw.choice([0, 10, draw.uniform(0, 10)]),
            "sealed": draw.choice([True, False, None]),
            "colour": draw.choice(["red", "grün", None]),
            "remark": "".join(draw.choices(letters, k=draw.randrange(1, 12))) + draw.choice(["", "null", "nan"]),
        }
        for _ in range(300)
    ]
    tree.logged(*rows)
    asked = contract(csv=csv)
    assert tree.write(asked)["rows"] == 300
    back = tree.read(asked)
    assert back["parcel"].tolist() == [prediction_id(number) for number in range(300)]
    assert set(back["day"]) == {pd.Timestamp(NOON.date())}
    assert set(back["grade"]) == {"bad"}
    assert back["district"].isna().all()
    for name in ("mass", "width", "sealed", "colour"):
        cells = back[name].astype(object)
        assert cells.where(cells.notna(), None).tolist() == [row[name] for row in rows]
    unquoted = csv.get("delimiter", ",") if csv.get("quote") == "" else " "  # nothing can hold it in a cell
    expected = [spoken(row["remark"].replace(unquoted, " ")) for row in rows]
    assert back["remark"].map(lambda cell: "" if pd.isna(cell) else spoken(cell)).tolist() == expected


def test_what_the_encoding_lacks_costs_neither_the_row_nor_its_words(
    tree: Tree, contract: Callable[..., Contract]
) -> None:
    asked = contract(csv={"encoding": "latin-1"})
    tree.logged({"remark": "schön 🟣 déjà vu", "colour": "🟣"}, {"remark": "ok"})
    assert tree.write(asked)["rows"] == 2
    assert {"schön", "déjà", "vu"} <= set(tree.read(asked)["remark"].iloc[0].split())


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("ISO8601", "2026-03-02T12:00:00"), ("%Y-%m", "2026-03"), ("%d/%m/%Y", "02/03/2026"), ("%Y%m%d", "20260302")],
)
def test_a_time_is_written_as_the_data_writes_it(
    tree: Tree, contract: Callable[..., Contract], pattern: str, text: str
) -> None:
    asked = contract(time={"name": "day", "format": pattern})
    tree.logged({})
    tree.write(asked)
    assert f",{text}," in (tree.root / FILE).read_text()
    assert tree.read(asked)["day"].notna().all()


@pytest.mark.parametrize("missing", ["id", "time"])
def test_a_contract_may_do_without_ids_and_times(tree: Tree, contract: Callable[..., Contract], missing: str) -> None:
    asked = contract(**{missing: None})
    tree.logged({}, {"mass": 3})
    tree.write(asked)
    assert list(tree.read(asked).columns) == list(asked.columns)
    assert tree.read(asked)["mass"].tolist() == [2.5, 3.0]


@pytest.mark.parametrize(("task", "answer"), [("multiclass", "middle"), ("regression", 2.125), ("regression", 3)])
def test_labels_of_any_kind(tree: Tree, contract: Callable[..., Contract], task: str, answer: Any) -> None:
    tree.logged({}, answer=answer)
    tree.write(contract(task))
    assert tree.read(contract(task))["grade"].tolist() == [answer]


def test_only_what_the_contract_names_is_written(tree: Tree, contract: Callable[..., Contract]) -> None:
    """A log may hold more than a model may learn from, and than Git may keep."""
    more = {"email": "ada@example.com", "district": "north"}
    tree.log.predictions(prediction(1, features=FEATURES | more, client="10.0.0.1"))
    tree.log.feedback(label(1, by="Ada Lovelace"))
    tree.write(contract())
    content = (tree.root / FILE).read_text() + (tree.root / batch.NOTES).read_text()
    for secret in ("ada@example.com", "10.0.0.1", "Lovelace", "north"):
        assert secret not in content
    assert tree.read(contract())["district"].isna().all()  # the service is not told it: nor is the model, here


# What is left out


def test_a_row_that_breaks_the_contract_is_left_out_and_counted(tree: Tree, contract: Callable[..., Contract]) -> None:
    """As an older contract let it pass: it would stop the pipeline."""
    older: list[Facts] = [{"width": 11}, {"mass": "heavy"}, {"sealed": "perhaps"}]
    tree.logged({"mass": 1, "remark": "two\nlines"}, *older, {"mass": 2}, {"colour": "beige"}, {"mass": 3})
    note = tree.write(contract())
    assert note["left_out"] == {"breaks the contract": 3}
    assert tree.read(contract())["mass"].tolist() == [1, 2, 2.5, 3]  # an unlisted colour is scored, so it is learnt


def test_a_value_that_the_contract_refuses_is_left_out(tree: Tree, contract: Callable[..., Contract]) -> None:
    colour = {"type": "category", "values": ["red"], "unseen": "refuse"}
    tree.logged({"colour": "beige"}, {"colour": "red"})
    assert tree.write(contract(features={"colour": colour}))["left_out"] == {"breaks the contract": 1}


def test_a_label_that_the_target_has_no_more_is_left_out(tree: Tree, contract: Callable[..., Contract]) -> None:
    tree.logged({}, answer="ugly")
    tree.logged({})
    assert tree.write(contract())["left_out"] == {"breaks the contract": 1}


def test_what_came_before_is_not_added_twice(tree: Tree, contract: Callable[..., Contract]) -> None:
    tree.logged({"mass": 1}, {"mass": 2})
    tree.write(contract())
    first = (tree.root / FILE).rename(tree.root / "data/raw/earlier.csv")
    (known,) = batch.notes(tree.root)
    known["file"] = str(first.relative_to(tree.root))
    write_json(tree.root / batch.NOTES, [known])
    tree.logged({"mass": 3})
    note = tree.write(contract())
    assert (note["rows"], note["left_out"]) == (1, {"in the raw data already": 2})
    assert tree.read(contract())["mass"].tolist() == [3]


def nothing(tree: Tree) -> None:
    """No row at all."""


def broken(tree: Tree) -> None:
    tree.logged({"width": 11})


@pytest.mark.parametrize("log", [nothing, broken])
def test_nothing_new_is_an_error_and_leaves_nothing(
    tree: Tree, contract: Callable[..., Contract], log: Callable[[Tree], None]
) -> None:
    log(tree)
    with pytest.raises(UserError, match="no labelled row is new") as told:
        tree.write(contract())
    assert "/feedback" in str(told.value)
    assert ("breaks the contract" in str(told.value)) == (log is broken)
    assert not any(path.is_file() for path in (tree.root / "data").rglob("*"))


# What is noted


def test_a_note_says_where_each_batch_came_from(tree: Tree, contract: Callable[..., Contract]) -> None:
    assert batch.notes(tree.root) == []
    assert batch.learnt(tree.root) is None
    tree.logged({}, {"width": 11})
    note = tree.write(contract())
    expected = {"file": FILE, "rows": 1, **TOLD, "left_out": {"breaks the contract": 1}}
    assert note == expected | {"sha256": sha256(tree.root / FILE)}
    assert read_json(tree.root / "data/production.json") == [note] == batch.notes(tree.root)
    assert batch.learnt(tree.root) == UNTIL


def test_what_was_learnt_ends_with_the_newest_batch(tree: Tree, contract: Callable[..., Contract]) -> None:
    tree.logged({})
    rows = read(tree.log.url, SINCE, UNTIL).rows
    for days in (5, 0, 3):
        told = TOLD | {"until": (UNTIL + days * DAY).isoformat()}
        batch.write(tree.root, [row | {"prediction_id": f"{days}"} for row in rows], contract(), told)
    assert [note["until"][:10] for note in batch.notes(tree.root)] == ["2026-03-14", "2026-03-09", "2026-03-12"]
    assert batch.learnt(tree.root) == UNTIL + 5 * DAY

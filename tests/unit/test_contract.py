"""params.yaml: what it may say, and what a wrong line is told."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from perennial.errors import UserError
from perennial.params import Params, load

GOOD = """\
seed: 1
data:
  raw: data/raw
  target: {name: sold, values: [no, yes], positive: yes}
  id: parcel
  time: day
  features:
    mass:
      type: number
      min: 0
      max: 10
    colour: {type: category, values: [red, blue]}
    sealed: {type: boolean}
    remark: {type: text}
  sensitive: [town]
split:
  holdout: 0.2
train:
  estimator: sklearn.linear_model.LogisticRegression
value: {true_positive: 5, false_positive: -1}
evaluate:
  bootstrap: 100
gate:
  floors:
    roc_auc: 0.7
"""
Load = Callable[..., Params]
MARK = "#!"  # stands on the line that the error must name


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """The good file with parts of it replaced, read as `params.yaml`."""
    monkeypatch.chdir(tmp_path)

    def read(*changes: tuple[str, str]) -> Params:
        text = GOOD
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        Path("params.yaml").write_text(text, encoding="utf-8")
        return load()

    return read


WRONG = {
    "a misspelt key of a section": (
        "  holdout: 0.2",
        "  houldout: 0.2 #!",
        "split.houldout: unknown key; did you mean 'holdout'?",
    ),
    "a misspelt key of a feature": (
        "      max: 10",
        "      maxx: 10 #!",
        "data.features.mass.maxx: unknown key; did you mean 'max'?",
    ),
    "a section nobody knows": ("seed: 1", "sed: 1 #!\nseed: 1", "sed: unknown key; did you mean 'seed'?"),
    "a feature that is the target": ("    mass:", "    sold: #!", "data.features.sold: is the target"),
    "a feature that is the id": ("    mass:", "    parcel: #!", "data.features.parcel: is the id"),
    "a feature that is the time": ("    mass:", "    day: #!", "data.features.day: is the time"),
    "an id that is the target": ("id: parcel", "id: sold #!", "data.id: 'sold' is already the target"),
    "a sensitive column that is the target": ("[town]", "[sold] #!", "is the target"),
    "the item of a list": ("[town]", "\n    - town\n    - sold #!", "is the target"),
    "an empty range": (
        "      min: 0",
        "      min: 10 #!",
        "data.features.mass.min: no number lies between min 10 and max 10",
    ),
    "an infinite end": (
        "      min: 0",
        "      min: .inf #!",
        "data.features.mass.min: Input should be a finite number",
    ),
    "an unknown type": (
        "type: number",
        "type: numeric #!",
        "unknown type. Allowed: 'number', 'boolean', 'category', 'text'",
    ),
    "no values": ("[red, blue]}", "[]} #!", "data.features.colour.values: "),
    "a value listed twice": (
        "[red, blue]}",
        "[red, blue, red]} #!",
        "data.features.colour.values: lists red more than once",
    ),
    "a bare true as a value": ("[red, blue]}", "[red, true]} #!", "is true/false: put it in quotes"),
    "nothing as a value": ("[red, blue]}", "[red, null]} #!", "data.features.colour.values"),
    "a positive that is no value": (
        "positive: yes}",
        "positive: maybe} #!",
        "data.target.positive: is not one of the values: no, yes",
    ),
    "two classes without a positive": (", positive: yes}", "} #!", "data.target.positive: "),
    "three classes with a positive": (
        "[no, yes], positive: yes}",
        "[no, yes, maybe], positive: yes} #!",
        "when there are exactly two",
    ),
    "one class": ("[no, yes], positive: yes}", "[no]} #!", "data.target.values: needs at least two classes"),
    "a class target without values": (
        "values: [no, yes], positive: yes}",
        "type: class} #!",
        "data.target: needs values",
    ),
    "values of a number": (
        "values: [no, yes], positive: yes}",
        "type: number, values: [no, yes]} #!",
        "has neither values nor positive",
    ),
    "an unknown metric": (
        "    roc_auc: 0.7",
        "    auc: 0.7 #!",
        "gate.floors.auc: no metric of a binary target. Allowed: roc_auc, average_precision",
    ),
    "a floor that is no number": (
        "    roc_auc: 0.7",
        "    roc_auc: high #!",
        "gate.floors.roc_auc: Input should be a valid number",
    ),
    "a floor that is not finite": ("    roc_auc: 0.7", "    roc_auc: .nan #!", "gate.floors.roc_auc: "),
    "a value that is not finite": (
        "value: {true_positive: 5,",
        "value: {true_positive: .inf, #!\n ",
        "value.true_positive: ",
    ),
    "an allowed leak that is no feature": (
        "  id: parcel",
        "  id: parcel\n  allow_leak: [colr] #!",
        "'colr' is no feature; did you mean 'colour'?",
    ),
    "a share above one": ("  holdout: 0.2", "  holdout: 1.2 #!", "split.holdout: Input should be less than 1"),
    "a key written twice": ("seed: 1", "seed: 1\nseed: 2 #!", 'duplicate key "seed"'),
    "a feature written twice": ("    remark: {type: text}", "    sealed: {type: text} #!", 'duplicate key "sealed"'),
    "broken YAML": ("  id: parcel", "  id: parcel: again #!", "not valid YAML: mapping values are not allowed here"),
    "a tab for spaces": ("  id: parcel", "\tid: parcel #!", "not valid YAML"),
}


@pytest.mark.parametrize(("old", "new", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_line_is_named_with_what_is_allowed(loaded: Load, old: str, new: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        loaded((old, new))
    line = next(n for n, text in enumerate(Path("params.yaml").read_text().splitlines(), 1) if MARK in text)
    first, *rest = str(error.value).splitlines()
    assert first.startswith(f"params.yaml:{line}: ")
    assert told in first
    assert [text for text in rest if not text.startswith("  Fix: ")] == []


def test_a_column_with_a_dot_in_its_name_is_named_like_any_other(loaded: Load) -> None:
    with pytest.raises(UserError, match=r"params\.yaml:8: data\.features\.mass\.kg: is the target"):
        loaded(("    mass:", "    mass.kg:"), ("name: sold", "name: mass.kg"))


def test_a_column_with_a_number_for_a_name_is_named_like_any_other(loaded: Load) -> None:
    with pytest.raises(UserError, match=r"params\.yaml:10: data\.features\.5\.min: no number lies between"):
        loaded(("    mass:", "    5:"), ("min: 0", "min: 10"))


def test_all_wrong_lines_are_named_at_once(loaded: Load) -> None:
    with pytest.raises(UserError) as error:
        loaded(("holdout: 0.2", "holdout: 2"), ("min: 0", "min: low"), ("[red, blue]", "[red, red]"))
    assert [text.split(": ")[0] for text in str(error.value).splitlines()[:-1]] == [
        "params.yaml:10",
        "params.yaml:12",
        "params.yaml:17",
    ]


def test_bare_booleans_as_classes_are_told_to_be_quoted_and_no_more(loaded: Load) -> None:
    with pytest.raises(UserError) as error:
        loaded(("[no, yes]", "[true, false]"))
    told = str(error.value).splitlines()[:-1]
    assert len(told) == 2
    assert all("is true/false: put it in quotes" in line for line in told)


def test_a_missing_section_is_named(loaded: Load) -> None:
    with pytest.raises(UserError, match="split: Field required"):
        loaded(("split:\n  holdout: 0.2\n", ""))


def test_a_missing_key_is_looked_for_in_its_section(loaded: Load) -> None:
    with pytest.raises(UserError, match=r"params\.yaml:20: value\.false_positive: Field required"):
        loaded((", false_positive: -1", ""))


@pytest.mark.parametrize("values", ["type: number", "values: [a, b, c]"])
def test_only_two_classes_can_have_a_value_matrix(loaded: Load, values: str) -> None:
    with pytest.raises(UserError, match=r"params\.yaml:20: value: a value matrix needs a binary target"):
        loaded(("values: [no, yes], positive: yes", values))


def test_value_per_1000_can_be_a_floor_only_where_there_is_a_value(loaded: Load) -> None:
    floor = ("roc_auc: 0.7", "value_per_1000: 9")
    assert loaded(floor).gate.floors == {"value_per_1000": 9}
    with pytest.raises(UserError, match=r"params\.yaml:25: gate\.floors\.value_per_1000: no metric"):
        loaded(floor, ("value: {true_positive: 5, false_positive: -1}", "value: null"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("content", [b"", b"- a list\n", b"words\n", b"\x00\x01binary", b"caf\xe9: latin-1\n"])
def test_a_file_that_is_no_mapping_is_told_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"params\.yaml"):
        load(tmp_path / "params.yaml")


def test_a_bare_no_is_a_word(loaded: Load) -> None:
    target = loaded().data.target
    assert (target.values, target.positive) == (("no", "yes"), "yes")


def test_numbers_as_category_values_are_text_as_in_csv(loaded: Load) -> None:
    assert loaded(("[red, blue]", "[0, 1]")).data.values_of("colour") == ("0", "1")


def test_the_positive_class_comes_last(loaded: Load) -> None:
    assert loaded(("positive: yes", "positive: no")).data.target.classes == ("yes", "no")


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        ("values: [no, yes], positive: yes", "binary", ("no", "yes")),
        ("values: [c, a, b]", "multiclass", ("c", "a", "b")),
        ("type: number, min: 0", "regression", ()),
    ],
)
def test_the_target_decides_the_task(loaded: Load, target: str, task: str, classes: tuple[str, ...]) -> None:
    changes = [("values: [no, yes], positive: yes", target), ("roc_auc: 0.7", "{}")]
    data = loaded(*changes, ("floors:\n    ", "floors: "), ("{true_positive: 5, false_positive: -1}", "null")).data
    assert (data.task, data.target.classes) == (task, classes)


def test_columns_are_listed_once_keys_first_and_target_last(loaded: Load) -> None:
    data = loaded(("[town]", "[town, sealed]")).data
    assert data.columns == ("parcel", "day", "mass", "colour", "sealed", "remark", "town", "sold")
    assert data.named("number", "boolean") == ("mass", "sealed")


def test_a_time_may_be_just_a_name(loaded: Load) -> None:
    assert loaded().data.time == loaded(("time: day", "time: {name: day}")).data.time


def test_nothing_can_be_changed_after_reading(loaded: Load) -> None:
    params = loaded()
    with pytest.raises(ValidationError, match="frozen"):
        params.seed = 2
    with pytest.raises(ValidationError, match="frozen"):
        params.data.features["mass"].required = True


@pytest.mark.parametrize(
    "change",
    [
        ("max: 10", "max: 11"),
        ("[red, blue]", "[blue, red]"),  # moves a column of the model's input
        (
            "    sealed: {type: boolean}\n    remark: {type: text}",
            "    remark: {type: text}\n    sealed: {type: boolean}",
        ),
        ("positive: yes", "positive: no"),
        ("[town]", "[]"),
    ],
)
def test_the_digest_changes_with_what_the_contract_says(loaded: Load, change: tuple[str, str]) -> None:
    assert loaded(change).data.digest != loaded().data.digest


@pytest.mark.parametrize(
    "change",
    [
        ("      type: number\n      min: 0", "      min: 0 # grams\n      type: number"),
        ("[red, blue]", '["red", "blue"]'),
        ("min: 0", "min: 0.0"),
        ("time: day", "time: {format: ISO8601, name: day}"),
        ("  sensitive: [town]\n", "  sensitive: [town]\n  tolerance: 0.01\n"),  # the default
        ("seed: 1", "seed: 2"),  # no part of the contract
    ],
)
def test_the_digest_does_not_change_with_the_way_it_is_written(loaded: Load, change: tuple[str, str]) -> None:
    assert loaded(change).data.digest == loaded().data.digest


def test_the_repository_s_own_file_is_valid() -> None:
    assert load(Path(__file__).parents[2] / "params.yaml").data.features

"""The drift page says what was found, to anyone, whatever was found; and nothing in it is taken for markup."""

import copy
import re
from html.parser import HTMLParser
from math import asinh
from typing import Any

import numpy as np
import pytest
from traffic import NOON, SINCE, UNTIL, prediction

from perennial.inputs import encode_target
from perennial.monitoring import page, pictures, watch
from perennial.monitoring.tell import MEANING
from perennial.monitoring.window import Window
from perennial.params import METRICS, Params, Value
from perennial.pipeline import metrics, profile
from perennial.pipeline.page import TEMPLATE, number
from perennial.psi import SMALL

Facts = dict[str, Any]
TRAINED, ROWS = 4000, 1500
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>${{ 7 * 7 }}{{ 7 * 7 }}'
TASKS = list(METRICS)


class Page(HTMLParser):
    """What a browser would make of the page: its elements, the rows of its tables, its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.rows, self._text = html, [], [], [""]
        self._within: list[str] = []
        self.feed(html)
        self.text = " ".join("".join(self._text).split())

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        self._within.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._within:
            return
        self._text.append(data)
        if {"td", "th"} & set(self._within):
            self.rows[-1][-1] += " ".join(data.split())

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row[0] == first)

    def attributes(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        found = [given for name, given in self.tags if name == tag]
        return [given for given in found if all(given.get(key) == value for key, value in wanted.items())]


class World:
    """A model of a task that answers by the truth and some noise, its promise, and windows of its log."""

    def __init__(self, task: str, make_params: Any, make_table: Any) -> None:
        self.make_table, self.task = make_table, task
        value = Value(currency="CHF", true_positive=5, false_positive=-1) if task == "binary" else None
        self.params: Params = make_params(task).model_copy(update={"value": value})
        trained, held = make_table(task, rows=TRAINED, seed=1), make_table(task, rows=TRAINED, seed=2)
        answers, contract = self.answers(held), self.params.data
        target = encode_target(held["grade"], contract).astype(float)
        self.profile = profile.describe(trained, contract) | {"model": {"sha256": "0" * 64}, "threshold": None}
        self.profile["answers"] = profile.answers_reference(answers, held["grade"], contract)
        self.profile["promised"] = profile.promised(answers, target, contract)
        if task == "binary":
            self.profile["threshold"] = 0.5
        ours = metrics.for_task(task, target, answers, self.profile["threshold"], value)
        self.promised = metrics.measure(ours, TRAINED, 200, 1)
        self.reference = watch.Reference(self.profile, {"metrics": self.promised}, {"mass": 0.7, "width": 0.3})

    def answers(self, table: Any, wrong: bool = False) -> Any:
        rng, grade = np.random.default_rng(3), table["grade"]
        if self.task == "regression":
            return grade.to_numpy() * rng.uniform(0.7, 1.3, len(table)) * (3 if wrong else 1)
        classes = list(self.params.data.target.classes)
        truth = np.array([classes.index(label) for label in grade], int)
        odds = rng.uniform(0, 1, (len(table), len(classes)))
        odds[np.arange(len(table)), (truth + 1) % len(classes) if wrong else truth] += 0.7
        return odds / odds.sum(axis=1, keepdims=True)

    def window(self, seed: int, rows: int = ROWS, labelled: float = 0.5, wrong: bool = False, **changes: Any) -> Facts:
        """What the watch makes of a window; `changes` are columns that came otherwise, by a function of the table's."""
        table = self.make_table(self.task, rows=rows, seed=seed)
        answers, version = self.answers(table, wrong), changes.pop("version", "1.2.0")
        for name, change in changes.items():
            table[name] = change(table[name])
        lines = []
        for place, cells in enumerate(table.astype(object).where(table.notna(), None).to_dict("records")):
            known = place < labelled * rows
            output = (
                {"value": float(answers[place])}
                if self.task == "regression"
                else {"probabilities": dict(zip(self.params.data.target.classes, answers[place].tolist(), strict=True))}
            )
            grade = cells.pop("grade")
            line = prediction(place, features=cells, output=output, model_version=version)
            late = {"label": grade if known else None, "labelled_at": NOON.timestamp() + 3 * 86_400 if known else 0.0}
            lines.append(line | late)
        return watch.judge(Window(SINCE, UNTIL, lines, seen=rows), self.reference, self.params)

    def facts(self, *windows: Facts) -> Facts:
        decision, reasons = watch.decide(list(windows), self.params)
        return {
            "decision": decision, "reasons": reasons, "store": "logs", "model": "0" * 64, "task": self.task,
            "windows": list(windows),
        }  # fmt: skip

    def page(self, *windows: Facts, **changes: Any) -> Page:
        facts = self.facts(*windows) | changes
        return Page(page.render(facts, self.profile, self.promised, self.params))


def heavier(column: Any) -> Any:
    return column + 1


@pytest.fixture(scope="module")
def worlds(make_params: Any, make_table: Any) -> dict[str, World]:
    return {task: World(task, make_params, make_table) for task in TASKS}


@pytest.fixture(scope="module")
def world(worlds: dict[str, World]) -> World:
    return worlds["binary"]


@pytest.fixture(scope="module")
def calm(world: World) -> Facts:
    return world.window(10)


@pytest.fixture(scope="module")
def moved(world: World) -> Facts:
    return world.window(11, mass=heavier)


@pytest.mark.parametrize("decision", MEANING)
def test_the_decision_comes_first_then_its_reasons(world: World, calm: Facts, decision: str) -> None:
    shown = world.page(calm, calm, calm, decision=decision, reasons=["one & only", "two < three"])
    order = [shown.text.index(words) for words in (MEANING[decision], "one & only", "two < three", "What moved")]
    assert order == sorted(order)
    (verdict,) = [given for tag, given in shown.tags if tag == "div" and "verdict" in given.get("class", "")]
    kind = {"quiet": "verdict good", "watch": "verdict"}.get(decision, "verdict bad")
    assert verdict["class"].split() == kind.split()


def test_what_moved_is_ranked_marked_and_drawn_to_scale(world: World, calm: Facts, moved: Facts) -> None:
    shown = world.page(moved, moved, calm)
    names = [row["feature"] for row in moved["features"]]
    assert names[0] == "mass"
    table = [row for row in shown.rows if row[0] in names and len(row) == 7]
    assert [row[0] for row in table] == names
    assert table[0][2:5] == [f"{moved['features'][0]['psi']:.3f}", "70.0%", "< 0.001"]
    strips = [given["aria-label"] for given in shown.attributes("svg", role="img")]
    shift = f"{moved['features'][0]['psi']:.3f}, drifted"
    before = next(row["psi"] for row in calm["features"] if row["feature"] == "mass")
    assert strips[1] == f"Shift, oldest window first: {round(before, 3) + 0.0:.3f}; {shift}; {shift}"
    assert len(shown.attributes("rect", **{"class": "drifted"})) == strips_say(strips, "drifted") >= 2
    assert len(shown.attributes("rect", **{"class": "calm"})) > 6


def strips_say(strips: list[str], word: str) -> int:
    return sum(strip.count(word) for strip in strips)


def test_a_bar_ends_at_its_place_on_the_axis(world: World, calm: Facts, moved: Facts) -> None:
    drawn = pictures.shifts([moved, calm, calm], world.profile)
    psi, rows = moved["features"][0]["psi"], moved["features"][0]["rows"]
    top = 1.1 * max(row["psi"] for row in [*moved["features"], moved["predictions"]])
    lane = drawn["rows"][0]["lanes"][-1]
    assert lane["width"] == pytest.approx(100 * asinh(psi / SMALL) / asinh(top / SMALL), abs=0.01)
    assert drawn["ticks"][0]["value"] == SMALL
    assert drawn["ticks"][0]["at"] == pytest.approx(100 * asinh(1) / asinh(top / SMALL), abs=0.01)
    critical = world.profile["features"]["mass"]["chi2_critical"]
    noise = (critical - (len(rows) - 1)) * (1 / ROWS + 1 / TRAINED)
    assert lane["noise"] == pytest.approx(noise)


def test_chance_seldom_passes_its_mark(world: World) -> None:
    """At 5 % over all the features together, by Bonferroni."""
    drawn = [pictures.shifts([world.window(seed, rows=500, labelled=0)], world.profile) for seed in range(20, 60)]
    lanes = [[row["lanes"][0] for row in one["rows"]] for one in drawn]
    alarms = sum(any(lane["psi"] > lane["noise"] for lane in one) for one in lanes)
    assert alarms <= 8
    assert max(lane["psi"] / lane["noise"] for one in lanes for lane in one) > 0.5  # nor is it out of reach


def test_bins_before_and_now(world: World, calm: Facts, moved: Facts) -> None:
    assert "No feature drifted or broke" in world.page(calm, calm, calm).text
    shown = world.page(moved, calm, calm)
    (drawn,) = pictures.bins(moved, world.profile)
    reference, rows = world.profile["features"]["mass"], moved["features"][0]["rows"]
    assert [cell["before"] for cell in drawn["cells"]] == [*reference["shares"], reference["missing"]]
    assert [cell["now"] for cell in drawn["cells"]] == [count / ROWS for count in rows]
    label, before, now = f"above {reference['edges'][-1]:.4g}", reference["shares"][-1], rows[-2] / ROWS
    assert shown.row(label) == [label, "", f"{before:.1%}", f"{now:.1%}"]
    bars = [float(bar["width"][:-1]) for bar in shown.attributes("rect", **{"class": "now"})]
    assert max(bars) == 100
    assert bars == pytest.approx([100 * count / max(rows) for count in rows], abs=0.01)


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ({"type": "number", "edges": [1.5, 2.0]}, ["to 1.5", "1.5 to 2", "above 2", "missing"]),
        ({"type": "number", "edges": [np.nextafter(0.0, -1), 0.0, 3.0]},
         ["below 0", "0", "0 to 3", "above 3", "missing"]),
        ({"type": "number", "edges": [np.nextafter(7.0, 0), 7.0]}, ["below 7", "7", "above 7", "missing"]),
        ({"type": "number", "edges": [20150101.0, 20150201.0]},
         ["to 20150101", "20150101 to 20150201", "above 20150201", "missing"]),
        ({"type": "number", "edges": [-1.29140272, 0.123456]},
         ["to -1.291", "-1.291 to 0.1235", "above 0.1235", "missing"]),
        ({"type": "number", "edges": [1.00001, 1.00002]},
         ["to 1.00001", "1.00001 to 1.00002", "above 1.00002", "missing"]),
        ({"type": "number", "edges": []}, ["any", "missing"]),
        ({"type": "category", "values": ["a", "b"]}, ["a", "b", "missing", "not listed"]),
        ({"type": "boolean", "values": [False, True]}, ["false", "true", "missing", "not listed"]),
    ],
)  # fmt: skip
def test_bins_have_names(reference: Facts, names: list[str]) -> None:
    assert pictures.labels(reference) == names


def test_bins_of_what_broke_without_drift(world: World, calm: Facts) -> None:
    odd = copy.deepcopy(calm)
    odd["features"][2]["broken"] = True
    assert [one["feature"] for one in pictures.bins(odd, world.profile)] == [odd["features"][2]["feature"]]


def test_broken_features_are_shown_as_such(world: World, calm: Facts) -> None:
    gone = world.window(12, mass=lambda column: column.where(column > 0))
    shown = world.page(gone, calm, calm)
    assert "Data-quality." in shown.text
    assert strips_say([given.get("aria-label", "") for given in shown.attributes("svg")], "broken") == 1
    assert (
        shown.row("mass")[5]
        == f"{world.profile['features']['mass']['missing']:.1%} → {gone['features'][0]['missing']['now']:.1%}"
    )


def test_quality_beside_its_promise(world: World, calm: Facts) -> None:
    worse = world.window(13, wrong=True)
    shown = world.page(worse, calm, calm)
    promised, now = world.promised["roc_auc"], worse["quality"]["roc_auc"]
    assert shown.row("hold-out")[2:4] == [
        number(promised["value"]),
        f"{number(promised['low'])} to {number(promised['high'])}",
    ]
    (fallen,) = [row for row in shown.rows if row[0].endswith(", fell")]
    interval = f"{number(now['low'])} to {number(now['high'])}"
    assert fallen[2:] == [number(now["value"]), interval, number(worse["expected"]["roc_auc"])]
    assert len(shown.attributes("tr", **{"class": "fell"})) == 1
    assert len(shown.attributes("circle", **{"class": "dot"})) == 8  # hold-out and three windows, of two metrics
    assert len(shown.attributes("circle", **{"class": "expected"})) == 6


def test_value_in_money(world: World, calm: Facts) -> None:
    shown = world.page(calm, calm, calm)
    assert "value_per_1000 (CHF)" in shown.text
    worth = calm["quality"]["value_per_1000"]
    whole, low, high = (number(worth[key] * ROWS / 1000) for key in ("value", "low", "high"))
    assert [row[5] for row in shown.rows if len(row) == 6 and "2026" in row[0]] == [f"{whole}({low} to {high})"] * 3


def test_marks_of_quality_stand_where_the_figures_are(world: World, calm: Facts) -> None:
    figure = page.quality("roc_auc", [calm, calm, calm], world.promised["roc_auc"], world.params)
    points = [(row["figure"][key], at) for row in figure["rows"] for key, at in row["at"].items()]
    values, places = np.array(points).T
    slope, start = np.polyfit(values, places, 1)
    assert slope > 0
    assert places == pytest.approx(start + slope * values, abs=0.02)
    assert 0 < places.min() < 10
    assert 90 < places.max() < 100


@pytest.mark.parametrize("task", TASKS)
def test_every_task(worlds: dict[str, World], task: str) -> None:
    world, lead = worlds[task], next(iter(METRICS[task]))
    windows = [world.window(14, mass=heavier), world.window(15), world.window(16, labelled=0)]
    shown = world.page(*windows)
    assert windows[0]["drifted"]
    assert lead in shown.text
    assert number(windows[0]["quality"][lead]["value"]) in shown.text
    assert ("CHF" in shown.text, "open circle" in shown.text) == (task == "binary",) * 2
    assert "too few labels" in shown.text


def test_what_was_learnt_already_is_said(world: World, calm: Facts) -> None:
    assert "learnt from production" not in world.page(calm, calm, calm, learnt=None).text
    assert "learnt from production up to 2026-03-02" in world.page(calm, calm, calm, learnt=NOON.isoformat()).text


def test_windows_too_small_to_judge(world: World, calm: Facts) -> None:
    few, none = world.window(17, rows=40), world.window(18, rows=0)
    shown = world.page(few, none, none)
    assert "No window has the 500 rows" in shown.text
    assert "The last window was not judged." in shown.text
    assert "too few rows" in shown.text
    shown = world.page(few, calm, none)
    assert "the figures are those of the newest that was" in shown.text
    strip = shown.attributes("svg", role="img")[0]["aria-label"]
    assert re.fullmatch(r"Shift, oldest window first: not judged; -?\d\.\d{3}; not judged", strip)


def test_no_labels_at_all(world: World) -> None:
    shown = world.page(*[world.window(seed, labelled=0) for seed in (18, 19, 20)])
    assert "0.0% of them labelled" in shown.text
    assert len(shown.attributes("circle", **{"class": "dot"})) == 2  # the hold-out's
    assert len(shown.attributes("circle", **{"class": "expected"})) == 6


def test_what_is_not_a_number_is_not_known(world: World, calm: Facts) -> None:
    odd = copy.deepcopy(calm)
    odd["quality"]["roc_auc"]["low"] = float("nan")
    shown = world.page(odd, odd, odd)
    assert "nan" not in shown.html
    assert len(shown.attributes("circle", **{"class": "dot"})) == 5


def test_nothing_from_the_log_becomes_markup(world: World) -> None:
    bad = world.window(21, version=HOSTILE, colour=lambda column: column.mask(column == "red", HOSTILE))
    bad["coverage"]["aside"] = {HOSTILE: 3}
    shown = world.page(bad, bad, bad, reasons=[HOSTILE])
    assert {tag for tag, _ in shown.tags} & {"script", "img", "iframe", "object", "link"} == set()
    assert [name for _, given in shown.tags for name in given if name.startswith("on")] == []
    assert shown.text.count(HOSTILE) >= 4  # reason, and the lines left aside
    assert '"><script>alert(1)</script>' in shown.text  # the version and the slice, cut short
    assert any(row[:2] == ["colour", HOSTILE[:57] + "..."] for row in shown.rows)


def test_many_features_are_folded(world: World, calm: Facts) -> None:
    many = copy.deepcopy(calm)
    for place in range(30):
        many["features"].append(many["features"][-1] | {"feature": f"f{place}"})
    widened = world.profile | {
        "features": world.profile["features"]
        | {f"f{n}": world.profile["features"][many["features"][4]["feature"]] for n in range(30)}
    }
    shown = Page(page.render(world.facts(many, calm, calm), widened, world.promised, world.params))
    assert "15 more features" in shown.text
    assert [row[0] for row in shown.rows if row and re.fullmatch(r"f\d+", row[0])] == [f"f{n}" for n in range(30)]


def test_one_file_that_loads_nothing_in_the_look_of_the_evaluation(world: World, moved: Facts, calm: Facts) -> None:
    shown = world.page(moved, calm, calm)
    assert [given for _, given in shown.tags if {"src", "href", "srcset", "data"} & set(given)] == []
    assert not re.search(r"https?:|url\(|@import", shown.html)
    style = TEMPLATE.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert style.strip()
    assert style in shown.html


def test_every_picture_has_words_or_stands_beside_them(world: World, moved: Facts, calm: Facts) -> None:
    drawn = world.page(moved, calm, calm).attributes("svg")
    assert len(drawn) > 10
    assert all(
        given.get("aria-hidden") == "true" or (given["role"] == "img" and given["aria-label"]) for given in drawn
    )

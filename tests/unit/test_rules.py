"""Each rule of the gate: seen to pass, to fail, to be switched off, and to say when it cannot judge."""

from typing import Any

import pytest
from gate_facts import REGRESSION, compared, facts, judged, params, slice_of

from perennial.review.rules import judge, verdict

Changes = dict[str, Any]
GAP = {
    "column": "age", "rate": "false positive rate", "gap": 0.4, "sure": 0.3,
    "highest": {"group": "old", "rate": 0.5}, "lowest": {"group": "young", "rate": 0.1},
}  # fmt: skip

# One change of the facts that makes this rule fail, and what it must say.
FAILS: dict[str, tuple[Changes, str]] = {
    "data check": ({"data.passed": False, "data.error": "a.csv row 3: mass: heavy"}, "a.csv row 3: mass: heavy"),
    "dvc.lock": ({"lock.stale": ["train: changed deps: src/a.py"]}, "not current: train: changed deps: src/a.py"),
    "reproduced": (
        {"reproduction": {"level": "different", "details": ["rows: 1 here, 2 when run again"]}},
        "different when run again: rows: 1 here, 2 when run again",
    ),
    "conversion": ({"challenger.parity.difference_below": 1e-4}, "to less than 0.0001"),
    "leaks": ({"data.leaks": {"mass": 0.9991}}, "gives the target away: mass (0.999)"),
    "floor of roc_auc": ({"evaluation.metrics.roc_auc.value": 0.699}, "roc_auc 0.699, wanted at least 0.7"),
    "better than a dummy": ({"evaluation.metrics.roc_auc.low": 0.5}, "roc_auc 0.5 to 0.84, a dummy has 0.5"),
    "champion": (
        {"metrics.roc_auc": compared(0.82, 0.8, 0.01)},
        "roc_auc 0.8 against 0.82: -0.0200 (-0.0300 to -0.0100)",
    ),
    "slices": ({"slices": [slice_of("colour", "red", 0.8, 0.7)]}, "colour = red (500 rows): 0.8 → 0.7"),
    "fairness": ({"fairness": [GAP]}, "false positive rate by age, 0.5 of old against 0.1 of young"),
    "calibration": ({"calibration.error": 0.07}, "off by 0.07; chance alone gives up to 0.02, bound 0.05"),
    "size": ({"size.challenger": 3.1}, "3.1 MB, free up to 1; 2.067 times the champion's 1.5, at most 2"),
    "latency": ({"latency.challenger": 0.6}, "0.6 ms for one row, free up to 0.5; 30 times the champion's 0.02"),
}


def outcome(found: Changes) -> dict[str, bool | None]:
    return {rule["name"]: rule["passed"] for rule in found["rules"]}


def text(found: Changes, name: str) -> str:
    return next(str(rule["text"]) for rule in found["rules"] if rule["name"] == name)


def test_a_good_model_holds_every_rule() -> None:
    assert outcome(judged()) == dict.fromkeys(FAILS, True)
    assert verdict(judge(facts(), params())) == "pass"


@pytest.mark.parametrize("name", FAILS)
def test_a_rule_that_fails_says_what_it_found_and_what_to_do(name: str) -> None:
    changes, said = FAILS[name]
    found = judged(changes)
    assert outcome(found) == dict.fromkeys(FAILS, True) | {name: False}
    assert said in text(found, name)
    assert next(rule["fix"] for rule in found["rules"] if rule["name"] == name)
    assert verdict(judge(facts(changes), params())) == "fail"


OFF = {
    "champion": {"margin": None}, "better than a dummy": {"baseline": False}, "slices": {"slices": None},
    "fairness": {"fairness": None}, "calibration": {"calibration": None}, "size": {"size": None},
    "latency": {"latency": None}, "reproduced": {"reproduced": None}, "floor of roc_auc": {"floors": {}},
}  # fmt: skip


@pytest.mark.parametrize("name", OFF)
def test_a_rule_is_switched_off_by_its_knob(name: str) -> None:
    found = judged(FAILS[name][0], **OFF[name])
    assert outcome(found) == {other: True for other in FAILS if other != name}


def test_what_no_knob_switches_off() -> None:
    assert FAILS.keys() - OFF.keys() == {"data check", "dvc.lock", "conversion", "leaks"}


# Within the bound, or beyond it by no more than chance.
PASSES: dict[str, Changes] = {
    "a fall within the margin, however certain": {"metrics.roc_auc": compared(0.82, 0.8185, 0.001)},
    "a fall that chance explains": {"metrics.roc_auc": compared(0.82, 0.8, 0.03)},
    "a slice that fell within its margin": {"slices": [slice_of("colour", "red", 0.8, 0.755)]},
    "a slice below its floor by chance": {"slices": [slice_of("colour", "red", 0.6, 0.58)]},
    "a gap at the bound": {"fairness": [GAP | {"sure": 0.2}]},
    "a gap that chance explains": {"fairness": [GAP | {"sure": 0.0}]},
    "a calibration error that chance explains": {"calibration": {"error": 0.09, "by_chance": 0.1, "noise": 0.01}},
    "a floor that is just reached": {"evaluation.metrics.roc_auc.value": 0.7},
    "small but ten times the champion": {"size": {"challenger": 1.0, "champion": 0.1}},
    "other bytes, the same metrics": {"reproduction": {"level": "same metrics", "details": ["models/model.onnx"]}},
    "no slice is large enough": {"slices": []},
}


@pytest.mark.parametrize("case", PASSES)
def test_what_is_let_pass(case: str) -> None:
    assert outcome(judged(PASSES[case])) == dict.fromkeys(FAILS, True)


@pytest.mark.parametrize(
    ("name", "changes", "gate", "said"),
    [
        ("reproduced", {"reproduction.level": "same metrics"}, {"reproduced": "bytes"}, "same metrics when run again"),
        ("reproduced", {"reproduction.level": "failed"}, {}, "failed when run again"),
        ("floor of brier", {"evaluation.metrics.brier.value": 0.21}, {"floors": {"brier": 0.2}}, "wanted at most 0.2"),
        ("slices", {"slices": [slice_of("colour", "red", 0.56, 0.56)]}, {}, "colour = red (500 rows): 0.56, floor 0.6"),
        ("dvc.lock", {"lock.uncommitted": ["dvc.lock"]}, {}, "not committed: dvc.lock"),
        ("champion", {"metrics.roc_auc": compared(0.82, 0.8199, 0)}, {"margin": 0}, "-0.0001"),
    ],
)
def test_more_that_fails(name: str, changes: Changes, gate: Changes, said: str) -> None:
    found = judged(changes, **gate)
    assert outcome(found)[name] is False
    assert said in text(found, name)


def test_without_a_champion_the_model_is_judged_by_itself() -> None:
    reason = "there is no earlier commit to compare with"
    alone = {"metrics": {}, "champion": None, "not_compared": reason, "size": {"challenger": 0.5}}
    found = judged(alone | {"slices": [{**slice_of("colour", "red", 0, 0.5)}], "latency": {"challenger": 0.6}})
    unsure = {"champion": None, "slices": False, "latency": None}
    assert outcome(found) == dict.fromkeys(FAILS, True) | unsure
    assert text(found, "champion") == reason
    assert "floor 0.6" in text(found, "slices")


def test_what_cannot_be_judged_fails_nothing() -> None:
    changes = {"fairness": [], "metrics": {}, "not_compared": "it predicts grade (a number), this one grade (bad)"}
    found = judged(changes)
    assert outcome(found) == dict.fromkeys(FAILS, True) | {"fairness": None, "champion": None}
    assert "no two sensitive groups" in text(found, "fairness")
    assert "a number" in text(found, "champion")
    assert verdict(judge(facts(changes), params())) == "pass"


def test_of_a_pipeline_that_broke_nothing_else_is_judged() -> None:
    broken = {"broken": "stage train failed", "data": None}
    found = judged(broken)
    assert outcome(found) == {"data check": False, "dvc.lock": True, "pipeline": False}
    assert text(found, "pipeline") == "stage train failed"
    assert "was not checked" in text(found, "data check")


ERRORS: dict[str, tuple[Changes, bool]] = {
    "smaller": ({}, True),
    "larger by chance": ({"metrics.mae": compared(4.0, 4.2, 0.3)}, True),
    "larger": ({"metrics.mae": compared(4.0, 4.2, 0.1)}, False),
    "larger by less than the margin's share of it": ({"metrics.mae": compared(4.0, 4.004, 0.001)}, True),
}


@pytest.mark.parametrize("case", ERRORS)
def test_of_an_error_less_is_better(case: str) -> None:
    changes, passed = ERRORS[case]
    assert outcome(judged(REGRESSION | changes, "regression"))["champion"] is passed


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("floor of mae", {"evaluation.metrics.mae.value": 5.1}),
        ("better than a dummy", {"evaluation.metrics.mae.high": 16.0}),
        ("slices", {"slices": [slice_of("colour", "red", 5.1, 5.1)]}),
        ("slices", {"slices": [slice_of("colour", "red", 4.0, 4.3)]}),
    ],
)
def test_of_an_error_more_is_worse(name: str, changes: Changes) -> None:
    assert outcome(judged(REGRESSION, "regression"))[name] is True
    assert outcome(judged(REGRESSION | changes, "regression"))[name] is False

"""What a model must hold to be merged: each rule looks at the facts and says what it found.

Pure functions of `facts` (see gate.gather) and the parameters; every rule has its knob in `params.yaml: gate:`.
A rule that blocks on a sampled figure does so only when chance does not explain it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from perennial.params import METRICS, Budget, Params
from perennial.pipeline.page import number
from perennial.review.compare import gain

Facts = dict[str, Any]
RUN = "make run, then commit dvc.lock and reports/ with your change"


@dataclass(frozen=True)
class Rule:
    name: str
    passed: bool | None  # None: could not be judged, and why is in the text
    text: str
    fix: str = ""


def judge(facts: Facts, params: Params) -> list[Rule]:
    """Every rule that is switched on; those about a model only when there is one."""
    rules = [data_check(facts), lock(facts)]
    if facts["broken"]:
        told = facts["broken"] == (facts["data"] or {}).get("error")  # the data check has said it
        stage = Rule("pipeline", False, facts["broken"], "make run shows the same; mend it and commit")
        return rules if told else [*rules, stage]
    judged = [reproduced, parity, leaks, floors, baseline, champion, slices, fairness, calibration, size, latency]
    return [*rules, *(rule for of in judged for rule in of(facts, params))]


def data_check(facts: Facts) -> Rule:
    data = facts["data"] or {}
    if not data.get("passed"):
        text = data.get("error", "the data was not checked: the pipeline did not come that far")
        return Rule("data check", False, text, "mend the files, or the contract in params.yaml")
    broken = data["rows_breaking_the_contract"]
    text = f"{data['rows']:,} rows in {len(data['files'])} files, {broken:,} set aside"
    return Rule("data check", True, text)


def lock(facts: Facts) -> Rule:
    stale, uncommitted = facts["lock"]["stale"], facts["lock"]["uncommitted"]
    if stale:
        return Rule("dvc.lock", False, "not current: " + "; ".join(stale[:5]), RUN)
    if uncommitted:
        return Rule(
            "dvc.lock", False, f"not committed: {', '.join(uncommitted)}", "commit these files with your change"
        )
    return Rule("dvc.lock", True, "current: it belongs to this code, these parameters and this data")


def reproduced(facts: Facts, params: Params) -> Iterator[Rule]:
    wanted, again = params.gate.reproduced, facts["reproduction"]
    if wanted is None or again is None:
        return
    level, details = again["level"], "; ".join(again["details"][:5])
    passed = level == "same bytes" or (level == "same metrics" and wanted == "metrics")
    text = f"{level} when run again" + (f": {details}" if details else "")
    yield Rule("reproduced", passed, text, "look for what is not seeded, or " + RUN)


def parity(facts: Facts, _: Params) -> Iterator[Rule]:
    found = facts["challenger"]["parity"]
    text = f"ONNX gives scikit-learn's answers on {found['rows']:,} rows, to less than {found['difference_below']:g}"
    yield Rule("conversion", found["difference_below"] <= found["tolerance"], text, "see docs/architecture.md, traps")


def leaks(facts: Facts, params: Params) -> Iterator[Rule]:
    found = facts["data"]["leaks"]
    if found:
        names = ", ".join(f"{name} ({score:.3f})" for name, score in found.items())
        yield Rule("leaks", False, f"gives the target away: {names}", "drop it, or name it in data.allow_leak")
    else:
        allowed = ", ".join(params.data.allow_leak)
        text = "no feature or sum of two gives the target away" + (f" (allowed: {allowed})" if allowed else "")
        yield Rule("leaks", True, text)


def floors(facts: Facts, params: Params) -> Iterator[Rule]:
    better = METRICS[params.data.task] | {"value_per_1000": True}
    for name, floor in params.gate.floors.items():
        value = facts["evaluation"]["metrics"][name]["value"]
        passed = value >= floor if better[name] else value <= floor
        word = "at least" if better[name] else "at most"
        text = f"{name} {number(value)}, wanted {word} {number(floor)}"
        yield Rule(f"floor of {name}", passed, text, "a better model, or (with a reason) another floor in gate.floors")


def baseline(facts: Facts, params: Params) -> Iterator[Rule]:
    if not params.gate.baseline:
        return
    name, more = next(iter(METRICS[params.data.task].items()))
    ours, dummy = facts["evaluation"]["metrics"][name], facts["evaluation"]["baseline"][name]
    passed = ours["low"] > dummy if more else ours["high"] < dummy
    text = f"{name} {number(ours['low'])} to {number(ours['high'])}, a dummy has {number(dummy)}"
    yield Rule("better than a dummy", passed, text, "look at the labels: the model has learnt nothing from them")


def champion(facts: Facts, params: Params) -> Iterator[Rule]:
    if params.gate.margin is None:
        return
    if not facts["metrics"]:
        yield Rule("champion", None, facts["not_compared"])
        return
    name = next(iter(METRICS[params.data.task]))
    row = facts["metrics"][name]
    gained, at_most = gain(row, params.data.task)
    text = (
        f"{name} {number(row['challenger'])} against {number(row['champion'])}: {row['difference']:+.4f} "
        f"({row['low']:+.4f} to {row['high']:+.4f})"
    )
    passed = not (gained < -params.gate.margin and at_most < 0)
    yield Rule("champion", passed, text, "worse than the model it would replace: keep that one, or mend this")


def slices(facts: Facts, params: Params) -> Iterator[Rule]:
    knob = params.gate.slices
    if knob is None:
        return
    task, bad = params.data.task, []
    more = next(iter(METRICS[task].values()))
    for row in facts["slices"]:
        place = f"{row['column']} = {row['value']} ({row['rows']:,} rows)"
        best = row["challenger_high"] if more else -row["challenger_low"]
        if knob.floor is not None and best < (knob.floor if more else -knob.floor):
            bad.append(f"{place}: {number(row['challenger'])}, floor {number(knob.floor)}")
        elif "difference" in row:
            change = {"difference": row["difference"], "low": row["difference_low"], "high": row["difference_high"]}
            gained, at_most = gain(change | {"champion": row["champion"]}, task)
            if gained < -knob.margin and at_most < 0:
                bad.append(f"{place}: {number(row['champion'])} → {number(row['challenger'])}")
    judged = f"{len(facts['slices'])} slices of at least {knob.rows} rows"
    text = "; ".join(bad) if bad else f"{judged}, none too low" + (" and none fell" if facts["metrics"] else "")
    yield Rule("slices", not bad, text, "more rows of that slice, or features that tell it apart")


def fairness(facts: Facts, params: Params) -> Iterator[Rule]:
    bound = params.gate.fairness
    if bound is None or not params.data.sensitive:
        return
    if not facts["fairness"]:
        yield Rule("fairness", None, "no two sensitive groups are large enough to be compared")
        return
    worst = max(facts["fairness"], key=lambda row: row["sure"])
    text = (
        f"largest gap: {worst['rate']} by {worst['column']}, {number(worst['highest']['rate'])} of "
        f"{worst['highest']['group']} against {number(worst['lowest']['rate'])} of {worst['lowest']['group']} "
        f"({number(worst['sure'])} of it is no chance, bound {number(bound)})"
    )
    yield Rule("fairness", worst["sure"] <= bound, text, "look at these groups' rows, labels and features")


def calibration(facts: Facts, params: Params) -> Iterator[Rule]:
    bound, found = params.gate.calibration, facts["calibration"]
    if bound is None:
        return
    passed = found["error"] <= max(bound + found["noise"], found["by_chance"])
    unit = " standard deviations" if params.data.task == "regression" else ""
    text = f"off by {number(found['error'])}{unit}; chance alone gives up to {number(found['by_chance'])}"
    yield Rule("calibration", passed, f"{text}, bound {number(bound)}", "train.calibration: sigmoid in params.yaml")


def size(facts: Facts, params: Params) -> Iterator[Rule]:
    yield from _budget("size", params.gate.size, facts["size"], "MB", "a smaller estimator")


def latency(facts: Facts, params: Params) -> Iterator[Rule]:
    yield from _budget("latency", params.gate.latency, facts["latency"], "ms for one row", "a smaller estimator")


def _budget(name: str, knob: Budget | None, cost: dict[str, float], unit: str, fix: str) -> Iterator[Rule]:
    if knob is None:
        return
    ours, theirs = cost["challenger"], cost.get("champion")
    text = f"{number(ours)} {unit}, free up to {number(knob.free)}"
    if theirs:
        text += f"; {number(ours / theirs)} times the champion's {number(theirs)}, at most {number(knob.ratio)}"
    passed = True if ours <= knob.free else (ours <= knob.ratio * theirs if theirs else None)
    yield Rule(name, passed, text, fix + ", or (with a reason) another bound in gate")


def verdict(rules: list[Rule]) -> str:
    return "fail" if any(rule.passed is False for rule in rules) else "pass"

"""What /metrics tells adds up, over workers, to exactly what was sent."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import Server, plain_rows, train_model, until

from perennial.files import read_json
from perennial.serving import metrics

Start = Callable[..., Server]
Table = dict[tuple[str, ...], float]


def family(samples: Table, name: str) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in samples.items() if key[0] == name}


def expected_bins(profile: dict[str, Any], rows: list[dict[str, Any]]) -> Counter[tuple[str, ...]]:
    """The bins of these rows as numpy finds them, by (bin, feature)."""
    counts: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        for name, facts in profile["features"].items():
            value = row.get(name)
            if value is None or (facts["type"] == "text" and not value.split()):
                place = "missing"
            elif "values" in facts:
                place = str(value).lower() if value in facts["values"] else "other"
            else:
                number = len(value.split()) if facts["type"] == "text" else value
                place = str(np.searchsorted(facts["edges"], number))
            counts[place, name] += 1
    return counts


def test_two_workers_counters_add_up_to_what_was_sent(
    start: Start, models: Callable[[str], Path], make_table: Any
) -> None:
    profile = read_json(models("binary") / "models/profile.json")
    rows = plain_rows(make_table(rows=90, seed=6).drop(columns="grade"))
    rows += [{"colour": "octarine"}, {"remark": "   "}, {"mass": -1e30}, {"mass": 1e30}, {}]
    sent, answers = Counter[tuple[str, ...]](), []
    with start() as server:

        def ask(code: int, route: str, method: str, path: str, body: Any = None) -> Any:
            sent[str(code), route] += 1
            with closing(server.client()) as client:  # so that both workers are asked
                answer = client(method, path, body)
            assert answer.status == code, answer.body
            return answer.json() if answer.headers["Content-Type"] == "application/json" else None

        for row in rows:
            answers += ask(200, "predict", "POST", "/predict", {"instances": [row]})["predictions"]
        answers += ask(200, "predict", "POST", "/invocations", {"instances": rows})["predictions"]
        for path in ("/a", "/b", "/c"):
            ask(404, "none", "GET", path)
        ask(422, "predict", "POST", "/predict", {"instances": []})
        ask(400, "predict", "POST", "/predict", b"{")
        ask(405, "feedback", "GET", "/feedback")
        labels = [{"prediction_id": each["prediction_id"], "label": "good"} for each in answers]
        strange = {"prediction_id": "0" * 12 + "-" + "0" * 16 + "-0", "label": "bad"}
        ask(200, "feedback", "POST", "/feedback", {"labels": [*labels, strange, strange]})
        both = set(server.workers())
        told = server.metrics()
        # A worker that is killed takes none of this with it.
        os.kill(min(both), signal.SIGKILL)
        until(lambda: len(server.workers()) == 2 and set(server.workers()) != both)
        server.predict({})
        later = server.metrics()

    requests = {key: value for key, value in family(told, "model_requests_total").items() if key[1] not in FREE}
    assert requests == sent
    counts = family(told, "model_request_seconds_count")
    assert {route: counts[(route,)] for route in ("predict", "feedback", "none")} == {
        name: sum(value for (_, route), value in sent.items() if route == name)
        for name in ("predict", "feedback", "none")
    }
    assert told[("model_rows_total",)] == len(answers) == 190
    found = {key: value for key, value in family(told, "model_feature_bin_total").items() if value}
    assert found == expected_bins(profile, rows * 2)
    assert found["other", "colour"] == 2
    bins = Counter(str(np.searchsorted(np.arange(1, 10) / 10, each["probabilities"]["bad"])) for each in answers)
    assert {key[0]: value for key, value in family(told, "model_prediction_bin_total").items() if value} == bins
    assert family(told, "model_feedback_total") == {("true",): 190, ("false",): 2}
    assert later[("model_rows_total",)] == 191
    assert family(later, "model_feature_bin_total")["missing", "mass"] == found["missing", "mass"] + 1
    assert family(later, "model_info") == family(told, "model_info")


FREE = {"healthz", "readyz", "metrics"}  # asked while waiting


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_reference_is_that_of_the_profile(task: str, start: Start, models: Callable[[str], Path]) -> None:
    profile = read_json(models(task) / "models/profile.json")
    with start(task) as server:
        told, version = server.metrics(), server.get("/version").json()
    rows = profile["trained_on"]["rows"]
    for name, facts in profile["features"].items():
        shares = {key[0]: value for key, value in family(told, "model_feature_bin_ref_share").items() if key[1] == name}
        assert sum(shares.values()) == pytest.approx(1)
        plain = [*facts["shares"], facts["missing"], *([facts["other"]] if "other" in facts else [])]
        assert list(shares.values()) == pytest.approx(plain, abs=len(plain) / rows)
        counted = [key[0] for key in family(told, "model_feature_bin_total") if key[1] == name]
        assert sorted(counted) == sorted(shares)  # each of them from the start, at 0
        assert told["model_feature_ref_rows", name] == rows
        assert told["model_feature_psi_chi2_critical", name] == pytest.approx(facts["chi2_critical"])
    answers = list(family(told, "model_prediction_bin_ref_share").values())
    assert answers == pytest.approx(profile["answers"]["shares"], abs=len(answers) / profile["promised"]["rows"])
    assert told[("model_prediction_ref_rows",)] == profile["promised"]["rows"]
    assert sum(answers) == pytest.approx(1)
    info = {(version["git_commit"], version["contract_sha256"][:12], version["model_version"]): 1}
    assert family(told, "model_info") == info
    assert not any(family(told, "model_feature_bin_total").values())


def test_a_category_may_have_the_values_missing_and_other(
    tmp_path: Path, make_params: Any, make_table: Any, start: Start
) -> None:
    table = make_table(rows=500)
    table["colour"] = table["colour"].replace({"grün": "other", "🟣": "missing"})
    features = {"mass": {"type": "number"}, "colour": {"type": "category", "values": ["red", "other", "missing"]}}
    folder = train_model(tmp_path / "model", make_params(features=features), table)
    with start(folder=folder) as server:
        server.predict({"colour": "other"}, {"colour": "octarine"}, {"colour": "octarine"}, {"colour": None})
        told = server.metrics()
    shares = [value for key, value in family(told, "model_feature_bin_ref_share").items() if key[1] == "colour"]
    assert sum(shares) == pytest.approx(1)
    counts = [value for key, value in family(told, "model_feature_bin_total").items() if key[1] == "colour"]
    assert sorted(counts) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("name", ["mass", "width", "remark"])
def test_values_on_and_beside_the_edges_fall_where_numpy_puts_them(models: Callable[[str], Path], name: str) -> None:
    facts = read_json(models("binary") / "models/profile.json")["features"][name]
    bins, edges = metrics.Bins(facts, lambda name: name, facts["type"]), facts["edges"]
    beside = [np.nextafter(edge, way) for edge in edges for way in (-np.inf, edge, np.inf)]
    for value in [*edges, *beside, -1e300, 1e300, 0.0, -0.0]:
        if facts["type"] == "text":
            words = max(1, int(value)) if value < 1e6 else 1_000
            assert bins.place("word " * words) == np.searchsorted(edges, words)
        else:
            assert bins.place(float(value)) == np.searchsorted(edges, value)

"""Labels are judged as they come: what /metrics tells of them is what a person with log and labels would count."""

import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import Server, plain_rows

from perennial.files import read_json
from perennial.serving.ids import answer_in, whole

Start = Callable[..., Server]
Table = dict[tuple[str, ...], float]


def family(samples: Table, name: str) -> Table:
    return {key[1:]: value for key, value in samples.items() if key[0] == name}


def label(server: Server, ids: list[str], labels: list[Any]) -> Any:
    told = [{"prediction_id": name, "label": each} for name, each in zip(ids, labels, strict=True)]
    with closing(server.client()) as client:  # so that both workers are asked
        return client("POST", "/feedback", {"labels": told}).json()


def predicted(server: Server, table: Any) -> list[dict[str, Any]]:
    return server.predict(*plain_rows(table))


def test_two_classes_confusion_loss_and_worth(start: Start, models: Callable[[str], Path], make_table: Any) -> None:
    profile = read_json(models("binary") / "models/profile.json")
    with start("binary") as server:
        version, first = server.get("/version").json()["model_version"], server.metrics()
        answers = predicted(server, make_table(rows=60, seed=3).drop(columns="grade"))
        actual = ["bad" if place % 3 else "good" for place in range(60)]
        ids = [each["prediction_id"] for each in answers]
        for at in range(0, 60, 10):
            label(server, ids[at : at + 10], actual[at : at + 10])
        told = server.metrics()
    assert set(family(first, "model_outcomes_total").values()) == {0.0}  # each pair from the start
    assert len(family(first, "model_outcomes_total")) == 4
    pairs = Counter(zip([each["label"] for each in answers], actual, strict=True))
    found = {(key[1], key[0]): value for key, value in family(told, "model_outcomes_total").items() if value}
    assert found == pairs
    probability = np.array([each["probabilities"]["bad"] for each in answers])
    loss = ((np.array([each == "bad" for each in actual]) - probability) ** 2).sum()
    assert told["model_label_loss_total", version] == pytest.approx(loss, rel=1e-6)
    assert told["model_labels_total", version] == 60
    promised = profile["promised"]
    gauges = [told[(f"model_ref_loss_{name}",)] for name in ("mean", "std", "rows")]
    assert gauges == [promised["loss"]["mean"], promised["loss"]["std"], promised["rows"]]


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_more_classes_and_numbers(task: str, start: Start, models: Callable[[str], Path], make_table: Any) -> None:
    profile = read_json(models(task) / "models/profile.json")
    with start(task) as server:
        version = server.get("/version").json()["model_version"]
        answers = predicted(server, make_table(rows=30, seed=4).drop(columns="grade"))
        classes = profile["classes"]
        actual = [classes[place % len(classes)] if classes else 1.5 * place for place in range(30)]
        label(server, [each["prediction_id"] for each in answers], actual)
        told = server.metrics()
    pairs = list(zip(answers, actual, strict=True))
    if classes:
        loss = sum(each["label"] != truth for each, truth in pairs)
    else:
        loss = sum(abs(each["value"] - truth) for each, truth in pairs)
    assert told["model_labels_total", version] == 30
    assert told["model_label_loss_total", version] == pytest.approx(loss, rel=1e-5)
    assert sum(family(told, "model_outcomes_total").values()) == (30 if classes else 0)


def test_a_label_counts_for_the_model_that_answered(start: Start) -> None:
    """Not for the one that is asked to keep it: behind a canary, or after a deployment, that is another one."""
    with start("binary") as server:
        ours = server.predict({})[0]["prediction_id"]
        request, version = ours[:29], server.get("/version").json()["model_version"]
        other = whole(request, 0, "0123456789ab", 1, 0.75)
        label(server, [ours, other], ["bad", "bad"])
        told = server.metrics()
    assert family(told, "model_labels_total") == {(version,): 1, ("0123456789ab",): 1}
    assert told["model_label_loss_total", "0123456789ab"] == 0.0625
    assert told["model_outcomes_total", "bad", "bad", "0123456789ab"] == 1


def test_ids_from_outside_cannot_fill_the_memory(start: Start) -> None:
    with start("binary", WEB_CONCURRENCY="1") as server:
        request = server.predict({})[0]["prediction_id"][:29]
        made_up = [whole(request, 0, f"{number:012x}", 1, 0.5) for number in range(40)]
        nonsense = [whole(request, 0, "0" * 12, 7, 0.5), whole(request, 0, "0" * 12, 1, 0.5)[:-8] + "7f800000"]
        before_it_had_an_answer = f"{request}-0"
        answer = label(server, [*made_up, *nonsense, before_it_had_an_answer], ["bad"] * 43)
        told = server.metrics()
    assert answer == {"accepted": 43, "unknown": 0}
    counted = family(told, "model_labels_total")
    assert len(counted) <= 9
    assert sum(counted.values()) == 40
    assert counted[("other",)] == 33


def test_an_id_holds_its_answer() -> None:
    name = whole("0" * 12 + "-" + "1" * 16, 255, "0123456789ab", 2, -1.5)
    assert re.fullmatch(r"0{12}-1{16}-ff-0123456789ab0002bfc00000", name)
    answer = answer_in(name)
    assert answer is not None
    assert (answer.version, answer.place, answer.figure) == ("0123456789ab", 2, -1.5)
    assert answer_in("0" * 12 + "-" + "1" * 16 + "-ff") is None

"""The API gives the pipeline's answers, at every address a platform may ask for them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from servers import Server, plain_rows

from perennial.contract import Contract
from perennial.files import read_json
from perennial.model import answer, open_model
from perennial.serving.local import free_port

Models = Callable[[str], Path]
Start = Callable[..., Server]
ODD = {
    "nothing given": {},
    "all null": {"mass": None, "width": None, "sealed": None, "colour": None, "remark": None},
    "unseen category": {"mass": 0.5, "width": 1, "sealed": True, "colour": "octarine", "remark": "bad 😀 news"},
    "the ends of a range": {"width": 0, "mass": -1000},
    "whole number, long text": {"mass": -3, "width": 10, "remark": "schön " * 1000},
}


def pipeline(folder: Path, table: pd.DataFrame) -> Any:
    """What the training side says of these rows."""
    contract = Contract.model_validate(read_json(folder / "models/profile.json")["contract"])
    return answer(open_model(str(folder / "models/model.onnx")), table, contract)


def frame(rows: list[dict[str, Any]], like: pd.DataFrame) -> pd.DataFrame:
    features = [name for name in like if name != "grade"]
    return pd.DataFrame([{name: row.get(name) for name in features} for row in rows]).astype(like[features].dtypes)


def figures(prediction: dict[str, Any]) -> dict[str, float]:
    return prediction.get("probabilities") or {"value": prediction["value"]}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_api_gives_the_answers_of_the_pipeline(task: str, models: Models, start: Start, make_table: Any) -> None:
    table = make_table(task, rows=200, seed=5).drop(columns="grade")
    rows = plain_rows(table) + list(ODD.values())
    expected = pipeline(models(task), frame(rows, table))
    with start(task) as server:
        one_by_one, together = [server.predict(row)[0] for row in rows[-40:]], server.predict(*rows)
    profile = read_json(models(task) / "models/profile.json")
    if task == "regression":
        found = np.array([given["value"] for given in together])
    else:
        found = np.array([[given["probabilities"][name] for name in profile["classes"]] for given in together])
        place = found[:, 1] >= profile["threshold"] if task == "binary" else found.argmax(axis=1)
        labels = [profile["classes"][int(index)] for index in place]
        assert [given["label"] for given in together] == labels
        assert set(labels) == set(profile["classes"])
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-6)
    for alone, amid in zip(one_by_one, together[-40:], strict=True):
        assert figures(alone) == pytest.approx(figures(amid), rel=1e-5)


def test_the_label_turns_at_the_threshold_of_the_profile(server: Server, models: Models, make_table: Any) -> None:
    threshold = read_json(models("binary") / "models/profile.json")["threshold"]
    given = server.predict(*plain_rows(make_table(rows=300, seed=8).drop(columns="grade")))
    for prediction in given:
        assert (prediction["label"] == "bad") == (prediction["probabilities"]["bad"] >= threshold)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)


def test_the_order_of_rows_and_fields_is_kept(server: Server, make_table: Any) -> None:
    rows = plain_rows(make_table(rows=100, seed=4).drop(columns="grade"))
    places = random.Random(0).sample(range(100), 100)
    mixed = server.predict(*(dict(reversed(rows[place].items())) for place in places))
    straight = server.predict(*rows)
    assert [each["probabilities"] for each in mixed] == [straight[place]["probabilities"] for place in places]


def test_every_platform_finds_its_own_address(start: Start) -> None:
    """MLflow and SageMaker ask /invocations and /ping, KServe /v1/models, Vertex AI what it says in AIP_*."""
    vertex = {"AIP_HTTP_PORT": free_port(), "AIP_PREDICT_ROUTE": "/vertex/ask", "AIP_HEALTH_ROUTE": "/vertex/alive"}
    body = {"instances": [ODD["unseen category"]]}
    with start(MODEL_NAME="parcels-1.2", **vertex) as server:
        answers = [
            server.post(path, body)
            for path in ("/predict", "/invocations", "/v1/models/parcels-1.2:predict", "/vertex/ask")
        ]
        alive = [server.get(path) for path in ("/healthz", "/ping", "/v1/models/parcels-1.2", "/vertex/alive")]
        ready = server.get("/readyz").json()
    assert {given.status for given in answers} == {200}
    assert len({str(given.json()["predictions"][0]["probabilities"]) for given in answers}) == 1
    assert {given.json()["model_version"] for given in answers} == {ready["model_version"]}
    assert [given.json() for given in alive] == [{"status": "ok", "name": "parcels-1.2", "ready": True}] * 4


def test_ids_are_unique_and_feedback_knows_them_again(server: Server) -> None:
    ids = [each["prediction_id"] for _ in range(50) for each in server.predict(*[{}] * 17)]
    assert len(set(ids)) == len(ids) == 850
    forged = ids[0][:25] + ("0" if ids[0][25] != "0" else "1") + ids[0][26:]  # a check digit
    labels = [{"prediction_id": name, "label": "bad"} for name in [*ids, forged]]
    assert server.post("/feedback", {"labels": labels}).json() == {"accepted": 851, "unknown": 1}


def test_version_tells_what_is_served(server: Server, models: Models) -> None:
    profile, told = read_json(models("binary") / "models/profile.json"), server.get("/version").json()
    assert told["model_sha256"] == profile["model"]["sha256"]
    assert told["model_version"] == told["model_sha256"][:12]
    assert told["contract_sha256"] == profile["contract_digest"]
    assert told["trained_on"] == profile["trained_on"]
    assert told["git_commit"] == "abc"

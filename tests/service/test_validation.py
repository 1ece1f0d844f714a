"""A request that does not fit gets a code, a place and a reason; never its own content back, never a 5xx."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from servers import Answer, Server, train_model

Start = Callable[..., Server]
SECRET = "s3cret-4711"
ROW = {"mass": 1.5, "width": 2, "sealed": True, "colour": "red", "remark": "ok"}
BAD_ROWS = {
    "text for a number": ({"mass": SECRET}, "$.instances[1].mass", "valid number"),
    "digits in quotes": ({"mass": "12"}, "$.instances[1].mass", "valid number"),
    "boolean for a number": ({"mass": True}, "$.instances[1].mass", "valid number"),
    "list for a number": ({"mass": [SECRET]}, "$.instances[1].mass", "valid number"),
    "too small": ({"width": -47.11}, "$.instances[1].width", "greater than or equal to 0"),
    "too large": ({"width": 4711}, "$.instances[1].width", "less than or equal to 10"),
    "larger than float32": ({"mass": 3.5e38}, "$.instances[1].mass", "less than or equal to"),
    "integer of 400 digits": ({"mass": 10**400}, "$.instances[1].mass", ""),
    "number for a category": ({"colour": 4711}, "$.instances[1].colour", "valid string"),
    "object for a category": ({"colour": {SECRET: 1}}, "$.instances[1].colour", "valid string"),
    "endless category": ({"colour": SECRET * 50}, "$.instances[1].colour", "at most 200 characters"),
    "number for a text": ({"remark": 4711}, "$.instances[1].remark", "valid string"),
    "endless text": ({"remark": SECRET * 1000}, "$.instances[1].remark", "at most 10000 characters"),
    "text for a boolean": ({"sealed": "true"}, "$.instances[1].sealed", "valid boolean"),
    "number for a boolean": ({"sealed": 1}, "$.instances[1].sealed", "valid boolean"),
    "unknown field": ({"weight": SECRET}, "$.instances[1].weight", "not permitted"),
}
BAD_BODIES = {
    "no instances": ({}, "$.instances", "required"),
    "instances null": ({"instances": None}, "$.instances", "valid array"),
    "instances an object": ({"instances": {"0": ROW}}, "$.instances", "valid array"),
    "no rows": ({"instances": []}, "$.instances", "at least 1"),
    "a row that is a list": ({"instances": [[SECRET]]}, "$.instances[0]", "be an object"),
    "a row that is null": ({"instances": [None]}, "$.instances[0]", "be an object"),
    "an extra key": ({"instances": [ROW], "debug": SECRET}, "$.debug", "not permitted"),
}
NOT_JSON = {
    "nothing": b"",
    "words": SECRET.encode(),
    "cut off": b'{"instances": [{"remark": "s3cret-4711',
    "single quotes": b"{'instances': [{'remark': 's3cret-4711'}]}",
    "two documents": b'{"instances": [{}]} {"remark": "s3cret-4711"}',
    "trailing comma": b'{"instances": [{"remark": "s3cret-4711",}]}',
    "not UTF-8": b'{"instances": [{"remark": "s3cret-4711 \xff"}]}',
    "UTF-16": '{"instances": [{"remark": "s3cret-4711"}]}'.encode("utf-16"),
    "half a character": rb'{"instances": [{"remark": "s3cret-4711 \ud800"}]}',
    "the other half": rb'{"instances": [{"colour": "s3cret-4711 \udc00"}]}',
    "a raw NUL": b'{"instances": [{"remark": "s3cret-4711 \x00"}]}',
    "too deep": b'{"instances": ' + b"[" * 100_000,
    "too deep in an object": b'{"instances": [{"mass": ' + b'{"s3cret-4711":' * 5_000 + b"1" + b"}" * 5_000 + b"}]}",
    "a number of 10,000 digits": b'{"instances": [{"mass": ' + b"4711" * 2_500 + b"}]}",
}
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"]
BAD_LABELS = {
    "no labels": ({}, "$.labels", "required"),
    "no such class": ({"prediction_id": "0" * 12 + "-" + "0" * 16 + "-0", "label": SECRET}, "$.labels[0].label", "bad"),
    "no id": ({"label": "bad"}, "$.labels[0].prediction_id", "required"),
    "an id of nobody": ({"prediction_id": SECRET, "label": "bad"}, "$.labels[0].prediction_id", "match pattern"),
}


def refusal(answer: Answer, status: int) -> Any:
    """The body of an error: always the same two fields, never what was sent."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert "4711" not in answer.body.decode()
    body = answer.json()
    assert set(body) == {"error", "details"}
    assert body["error"]
    return body


def details(answer: Answer) -> list[tuple[str, str]]:
    return [(each["path"], each["message"]) for each in refusal(answer, 422)["details"]]


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_field_that_does_not_fit_is_named(server: Server, case: str) -> None:
    change, path, reason = BAD_ROWS[case]
    ((where, message),) = details(server.post("/predict", {"instances": [ROW, ROW | change, ROW]}))
    assert where == path
    assert reason in message


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_request_of_another_shape_is_refused(server: Server, case: str) -> None:
    body, path, reason = BAD_BODIES[case]
    ((where, message),) = details(server.post("/predict", body))
    assert where == path
    assert reason in message


@pytest.mark.parametrize("case", BAD_LABELS)
def test_a_label_that_does_not_fit_is_named(server: Server, case: str) -> None:
    entry, path, reason = BAD_LABELS[case]
    ((where, message),) = details(server.post("/feedback", {"labels": [entry]} if entry else {}))
    assert where == path
    assert reason in message


def test_every_wrong_field_is_named_at_once_up_to_twenty(server: Server) -> None:
    wrong = {"mass": SECRET, "width": -1, "sealed": 0, "colour": 1, "remark": 2}
    assert len(details(server.post("/predict", {"instances": [wrong]}))) == 5
    assert len(details(server.post("/predict", {"instances": [wrong] * 100}))) == 20


@pytest.mark.parametrize("case", NOT_JSON)
@pytest.mark.parametrize("path", ["/predict", "/feedback"])
def test_what_is_not_json_is_refused(server: Server, path: str, case: str) -> None:
    assert refusal(server.post(path, NOT_JSON[case]), 400)["error"].startswith("not valid JSON")


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_what_is_no_finite_number_is_refused(server: Server, number: str) -> None:
    answer = server.post("/predict", b'{"instances": [{"mass": %s}]}' % number.encode())
    assert answer.status in (400, 422), answer.body


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_a_number_beyond_the_model_is_refused_instead_of_answered_with_null(start: Start, task: str) -> None:
    """It fits in a float32, but the model's own sums do not: there is nothing to tell."""
    with start(task) as server:
        ((where, _),) = details(server.post("/predict", {"instances": [ROW, {"mass": 3.4e38}]}))
    assert where == "$.instances[1]"


def test_odd_but_valid_json_is_scored(server: Server) -> None:
    plain = server.predict(ROW)[0]["probabilities"]
    twice = rb'{"instances": [{"mass": 9}], "instances": [{"mass": 3, "width": 2, "sealed": true, "colour": "red",'
    odd = twice + rb' "remark": "\u006f\u006b", "mass": 1.50e0}]}' + b"\n\t "
    assert server.post("/predict", odd).json()["predictions"][0]["probabilities"] == plain
    for strange in ("\x00", "a\x00b", "\u202e", "\ufffe", "\U0010ffff", "' OR 1=1 --", "{{7*7}}", " " * 200):
        assert len(server.predict(ROW | {"remark": strange, "colour": strange})) == 1


def test_an_unseen_category_is_scored_and_counted(server: Server) -> None:
    before = server.metrics()["model_feature_bin_total", "other", "colour"]
    server.predict(ROW | {"colour": "octarine"}, ROW)
    assert server.metrics()["model_feature_bin_total", "other", "colour"] == before + 1


def test_what_the_contract_demands_is_demanded(tmp_path: Path, make_params: Any, make_table: Any, start: Start) -> None:
    features = {
        "mass": {"type": "number", "required": True},
        "colour": {"type": "category", "values": ["red", "grün", "🟣"], "unseen": "refuse"},
    }
    table = make_table(rows=500).dropna(subset=["mass"])
    folder = train_model(tmp_path / "strict", make_params(features=features), table)
    with start(folder=folder) as server:
        assert len(server.predict({"mass": 1, "colour": "grün"}, {"mass": 1, "colour": None}, {"mass": 1})) == 3
        cases = [({"mass": None}, "mass"), ({}, "mass"), ({"mass": 1, "colour": SECRET}, "colour")]
        for row, name in cases:
            ((path, message),) = details(server.post("/predict", {"instances": [row]}))
            assert path == f"$.instances[0].{name}"
        assert "'red'" in message


def test_other_addresses_methods_and_types_are_refused(server: Server) -> None:
    refusal(server.get(f"/{SECRET}"), 404)
    refusal(server.post("/predict/", {"instances": [ROW]}), 404)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
        answer = server(method, "/predict")
        refusal(answer, 405)
        assert answer.headers["Allow"] == "POST"
    answer = server.post("/version", {})
    refusal(answer, 405)
    assert "GET" in answer.headers["Allow"]
    assert server("HEAD", "/predict").body == b""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/json5"):
        refusal(server.post("/predict", {"instances": [ROW]}, headers={"Content-Type": kind}), 415)
    for kind in ("application/json", "Application/JSON; charset=utf-8"):
        assert server.post("/predict", {"instances": [ROW]}, headers={"Content-Type": kind}).status == 200


def chunks(body: bytes) -> Iterator[bytes]:
    return (body[at : at + 9_999] for at in range(0, len(body), 9_999))


def test_a_body_is_limited_in_bytes_and_rows_however_it_is_sent(start: Start) -> None:
    with start(MAX_BYTES=100_000, MAX_ROWS=7) as server, closing(server.client()) as client:
        exact = json.dumps({"instances": [ROW]}).encode().ljust(100_000)
        for send in (bytes, chunks):
            assert client("POST", "/predict", send(exact)).status == 200
            refusal(client("POST", "/predict", send(exact + b" ")), 413)
        assert client("POST", "/predict", {"instances": [{}] * 7}).status == 200
        refusal(client("POST", "/predict", {"instances": [{}] * 8}), 413)
        refusal(client("POST", "/feedback", {"labels": [{"prediction_id": "", "label": "bad"}] * 8}), 413)


@pytest.mark.parametrize("send", [bytes, chunks])
def test_who_sends_too_much_is_told_so(start: Start, send: Callable[[bytes], Any]) -> None:
    """And does not meet a closed connection half-way, as most clients send all before they listen."""
    with start(MAX_BYTES=1_000_000, API_KEY="key") as server:
        for _ in range(5):
            refusal(server.post("/predict", send(b" " * 3_000_000), headers={"X-API-Key": "key"}), 413)
            refusal(server.post("/predict", send(b" " * 3_000_000)), 401)
        assert server.get("/healthz").status == 200


@pytest.mark.parametrize("key", ["k3y-4711", "schlüssel 🔑"])
def test_an_api_key_opens_by_header_bearer_token_or_password(start: Start, key: str) -> None:
    def on_the_wire(text: str) -> str:
        return text.encode().decode("latin-1")  # http.client encodes it back

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(f"anyone:{text}".encode()).decode()

    right = [{"X-API-Key": on_the_wire(key)}, {"Authorization": basic(key)}]
    if " " not in key:  # a token has no spaces
        right.append({"Authorization": f"Bearer {key}"})
    wrong = [{}, {"X-API-Key": ""}, {"X-API-Key": key[:1]}, {"X-API-Key": "ÿ" * 12}, {"X-API-Key": "x" * 5000}]
    wrong += [{"Authorization": text} for text in ("Bearer nobody", "Bearer", "Basic", "Basic ?", basic("4711"), "x y")]
    with start(API_KEY=key) as server:
        for headers in right:
            assert server.post("/predict", {"instances": [ROW]}, headers=headers).status == 200, headers
            assert server.get("/metrics", headers=headers).status == 200
        for headers in wrong:
            answer = server.post("/predict", {"instances": [ROW]}, headers=headers)
            assert "Basic" in answer.headers["WWW-Authenticate"]
            refusal(answer, 401)
        for path in ("/", "/docs/", "/openapi.json", "/version", "/metrics", "/nowhere"):
            refusal(server.get(path), 401)
        for path in ("/healthz", "/readyz", "/ping", "/v1/models/model"):
            assert server.get(path).status == 200


def test_nothing_that_was_refused_is_logged_or_breaks_a_worker(server: Server) -> None:
    """Runs last in this module: after all of the above."""
    assert "4711" not in server.said()
    assert "Traceback" not in server.said()
    assert not [line for line in server.lines() if "4711" in json.dumps(line)]
    assert not [key for key in server.metrics() if key[0] == "model_requests_total" and key[1].startswith("5")]

"""Thousands of requests drawn from the API's own description: each is answered as the description says.

Valid ones and broken ones, with every check schemathesis has: no 5xx, no undeclared status, type or body, no valid
request refused, no broken one accepted, no way around the key, 405 for other methods.
"""

from collections.abc import Callable
from typing import Any

import schemathesis
from schemathesis.engine import events, from_schema
from servers import Server

KEY = {"X-API-Key": "key"}
SETTINGS: dict[str, Any] = {
    "headers": KEY,
    "continue-on-failure": True,
    "phases": {"stateful": {"enabled": False}},  # no operation needs what another one made
    "generation": {"max-examples": 280},
    "checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 405, 413, 415, 422]}},
}


def explored(address: str, seed: int) -> tuple[int, list[str]]:
    """How many requests were tried, and what was wrong with the answers."""
    config = schemathesis.Config.from_dict(SETTINGS | {"seed": seed})
    cases, wrong = 0, list[str]()
    for event in from_schema(schemathesis.openapi.from_url(address, config=config, headers=KEY)).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.cases)
            found = [check.failure_info for checks in event.recorder.checks.values() for check in checks]
            wrong += [f"{each.failure.title}: {each.failure.message}\n{each.code_sample}" for each in found if each]
    return cases, wrong


def test_every_answer_is_as_described(start: Callable[..., Server]) -> None:
    with start(API_KEY="key", MAX_ROWS=3) as server:
        runs = [explored(f"http://127.0.0.1:{server.port}/openapi.json", seed) for seed in (1, 2, 3)]
        told = server.get("/metrics", headers=KEY).body.decode().splitlines()
    assert [wrong for _, wrong in runs] == [[], [], []]
    assert sum(cases for cases, _ in runs) >= 2_000
    assert sum(float(line.split()[-1]) for line in told if line.startswith("model_requests_total{")) >= 2_000

"""The reverse proxy of deploy/nginx, live: who answers, what a shadow costs, and that no request is lost."""

import math
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from proxy import DEPLOY, Backend, Proxy, needs, until


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    running: list[Proxy] = []

    def start(challenger: str = "", shadow: str = "") -> Proxy:
        running.append(Proxy(tmp_path, challenger, shadow).__enter__())
        return running[-1]

    yield start
    for each in running:
        each.__exit__()


@needs("nginx")
def test_the_weights_hold(proxy: Callable[..., Proxy]) -> None:
    running = proxy(challenger="10%")
    answers = [running.ask() for _ in range(1500)]
    assert {code for code, _ in answers} == {200}
    share = sum(who == "challenger" for _, who in answers) / len(answers)
    assert abs(share - 0.1) < 5 * math.sqrt(0.1 * 0.9 / len(answers))
    assert len(running.champion.asked) + len(running.challenger.asked) == len(answers)
    assert until(lambda: len(running.log()) == len(answers))
    assert sum(line["upstream"] == "challenger" for line in running.log()) == len(running.challenger.asked)


@needs("nginx")
def test_what_the_split_is_shipped_as_asks_the_champion_alone(proxy: Callable[..., Proxy], tmp_path: Path) -> None:
    running = proxy(challenger="100%", shadow="100%")
    assert running.ask() == (200, "challenger")
    shutil.copy(DEPLOY / "nginx/split.conf", tmp_path)
    running.connection.close()  # a connection stays with the workers of before
    running.reload()
    running.challenger.asked.clear()
    assert {running.ask() for _ in range(50)} == {(200, "champion")}
    assert not running.challenger.asked


@needs("nginx")
def test_no_line_stands_for_nothing(tmp_path: Path) -> None:
    for share, code in {"": 0, "0.01%": 0, "100%": 0, "0%": 1, "101%": 1}.items():
        offered = Proxy(tmp_path, share)
        done = subprocess.run(offered.command("-t"), cwd=tmp_path, capture_output=True, text=True)
        offered.champion.stop()
        offered.challenger.stop()
        assert done.returncode == code, (share, done.stderr)


@needs("nginx")
def test_the_shadow_sees_all_and_its_answers_reach_nobody(proxy: Callable[..., Proxy]) -> None:
    running = proxy(shadow="100%")
    running.challenger.code = 500
    bodies = [random.Random(i).randbytes(10 + 9000 * (i % 40)) for i in range(120)]  # the larger ones go by a file
    paths = ["/predict?x=1", "/v1/models/model:predict", "/invocations"]
    for i, body in enumerate(bodies):
        assert running.ask(paths[i % 3], body, Authorization=f"Bearer {i}") == (200, "champion")
    assert until(lambda: len(running.challenger.asked) == len(bodies))

    def seen(backend: Backend) -> list[tuple[str, bytes, str, str]]:
        return sorted((path, body, head["Authorization"], head["X-Request-Id"]) for path, body, head in backend.asked)

    assert seen(running.challenger) == seen(running.champion)
    assert {body for _, body, *_ in seen(running.challenger)} == set(bodies)


@needs("nginx")
def test_half_a_shadow_sees_half(proxy: Callable[..., Proxy]) -> None:
    running = proxy(shadow="50%")
    assert {running.ask() for _ in range(600)} == {(200, "champion")}
    seen = -1
    while seen != (seen := len(running.challenger.asked)):  # until no more come
        time.sleep(0.5)
    assert abs(seen - 300) < 5 * math.sqrt(600 / 4)


@needs("nginx")
@pytest.mark.parametrize("trouble", ["down", "slow"])
def test_a_shadow_in_trouble_costs_the_champion_nothing(proxy: Callable[..., Proxy], trouble: str) -> None:
    """On kept connections too, where nginx' own `mirror` would hold back the next request."""
    running = proxy(shadow="100%")
    if trouble == "down":
        running.challenger.stop()
    else:
        running.challenger.delay = 1.0
    began, answers = time.monotonic(), [running.ask() for _ in range(150)]
    took = time.monotonic() - began
    assert set(answers) == {(200, "champion")}
    assert took < 2  # 150 seconds, if each waited for its copy
    if trouble == "slow":
        assert until(lambda: len(running.challenger.asked) == 64)  # as many at a time as it is allowed


@needs("nginx")
@pytest.mark.parametrize("trouble", ["down", "failing", "full", "slow"])
def test_a_challenger_in_trouble_is_answered_for(proxy: Callable[..., Proxy], trouble: str) -> None:
    running = proxy(challenger="100%")
    match trouble:
        case "down":
            running.challenger.stop()
        case "slow":
            running.challenger.delay = 4
        case _:
            running.challenger.code = {"failing": 500, "full": 503}[trouble]
    body = b'{"instances": [{"x": 1}]}'
    for _ in range(1 if trouble == "slow" else 20):
        assert running.ask("/invocations?a=%20b", body) == (200, "champion")
    assert {(path, sent) for path, sent, _ in running.champion.asked} == {("/invocations?a=%20b", body)}
    code = {"down": "502", "failing": "500", "full": "503", "slow": "504"}[trouble]
    assert until(lambda: {line["codes"] for line in running.log()} == {f"{code} : 200"})


@needs("nginx")
def test_what_the_challenger_says_of_a_request_is_its_answer(proxy: Callable[..., Proxy]) -> None:
    running = proxy(challenger="100%")
    running.challenger.code = 422
    assert running.ask() == (422, "challenger")
    assert not running.champion.asked


@needs("nginx")
def test_all_but_predictions_is_the_champions(proxy: Callable[..., Proxy]) -> None:
    running = proxy(challenger="100%", shadow="100%")
    for path in ("/", "/feedback", "/readyz", "/version", "/docs/", "/v1/models/model", "/predictor"):
        assert running.ask(path) == (200, "champion"), path
    assert not running.challenger.asked
    for path in ("/metrics", "/shadow"):
        assert running.ask(path, method="GET")[0] == 404
    assert len(running.champion.asked) == 7


@needs("nginx")
def test_callers_learn_an_id_and_not_who_answered(proxy: Callable[..., Proxy]) -> None:
    running = proxy(challenger="50%")
    for _ in range(20):
        response, who = running.exchange("/predict", b"{}", **{"X-Request-Id": "mine"})
        backend = running.champion if who == "champion" else running.challenger
        assert response.headers["X-Request-Id"] == backend.asked[-1][2]["X-Request-Id"] != "mine"
        assert not {"x-track", "x-upstream"} & {name.lower() for name in response.headers}
        assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-Id"])


@needs("nginx")
@pytest.mark.parametrize("path", ["/predict", "/feedback"])
def test_a_kept_connection_that_breaks_loses_no_request(proxy: Callable[..., Proxy], path: str) -> None:
    running = proxy()
    for _ in range(10):
        assert running.ask(path) == (200, "champion")
        running.champion.hang_up = True  # the next request of a kept connection
        assert running.ask(path, b"again") == (200, "champion")
    assert [body for _, body, _ in running.champion.asked].count(b"again") == 10


@needs("nginx")
def test_a_new_split_loses_no_request(proxy: Callable[..., Proxy]) -> None:
    running = proxy()
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            connection = HTTPConnection("127.0.0.1", running.port, timeout=10)
            connection.request("POST", "/predict", b"{}", {"Connection": "close"})
            response = connection.getresponse()
            answers.append((response.status, response.read().decode()))
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for share in ("50%", "", "100%"):
        running.split(share)
        running.reload()
    over.set()
    for thread in threads:
        thread.join()
    assert {code for code, _ in answers} == {200}
    assert {who for _, who in answers} == {"champion", "challenger"}
    assert len(answers) > 50

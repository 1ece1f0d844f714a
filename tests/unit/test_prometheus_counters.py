"""Prometheus' counters subtracted, and what is read from the rest: quantiles, shifts, and each bound of a canary."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from perennial.errors import UserError
from perennial.release.canary import FEW, Bounds, steps_of, trouble
from perennial.release.prometheus import Traffic, between, query, shift, totals

INF = float("inf")
SHARES = np.array([0.19, 0.12, 0.07, 0.065, 0.075, 0.03, 0.08, 0.07, 0.17, 0.13])  # a model's answers, in tenths
PLAIN = {str(place): 1000 * share for place, share in enumerate(SHARES)}


# Quantiles


@pytest.mark.parametrize(
    ("share", "seconds", "expected"),
    [
        (0.95, {}, 0.0),
        (0.95, {0.1: 0, 0.2: 0, INF: 0}, 0.0),
        (0.5, {0.1: 100, INF: 100}, 0.05),  # linear from 0
        (1.0, {0.1: 100, INF: 100}, 0.1),
        (0.5, {0.1: 50, 0.2: 100, INF: 100}, 0.1),  # the first bucket that holds so many
        (0.75, {0.1: 50, 0.2: 100, INF: 100}, 0.15),
        (0.75, {0.1: 50, 0.15: 50, 0.25: 100, INF: 100}, 0.2),  # an empty bucket between
        (0.95, {0.1: 90, 0.2: 94, INF: 100}, 0.2),  # beyond the last bound: that bound
        (0.95, {INF: 7}, 0.0),
        (0.95, {0.2: 94, INF: 100, 0.1: 90}, 0.2),  # in any order
    ],
)
def test_a_quantile_is_what_histogram_quantile_says(share: float, seconds: dict[float, float], expected: float) -> None:
    assert Traffic(seconds=seconds).quantile(share) == pytest.approx(expected)


def test_the_share_within_a_time_is_the_quantile_the_other_way_round() -> None:
    took = Traffic(seconds={0.01: 40, 0.1: 90, 1.0: 99, INF: 100})
    for share in (0.1, 0.4, 0.5, 0.9, 0.95, 0.99):
        assert took.within(took.quantile(share)) == pytest.approx(share)
    assert took.within(0.0) == 0
    assert took.within(60.0) == 0.99  # of the last one nothing is known
    assert Traffic().within(0.1) == 1.0
    assert Traffic(seconds={INF: 3}).within(0.1) == 0.0


# What was added

NOW = Traffic(100, 10, 200, 5, 4, {0.1: 60, INF: 100}, {"a": 150, "b": 50})


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (Traffic(), NOW),
        (NOW, Traffic(0, 0, 0, 0, 0, {0.1: 0, INF: 0}, {"a": 0, "b": 0})),
        (
            Traffic(40, 1, 80, 0, 2, {0.1: 30, INF: 40}, {"a": 80}),
            Traffic(60, 9, 120, 5, 2, {0.1: 30, INF: 60}, {"a": 70, "b": 50}),
        ),
        # It began again, and what it has is all new: also of a counter that is past its old value by now.
        (Traffic(101, 10, 200, 5, 4, {0.1: 60, INF: 100}, {"a": 150, "b": 50}), NOW),
        (Traffic(900, 4, 900, 0, 4, {0.1: 800, INF: 900}, {"a": 900}), NOW),
        (Traffic(100, 10, 200, 5, 4, {0.1: 61, INF: 100}), NOW),
        (Traffic(100, 10, 200, 5, 5, {0.1: 60, INF: 100}), NOW),
        (Traffic(100, 10, 200, 5, 4, {0.1: 60, INF: 100}, {"c": 1}), NOW),
    ],
)
def test_what_was_added(before: Traffic, expected: Traffic) -> None:
    assert between(before, NOW) == expected


def test_nothing_is_added_by_instances_that_are_gone() -> None:
    assert between(NOW, Traffic()) == Traffic()


# Shift


@pytest.mark.parametrize(("rows", "others"), [(200, 200), (100, 2000), (5000, 500)])
def test_where_nothing_differs_the_shift_is_chance(rows: int, others: int) -> None:
    draw = np.random.default_rng(5)
    moved = []
    for _ in range(2000):
        pair = [{str(i): float(n) for i, n in enumerate(draw.multinomial(size, SHARES))} for size in (rows, others)]
        found, chance = shift(Traffic(bins=pair[0]), Traffic(bins=pair[1]))
        moved.append(found)
    assert chance == pytest.approx(9 * (1 / rows + 1 / others))
    assert np.mean(moved) == pytest.approx(chance, rel=0.1)


def test_a_shift_is_the_same_in_both_directions_and_grows_with_the_difference() -> None:
    near, far = Traffic(bins={"a": 450, "b": 550}), Traffic(bins={"a": 100, "b": 900})
    start = Traffic(bins={"a": 500, "b": 500})
    assert shift(start, start)[0] == 0
    assert 0 < shift(start, near)[0] < 0.02 < 0.25 < shift(start, far)[0]
    assert shift(start, far)[0] == pytest.approx(shift(far, start)[0])
    p, q = 0.5, 100.5 / 1001  # by hand
    assert shift(start, far)[0] == pytest.approx((p - q) * np.log(p / q) + (q - p) * np.log((1 - p) / (1 - q)))


@pytest.mark.parametrize("bins", [{}, {"a": 0.0}])
def test_without_rows_nothing_moved(bins: dict[str, float]) -> None:
    assert shift(Traffic(bins=bins), Traffic(bins={"a": 9})) == (0.0, 0.0)
    assert shift(Traffic(bins={"a": 9}), Traffic(bins=bins)) == (0.0, 0.0)


def test_a_bin_that_only_one_has_is_counted() -> None:
    assert shift(Traffic(bins={"a": 500}), Traffic(bins={"a": 250, "b": 250}))[0] > 0.25


# Bounds of a canary


def group(requests: int = 1000, errors: int = 0, p95: float = 0.01, lost: int = 0, bins: Any = PLAIN) -> Traffic:
    took = {p95: 0.95 * requests, 4 * p95: requests, INF: requests}
    return Traffic(requests, errors, requests, lost, seconds=took, bins=bins)


def moved(share: float) -> dict[str, float]:
    """The answers of a model that puts so much of the first tenths into the last."""
    shares = SHARES.copy()
    shares[:5], shares[9] = SHARES[:5] * (1 - share), SHARES[9] + share * SHARES[:5].sum()
    return {str(place): 1000 * part for place, part in enumerate(shares)}


HEALTHY = group()


@pytest.mark.parametrize(
    ("stops", "passes", "words"),
    [
        # at a thousand requests, one in a hundred more may fail, and what chance gives
        (group(errors=30), group(errors=16), "3.0% of its requests fail, 0.0% of the champion's"),
        (group(errors=1000), group(errors=0), "100.0% of its requests fail"),
        # at twenty, chance gives more
        (group(FEW, errors=7), group(FEW, errors=2), "35.0% of its requests fail"),
        # up to 25 ms nothing is too slow; beyond, twice the champion's is
        (group(p95=0.05), group(p95=0.02), "95 % of its answers take up to 50 ms, the champion's 10 ms"),
        (group(FEW, p95=0.2), group(FEW, p95=0.025), "95 % of its answers take up to 200 ms"),
        (group(lost=1), group(lost=0), "1 of its rows were not logged"),
        (replace(group(1), started=1), replace(group(), started=0), "1 of its workers began anew"),
        (group(bins=moved(0.8)), group(bins=moved(0.3)), "its predictions are spread differently: PSI 1."),
    ],
)
def test_each_bound_stops_and_lets_pass(stops: Traffic, passes: Traffic, words: str) -> None:
    assert trouble(HEALTHY, stops, Bounds()).startswith(words)
    assert trouble(HEALTHY, passes, Bounds()) == ""


def test_it_is_compared_with_the_champion() -> None:
    """What is wrong with both is not the challenger's fault."""
    ill = group(errors=200, p95=0.2, bins=moved(0.8))
    assert trouble(ill, ill, Bounds()) == ""
    assert trouble(ill, group(errors=240, p95=0.2, bins=moved(0.8)), Bounds()) == ""
    assert "28.0%" in trouble(ill, group(errors=280, p95=0.2, bins=moved(0.8)), Bounds())
    assert trouble(ill, group(errors=200, p95=0.38, bins=moved(0.8)), Bounds()) == ""
    assert "450 ms" in trouble(ill, group(errors=200, p95=0.45, bins=moved(0.8)), Bounds())
    assert "spread" in trouble(ill, group(errors=200, p95=0.2), Bounds())


@pytest.mark.parametrize(
    ("bounds", "ill"),
    [
        (Bounds(errors=0.5), group(errors=300)),
        (Bounds(slower=9), group(p95=0.08)),
        (Bounds(free=0.5), group(p95=0.4)),
        (Bounds(shift=5), group(bins=moved(0.8))),
    ],
)
def test_each_bound_can_be_moved(bounds: Bounds, ill: Traffic) -> None:
    assert trouble(HEALTHY, ill, Bounds())
    assert trouble(HEALTHY, ill, bounds) == ""


def labelled(labels: float, loss: float, spread: float = 0.2) -> Traffic:
    return replace(group(), labels=labels, loss=loss, spread=spread)


PRICES = {("yes", "yes"): 24.5, ("yes", "no"): -8.0, ("no", "yes"): 0.0, ("no", "no"): 0.0}


def priced(hits: float, alarms: float, misses: float, quiet: float) -> Traffic:
    outcomes = dict(zip(PRICES, (hits, alarms, misses, quiet), strict=True))
    return replace(group(), outcomes=outcomes, prices=PRICES)


def test_what_labels_tell_of_it_counts_where_there_are_enough() -> None:
    usual = labelled(400, 60)  # a mean loss of 0.15
    assert trouble(usual, labelled(400, 66), Bounds()) == ""  # 0.165, within chance
    assert trouble(usual, labelled(400, 20), Bounds()) == ""
    assert trouble(usual, labelled(99, 60), Bounds()) == ""
    assert trouble(labelled(99, 6), labelled(400, 100), Bounds()) == ""
    told = trouble(usual, labelled(400, 100), Bounds())
    assert told == "the loss of its answers is 0.25, of the champion's 0.15, by 400 labels"


def test_where_outcomes_have_a_price_money_counts() -> None:
    usual, worse = priced(100, 60, 20, 220), priced(40, 120, 80, 160)
    mean, variance, rows = usual.cost()
    worth = np.repeat([24.5, -8, 0, 0], [100, 60, 20, 220])
    assert (mean, variance, rows) == (pytest.approx(-worth.mean()), pytest.approx(worth.var()), 400)
    assert trouble(usual, priced(95, 62, 25, 218), Bounds()) == ""
    told = trouble(usual, worse, Bounds())
    assert told == "an answer of its is worth 0.05, of the champion's 4.92, by 400 labels"


def test_of_the_answers_to_a_few_requests_nothing_is_said() -> None:
    worst = group(FEW - 1, errors=FEW - 1, p95=2.0, lost=9, bins=moved(1))
    assert trouble(HEALTHY, worst, Bounds()) == ""
    assert trouble(HEALTHY, replace(worst, requests=FEW), Bounds())


def test_a_champion_that_began_anew_is_no_reason() -> None:
    """Its counters did too."""
    assert trouble(replace(HEALTHY, started=4), group(), Bounds()) == ""


def test_a_champion_that_did_nothing_yet_is_no_reason_to_divide_by_zero() -> None:
    assert trouble(Traffic(), group(), Bounds()) == ""
    assert "fail" in trouble(Traffic(), group(errors=500), Bounds())


@pytest.mark.parametrize("at_a_time", [5, 50])
def test_a_challenger_like_the_champion_is_hardly_ever_stopped(at_a_time: int) -> None:
    """However little traffic there is, and however often somebody looks: one answer in fifty is slow, of both."""
    draw, stopped = np.random.default_rng(11), 0
    for _ in range(100):
        counts = [np.zeros(13), np.zeros(13)]  # tenths; requests, those in 5 ms, those in 250 ms
        reason = ""
        while not reason and counts[1][10] < 500:
            for count, requests in zip(counts, (19 * at_a_time, at_a_time), strict=True):
                count += [*draw.multinomial(requests, SHARES), requests, draw.binomial(requests, 0.98), requests]
            champion, challenger = (
                Traffic(count[10], seconds={0.005: count[11], 0.25: count[12], INF: count[12]}, bins=tenths(count))
                for count in counts
            )
            reason = trouble(champion, challenger, Bounds())
        stopped += bool(reason)
    assert stopped <= 4


def tenths(count: Any) -> dict[str, float]:
    return {str(place): float(rows) for place, rows in enumerate(count[:10])}


def test_steps_grow() -> None:
    assert steps_of("5,25,50,100") == (5, 25, 50, 100)
    assert steps_of(" 1 , 100") == (1, 100)
    for wrong in ("", "0,50", "50,25", "50,50", "50,101", "-5", "5%", "5,,50", "half", "5.5"):
        with pytest.raises(UserError, match=r"--steps .*not growing percentages"):
            steps_of(wrong)


# Asking


@contextmanager
def answering(told: Any) -> Iterator[str]:
    """Something that answers every query with this, as JSON or as bytes, or with what this says of the expression."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if isinstance(told, bytes):
                self.wfile.write(told)
                return
            self.send_response(200)
            self.end_headers()
            expression = parse_qs(urlsplit(self.path).query)["query"][0]
            self.wfile.write(json.dumps(told(expression) if callable(told) else told).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_without_series_there_was_no_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"status": "success", "data": {"resultType": "vector", "result": []}}) as address:
        monkeypatch.setenv("PROMETHEUS_URL", address)
        assert query("up") == []
        assert totals('track="challenger"') == Traffic()


def test_probes_and_scrapes_are_no_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where no prediction was asked for yet, and Prometheus has nothing else to tell."""

    def told(expression: str) -> Any:
        probes = "model_requests_total" in expression and 'route="predict"' not in expression
        result = [{"metric": {"code": "200"}, "value": [0, "77"]}] if probes else []
        return {"status": "success", "data": {"resultType": "vector", "result": result}}

    with answering(told) as address:
        monkeypatch.setenv("PROMETHEUS_URL", address)
        assert totals('track="challenger"').requests == 0


@pytest.mark.parametrize(
    "told", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n<html>", [], {"data": {}}, {}]
)
def test_what_is_not_prometheus_is_named(told: Any) -> None:
    with (
        answering(told) as address,
        pytest.raises(UserError, match=rf"Prometheus at {address} does not answer(.|\n)*Fix"),
    ):
        query("up", address)


@pytest.mark.parametrize("address", ["localhost:9090", "127.0.0.1", "", "http://127.0.0.1:1"])
def test_an_address_that_is_none_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", address)
    with pytest.raises(UserError, match="PROMETHEUS_URL"):
        query("up")

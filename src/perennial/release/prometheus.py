"""Figures of the running service, from Prometheus: counters subtracted by hand, so that nothing is extrapolated."""

import http.client
import json
import os
import urllib.parse
import urllib.request
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perennial.errors import UserError
from perennial.psi import index

COUNTERS = ("requests", "errors", "rows", "lost", "started", "labels", "loss")
TABLES = ("seconds", "bins", "outcomes")  # counters too, by a label


@dataclass(frozen=True)
class Traffic:
    """What a group of instances did within a window."""

    requests: float = 0.0
    errors: float = 0.0  # answered with 5xx
    rows: float = 0.0
    lost: float = 0.0  # answered and not logged
    started: float = 0.0  # workers that began
    seconds: dict[Any, float] = field(default_factory=dict)  # upper bound -> requests up to it
    bins: dict[Any, float] = field(default_factory=dict)  # of the prediction
    labels: float = 0.0  # of its model's answers, wherever they were sent
    loss: float = 0.0  # of these answers, added up
    spread: float = 0.0  # of the loss of one, on the hold-out (standard deviation)
    outcomes: dict[Any, float] = field(default_factory=dict)  # (predicted, actual) -> labels
    prices: dict[Any, float] = field(default_factory=dict)  # (predicted, actual) -> what one is worth

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    def cost(self) -> tuple[float, float, float]:
        """What a labelled answer cost (its worth, negated, where outcomes have a price; else its loss): mean, variance
        of one, and how many there were."""
        if not self.prices:
            return self.loss / max(self.labels, 1.0), self.spread**2, self.labels
        counted = np.array([self.outcomes.get(pair, 0.0) for pair in self.prices])
        price, rows = -np.array(list(self.prices.values())), float(counted.sum())
        mean = float(counted @ price) / max(rows, 1.0)
        return mean, float(counted @ (price - mean) ** 2) / max(rows, 1.0), rows

    def within(self, limit: float) -> float:
        """The share of the requests that was answered in so many seconds: the inverse of `quantile`."""
        bounds = sorted(self.seconds)
        if not bounds or not self.seconds[bounds[-1]]:
            return 1.0
        known = [bound for bound in bounds if bound < float("inf")]
        counts = [self.seconds[bound] for bound in known]
        return float(np.interp(limit, [0.0, *known], [0.0, *counts])) / self.seconds[bounds[-1]]

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the requests was answered, linear within a bucket."""
        bounds = sorted(self.seconds)
        if not bounds or not self.seconds[bounds[-1]]:
            return 0.0
        wanted, below, low = share * self.seconds[bounds[-1]], 0.0, 0.0
        for bound in bounds:
            count = self.seconds[bound]
            if count >= wanted:
                return (
                    low if bound == float("inf") else low + (bound - low) * (wanted - below) / max(count - below, 1e-9)
                )
            below, low = count, bound
        return low


def query(expression: str, address: str | None = None) -> list[dict[str, Any]]:
    """The instant vector of an expression.

    Raises:
        UserError: when Prometheus does not answer, or refuses the expression.
    """
    root = address or os.environ.get("PROMETHEUS_URL", "http://127.0.0.1:9090")
    url = f"{root}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (an operator names the address)
            return list(json.load(answer)["data"]["result"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        raise UserError(f"Prometheus at {root} does not answer: {error}", "PROMETHEUS_URL=<where it is>") from None


def totals(selector: str) -> Traffic:
    """Counters as they stand, added up over the instances a selector such as `track="challenger"` names."""

    def by(metric: str, label: str, more: str = "") -> dict[str, float]:
        rows = query(f"sum by ({label}) ({metric}{{{selector}{more}}})")
        return {row["metric"].get(label, ""): float(row["value"][1]) for row in rows}

    predict = ',route="predict"'  # a scrape and a probe are requests too
    version = next(iter(by("model_info", "version")), "")  # a label is counted where it is sent, under this
    codes = by("model_requests_total", "code", predict)
    return Traffic(
        requests=sum(codes.values()),
        errors=sum(count for code, count in codes.items() if code.startswith("5")),
        rows=sum(by("model_rows_total", "").values()),
        lost=sum(by("model_log_lost_rows_total", "").values()),
        started=sum(by("model_workers_started_total", "").values()),
        labels=_one(f'sum(model_labels_total{{version="{version}"}})'),
        loss=_one(f'sum(model_label_loss_total{{version="{version}"}})'),
        spread=_one(f"max(model_ref_loss_std{{{selector}}})"),
        outcomes=_pairs(f'sum by (predicted, actual) (model_outcomes_total{{version="{version}"}})'),
        prices=_pairs(f"max by (predicted, actual) (model_outcome_value{{{selector}}})"),
        seconds={float(le): count for le, count in by("model_request_seconds_bucket", "le", predict).items()},
        bins=by("model_prediction_bin_total", "bin"),
    )


def _one(expression: str) -> float:
    found = query(expression)
    return float(found[0]["value"][1]) if found else 0.0


def _pairs(expression: str) -> dict[Any, float]:
    return {
        (row["metric"].get("predicted", ""), row["metric"].get("actual", "")): float(row["value"][1])
        for row in query(expression)
    }


def between(before: Traffic, after: Traffic) -> Traffic:
    """What was added. Where a counter fell, all of them began again, and all of `after` is new."""
    pairs = [(getattr(before, name), getattr(after, name)) for name in COUNTERS]
    tables = [(getattr(before, name), getattr(after, name)) for name in TABLES]
    pairs += [(count, new.get(key, 0.0)) for old, new in tables for key, count in old.items()]
    if any(new < old for old, new in pairs):
        return after
    added: dict[str, Any] = {name: getattr(after, name) - getattr(before, name) for name in COUNTERS}
    for name, (old, new) in zip(TABLES, tables, strict=True):
        added[name] = {key: count - old.get(key, 0.0) for key, count in new.items()}
    return replace(after, **added)


def shift(one: Traffic, other: Traffic) -> tuple[float, float]:
    """PSI between the predictions of two groups, and its mean by chance, (bins - 1)(1/n + 1/m)."""
    names = sorted({*one.bins, *other.bins})
    if not names:
        return 0.0, 0.0
    counted = [np.array([group.bins.get(name, 0.0) for name in names]) for group in (one, other)]
    return index(*counted)

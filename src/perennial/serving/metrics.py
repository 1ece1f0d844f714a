"""What Prometheus is told, added up over workers (`PROMETHEUS_MULTIPROC_DIR`).

Feature bins are counters, so that drift is a query: see `deploy/` and the PSI rule that reads them.
Every bin exists from the start, or the first row in a new one would be invisible to `rate`.
"""

from bisect import bisect_left
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
MISSING, OTHER = "missing", "other"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Locate = Callable[[Any], int]

REQUESTS = Counter("model_requests", "Requests", ["route", "code"])
SECONDS = Histogram("model_request_seconds", "Time to answer", ["route"], buckets=LATENCY)
ROWS = Counter("model_rows", "Rows scored")
FEATURE = Counter("model_feature_bin", "Rows of each bin of a feature", ["feature", "bin"])
SHARE = Gauge(
    "model_feature_bin_ref_share", "Share in training, smoothed", ["feature", "bin"], multiprocess_mode="livemax"
)
REF_ROWS = Gauge("model_feature_ref_rows", "Training rows", ["feature"], multiprocess_mode="livemax")
CRITICAL = Gauge("model_feature_psi_chi2_critical", "Chi-square quantile", ["feature"], multiprocess_mode="livemax")
ANSWER = Counter("model_prediction_bin", "Rows of each bin of the answer", ["bin"])
ANSWER_ROWS = Gauge("model_prediction_ref_rows", "Hold-out rows", multiprocess_mode="livemax")
ANSWER_SHARE = Gauge(
    "model_prediction_bin_ref_share", "Share on the hold-out, smoothed", ["bin"], multiprocess_mode="livemax"
)
WORKERS = Counter("model_workers_started", "Workers that began; a dead one is replaced")
LOST = Counter("model_log_lost_rows", "Rows answered but not logged", ["kind"])
FEEDBACK = Counter("model_feedback", "Labels received", ["known"])
INFO = Gauge("model_info", "1 for the model in use", ["version", "contract", "commit"], multiprocess_mode="livemax")


class Bins:
    """Counts where the values of a column fall, as the training profile binned them."""

    def __init__(self, facts: dict[str, Any], child: Callable[[str], Any], kind: str = "") -> None:
        self._edges: list[float] | None = facts.get("edges")
        values = facts.get("values", [])
        self._places = {value: place for place, value in enumerate(values)}
        self._words = kind == "text"
        shares = len(facts["shares"])
        extra = [] if not kind else [MISSING] if self._edges is not None else [MISSING, OTHER]
        extra = [_free(name, self._places) for name in extra]
        own = range(shares) if self._edges is not None else values
        self.names = [*(str(name).lower() if isinstance(name, bool) else str(name) for name in own), *extra]
        self._children = [child(name) for name in self.names]
        self._missing, self._other = shares, shares + 1

    def place(self, value: Any) -> int:
        if value is None:
            return self._missing
        if self._edges is None:
            return self._places.get(value, self._other)
        if self._words:
            if not (count := len(value.split())):
                return self._missing
            return bisect_left(self._edges, count)
        return bisect_left(self._edges, value)

    def count(self, values: Sequence[Any]) -> None:
        if len(values) == 1:
            self._children[self.place(values[0])].inc()
            return
        for place, rows in enumerate(np.bincount(list(map(self.place, values)))):
            if rows:
                self._children[place].inc(int(rows))


def _free(name: str, taken: Container[Any]) -> str:
    """The name of a bin that no value of the contract has."""
    return name if name not in taken else _free(f"{name}_", taken)


class ModelMetrics:
    """The counters of one model; made in each worker, after the fork."""

    def __init__(self, profile: dict[str, Any], version: str, commit: str) -> None:
        INFO.labels(version, profile["contract_digest"][:12], commit).set(1)
        rows = profile["trained_on"]["rows"]
        self._features = {}
        for name, facts in profile["features"].items():
            bins = Bins(facts, lambda label, name=name: FEATURE.labels(name, label), facts["type"])  # type: ignore[misc]
            self._features[name] = bins
            shares = [*facts["shares"], facts["missing"], facts.get(OTHER, 0.0)][: len(bins.names)]
            for label, share in zip(bins.names, shares, strict=True):  # smoothed, so that no logarithm meets 0
                SHARE.labels(name, label).set((share * rows + 0.5) / (rows + 0.5 * len(shares)))
            REF_ROWS.labels(name).set(rows)
            CRITICAL.labels(name).set(facts["chi2_critical"])
        asked = profile["promised"]["rows"]
        self._answers = Bins(profile["answers"], ANSWER.labels)
        for label, share in zip(self._answers.names, profile["answers"]["shares"], strict=True):
            ANSWER_SHARE.labels(label).set((share * asked + 0.5) / (asked + 0.5 * len(self._answers.names)))
        ANSWER_ROWS.set(asked)

    def count(self, rows: Sequence[dict[str, Any]], answers: Sequence[Any]) -> None:
        """Rows as they were validated; answers as the probability, class or value that is binned."""
        ROWS.inc(len(rows))
        for name, bins in self._features.items():
            bins.count([row.get(name) for row in rows])
        self._answers.count(answers)


def count_request(route: str, code: int, seconds: float) -> None:
    if (pair := _requests.get((route, code))) is None:
        pair = _requests[route, code] = (REQUESTS.labels(route, str(code)), SECONDS.labels(route))
    pair[0].inc()
    pair[1].observe(seconds)


_requests: dict[tuple[str, int], Any] = {}  # children by label: looking them up costs more than counting


def exposition() -> bytes:
    """The text format, added up over all workers, dead ones included."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)

"""How good the answers turn out to be, as labels arrive: counted at once, by the version that gave the answer.

Nothing is looked up. An id carries the version, the class and the figure of its answer (`ids.py`), so any worker of
any replica can count a label, long after the prediction. A label that is sent again is counted again: the log, which
keeps the latest of each, has the last word (`perennial drift`).
"""

from typing import Any

from prometheus_client import Counter, Gauge

from perennial.model import loss
from perennial.serving.ids import Answer, answer_in

LABELS = Counter("model_labels", "Labels of predictions made by us", ["version"])
LOSS = Counter("model_label_loss", "Their loss, added up (perennial.model.loss)", ["version"])
OUTCOMES = Counter("model_outcomes", "Predicted against actual class", ["version", "predicted", "actual"])
MEAN = Gauge("model_ref_loss_mean", "Mean loss on the hold-out", multiprocess_mode="livemax")
STD = Gauge("model_ref_loss_std", "Its standard deviation over rows", multiprocess_mode="livemax")
ROWS = Gauge("model_ref_loss_rows", "Hold-out rows", multiprocess_mode="livemax")
WORTH = Gauge("model_outcome_value", "What one is worth", ["predicted", "actual"], multiprocess_mode="livemax")
CURRENCY = Gauge("model_value_info", "1, with the currency", ["currency"], multiprocess_mode="livemax")
MOST = 8  # versions told apart: an id comes from outside, and each new label is memory


class Outcomes:
    """The counters of one worker; made after the fork."""

    def __init__(self, profile: dict[str, Any], version: str) -> None:
        self._task, self._classes, self._versions = profile["task"], profile["classes"], {version}
        promised = profile["promised"]
        MEAN.set(promised["loss"]["mean"])
        STD.set(promised["loss"]["std"])
        ROWS.set(promised["rows"])
        LABELS.labels(version)
        LOSS.labels(version)
        for predicted in self._classes:  # all pairs from the start, or the first would be invisible to `rate`
            for actual in self._classes:
                OUTCOMES.labels(version, predicted, actual)
        if profile["value"]:
            self._price(profile["value"])

    def _price(self, value: dict[str, Any]) -> None:
        negative, positive = self._classes
        WORTH.labels(positive, positive).set(value["true_positive"])
        WORTH.labels(positive, negative).set(value["false_positive"])
        WORTH.labels(negative, positive).set(value["false_negative"])
        WORTH.labels(negative, negative).set(value["true_negative"])
        CURRENCY.labels(value["currency"]).set(1)

    def count(self, prediction_id: str, label: Any) -> None:
        """Nothing for an id of an older format, or an answer that this model could not have given."""
        answer = answer_in(prediction_id)
        if answer is None or (self._classes and answer.place >= len(self._classes)):
            return
        if len(self._versions) < MOST:
            self._versions.add(answer.version)
        version = answer.version if answer.version in self._versions else "other"
        LABELS.labels(version).inc()
        LOSS.labels(version).inc(self._loss(answer, label))
        if self._classes:
            OUTCOMES.labels(version, self._classes[answer.place], label).inc()

    def _loss(self, answer: Answer, label: Any) -> float:
        actual = self._classes.index(label) if self._classes else label
        answered = answer.place if self._task == "multiclass" else answer.figure
        return float(loss(self._task, answered, actual))

"""The exported model: open it, ask it. Needs neither pandas nor scikit-learn."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.contract import Contract
from perennial.inputs import feed, feed_frame, layout

CHUNK = 50_000  # rows asked at once, so that memory stays bounded


def open_model(model: bytes | str) -> Any:
    """An ONNX Runtime session from a path or content, on one thread: sums in one order, so the same bits everywhere."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or it writes a device id and reports to its maker
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def answer_row(session: Any, row: Mapping[str, Any], inputs: Mapping[str, Sequence[str]]) -> list[float]:
    """The model's own output for one row of plain values: probabilities in the order of the classes, or one value."""
    output: list[float] = session.run([session.get_outputs()[-1].name], feed([row], inputs))[0][0].tolist()
    return output


def loss(task: str, answered: Any, actual: Any) -> Any:
    """How wrong an answer was, for one or many: 0 is perfect, and the mean of the hold-out is what a model promises.

    Two classes: the squared error of the probability (its mean is Brier's score). More: 1 when another class was
    predicted. A number: the absolute error, in the target's unit.

    Args:
        answered: the probability of the positive class, the place of the predicted class, or the value.
        actual: 1 or 0, the place of the class, or the value.
    """
    if task == "binary":
        return (actual - answered) ** 2
    return 1.0 * (answered != actual) if task == "multiclass" else abs(actual - answered)


def answer(session: Any, frame: Any, contract: Contract) -> NDArray[np.float64]:
    """Probabilities (rows, classes), or values (rows,) for a regression."""
    if not len(frame):  # the runtime refuses to run on nothing
        return np.empty((0, len(contract.target.classes))[: 1 + bool(contract.target.classes)])
    output, inputs = session.get_outputs()[-1].name, layout(contract)
    starts = range(0, len(frame), CHUNK)
    parts = [session.run([output], feed_frame(frame.iloc[at : at + CHUNK], inputs))[0] for at in starts]
    answers = np.concatenate(parts).astype(np.float64)
    return answers.ravel() if contract.task == "regression" else answers

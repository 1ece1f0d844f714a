"""The exported model: open it, ask it. Needs neither pandas nor scikit-learn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.contract import Contract
from perennial.inputs import feed_frame, layout

CHUNK = 50_000  # rows asked at once, so that memory stays bounded


def open_model(model: bytes | str) -> Any:
    """An ONNX Runtime session from a path or content, on one thread: sums in one order, so the same bits everywhere."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def answer(session: Any, frame: Any, contract: Contract) -> NDArray[np.float64]:
    """Probabilities (rows, classes), or values (rows,) for a regression."""
    output, inputs = session.get_outputs()[-1].name, layout(contract)
    starts = range(0, max(len(frame), 1), CHUNK)
    parts = [session.run([output], feed_frame(frame.iloc[at : at + CHUNK], inputs))[0] for at in starts]
    answers = np.concatenate(parts).astype(np.float64)
    return answers.ravel() if contract.task == "regression" else answers

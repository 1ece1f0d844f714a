"""The fitted pipeline as ONNX, and the proof that it gives the same answers.

Wrong conversions are silent: the check on real and on edge rows is what makes the export safe.
"""

from typing import Any

import numpy as np
import pandas as pd

from perennial.contract import Boolean, Category, Contract, Number
from perennial.errors import UserError
from perennial.inputs import layout
from perennial.model import answer, open_model
from perennial.pipeline.features import matrix

TOLERANCE = 1e-5  # largest difference of a probability; for a number, as a share of the target's spread
ROWS = 20_000  # hold-out rows compared
CONVERTIBLE = (
    "LogisticRegression, HistGradientBoosting*, GradientBoosting*, RandomForest*, ExtraTrees*, DecisionTree*, "
    "AdaBoostClassifier, MLPClassifier, BernoulliNB, "
    "LinearRegression, Ridge, HuberRegressor, PoissonRegressor, "
    "and with calibration: sigmoid LinearSVC, SVC and RidgeClassifier"
)
ODD_TEXTS = ["", "   ", "ÀÉÎ õü ß Ñandú", "😀👍🏽 ok", "Ünïcode_42, isn't it?", "日本語 данные", "word " * 200]


def to_onnx(pipeline: Any, contract: Contract) -> Any:
    """An ONNX ModelProto with the inputs of `inputs.layout`.

    Raises:
        UserError: when skl2onnx cannot convert the estimator.
    """
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kinds = {"numbers": FloatTensorType}
    inputs = [
        (name, kinds.get(name, StringTensorType)([None, len(columns)])) for name, columns in layout(contract).items()
    ]
    # C.UTF-8 is on every slim image; without it the runtime asks for en_US.
    options: dict[int, Any] = {
        id(step): {"locale": "C.UTF-8"} for name, step, _ in _fitted(pipeline) if name.startswith("text_")
    }
    if contract.task != "regression":
        options[id(pipeline)] = {"zipmap": False}
    try:
        model = skl2onnx.to_onnx(pipeline, initial_types=inputs, options=options)
    except Exception as error:  # skl2onnx raises whatever its converters raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UserError(
            f"{_model_name(pipeline)} does not convert to ONNX: {reason}", f"these do: {CONVERTIBLE}"
        ) from None
    # skl2onnx lists them in the order of a set of strings, which changes from process to process.
    domains = sorted(model.opset_import, key=lambda opset: str(opset.domain))
    del model.opset_import[:]
    model.opset_import.extend(domains)
    return model


def _fitted(pipeline: Any) -> Any:
    return pipeline.named_steps["features"].transformers_


def _model_name(pipeline: Any) -> str:
    return type(pipeline.named_steps["model"]).__name__


def check_parity(
    pipeline: Any, content: bytes, holdout: pd.DataFrame, contract: Contract, spread: float
) -> dict[str, Any]:
    """Compare both models on hold-out and edge rows.

    Args:
        spread: the scale of the answers: 1 for probabilities, the target's standard deviation for numbers.

    Raises:
        UserError: with the worst rows, when any answer differs by more than the tolerance.
    """
    rows = pd.concat([holdout.iloc[:ROWS], edge_rows(holdout, contract)], ignore_index=True)
    features = matrix(rows, contract)
    expected = pipeline.predict(features) if contract.task == "regression" else pipeline.predict_proba(features)
    try:
        converted = answer(open_model(content), rows, contract)
    except Exception as error:  # onnxruntime raises whatever its kernels raise
        reason = str(error).splitlines()[0][:300]
        raise UserError(
            f"{_model_name(pipeline)} as ONNX does not run: {reason}",
            f"choose another estimator; these do: {CONVERTIBLE}",
        ) from None
    scale = np.maximum(spread, np.abs(expected) if contract.task == "regression" else 0.0)
    difference = np.abs(converted - expected) / scale
    worst = difference if difference.ndim == 1 else difference.max(axis=1)
    if not worst.max() <= TOLERANCE:
        raise UserError(
            _worst_rows(rows, expected, converted, worst, contract),
            f"choose another estimator; these convert: {CONVERTIBLE}",
        )
    # Its order of magnitude: the digits behind it differ from machine to machine.
    return {
        "rows": len(rows),
        "difference_below": float(f"1e{np.floor(np.log10(max(worst.max(), 1e-9))) + 1:.0f}"),
        "tolerance": TOLERANCE,
    }


def _worst_rows(rows: pd.DataFrame, expected: Any, converted: Any, worst: Any, contract: Contract) -> str:
    order = np.argsort(-np.nan_to_num(worst, nan=np.inf))[:5]
    last = ... if contract.task == "regression" else (..., -1)  # the value, or the last class's probability
    figures = {"scikit_learn": expected[last][order], "onnx": converted[last][order], "difference": worst[order]}
    table = rows.loc[order, list(contract.features)].assign(**figures)
    count = int((~(worst <= TOLERANCE)).sum())  # what is no number is a difference too
    return (
        f"the ONNX model differs from scikit-learn on {count} of {len(rows)} rows (tolerance {TOLERANCE:g}). "
        f"The worst:\n{table.to_string(max_colwidth=24)}"
    )


def edge_rows(sample: pd.DataFrame, contract: Contract, count: int = 64) -> pd.DataFrame:
    """Rows of missing values, unseen categories, extreme numbers and odd texts, in every mixture."""
    rng = np.random.default_rng(0)
    columns = {}
    for name, spec in contract.features.items():
        if isinstance(spec, Number):
            seen = sample[name].agg(["min", "max"]).fillna(0.0)
            ends = [
                spec.min if spec.min is not None else seen["min"] * 2,
                spec.max if spec.max is not None else seen["max"] * 2,
            ]
            columns[name] = pd.Series(rng.choice([np.nan, 0.0, *ends], count), dtype="float64")
        elif isinstance(spec, Boolean):
            columns[name] = pd.Series([(None, True, False)[i] for i in rng.integers(0, 3, count)], dtype="boolean")
        else:
            choices = (
                [None, *spec.values, "never seen", "Ünseen 😀"] if isinstance(spec, Category) else [None, *ODD_TEXTS]
            )
            columns[name] = pd.Series([choices[index] for index in rng.integers(0, len(choices), count)], dtype="str")
        columns[name].iloc[0] = None  # the first row knows nothing at all
    return pd.DataFrame(columns)

"""Stage 2: fit, export, prove the export.

Reads data/prepared, writes models/model.onnx and models/profile.json. No pickle anywhere.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.console import run, step
from perennial.errors import UserError
from perennial.files import atomic, write_json
from perennial.inputs import encode_target
from perennial.model import answer, answer_row, open_model
from perennial.params import Params, Value, load

if TYPE_CHECKING:
    import pandas as pd

PREPARED = Path("data/prepared")
MODEL, PROFILE = Path("models/model.onnx"), Path("models/profile.json")
FOLDS = 3
MANY = 100_000  # rows from which more threads fit faster


def main() -> None:
    import pandas as pd

    from perennial.pipeline import export, profile

    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep: spinning is costly on shared cores
    params = load()
    train, holdout = (pd.read_parquet(PREPARED / f"{name}.parquet") for name in ("train", "holdout"))
    with step(f"Fitting {params.train.estimator.rpartition('.')[2]} on {len(train):,} rows"):
        pipeline, threshold = fit(train, params)
    with step("Converting to ONNX and comparing the answers"):
        content = export.to_onnx(pipeline, params.data).SerializeToString(deterministic=True)
        spread = float(train[params.data.target.name].std()) if params.data.task == "regression" else 1.0
        parity = export.check_parity(pipeline, content, holdout, params.data, spread)
        session = open_model(content)
        answers = answer(session, holdout.iloc[: export.ROWS], params.data)
    facts = profile.describe(train, params.data) | {"threshold": threshold, "parity": parity}
    facts["answers"] = profile.answers_reference(answers, train[params.data.target.name], params.data)
    truth = encode_target(holdout[params.data.target.name], params.data)[: len(answers)]
    facts["promised"] = profile.promised(answers, truth, params.data)
    facts["value"] = params.value.model_dump() if params.value else None
    facts["example"]["answer"] = answer_row(session, facts["example"]["row"], facts["inputs"])
    facts["model"] = {"sha256": hashlib.sha256(content).hexdigest(), **params.train.model_dump(exclude={"text"})}
    with atomic(MODEL) as path:
        path.write_bytes(content)
    write_json(PROFILE, facts, sort_keys=False, decimals=None)


def fit(train: "pd.DataFrame", params: Params) -> tuple[Any, float | None]:
    """The fitted pipeline and, for a binary target, the decision threshold.

    Raises:
        UserError: when scikit-learn refuses the parameters or the data.
    """
    from threadpoolctl import threadpool_limits

    from perennial.pipeline import features

    features.refuse_empty(train, params.data)
    rows, target = (
        features.matrix(train, params.data),
        encode_target(train[params.data.target.name], params.data),
    )
    pipeline = features.build(params)
    try:
        with threadpool_limits(_threads(len(train))):
            threshold = _threshold(pipeline, rows, target, params)
            return pipeline.fit(rows, target), threshold
    except (ValueError, TypeError) as error:  # scikit-learn names the parameter and what it allows
        raise UserError(
            f"{params.train.estimator} cannot be fitted: {error}", "see train.params in params.yaml"
        ) from None


def _threads(rows: int) -> dict[str, int]:
    """One for linear algebra: one order of summation, whatever the machine. Trees give the same bytes on any
    number, but on small data their threads wait for each other longer than they work."""
    return {"blas": 1} if rows > MANY else {"blas": 1, "openmp": 1}


def _threshold(pipeline: Any, rows: Any, target: Any, params: Params) -> float | None:
    """The probability from which the positive class is predicted: the most valuable one on held-out folds."""
    if params.data.task != "binary":
        return None
    if params.value is None:
        return 0.5
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=params.seed)
    probability = cross_val_predict(pipeline, rows, target, cv=folds, method="predict_proba")[:, 1]
    return most_valuable(probability, target == 1, params.value)


def most_valuable(probability: Any, positive: Any, value: Value) -> float:
    """The threshold of 0.01 … 0.99 with the highest total value; of equals the one nearest to 0.5."""
    candidates = np.arange(1, 100) / 100
    gain = np.where(positive, value.true_positive - value.false_negative, value.false_positive - value.true_negative)
    passed = np.searchsorted(candidates, probability, side="right")  # how many candidates would flag the row
    totals = np.bincount(passed, gain, len(candidates) + 1)[::-1].cumsum()[::-1][1:]
    best = np.flatnonzero(np.isclose(totals, totals.max()))
    return float(candidates[best[np.argmin(np.abs(candidates[best] - 0.5))]])


if __name__ == "__main__":
    run(main)

"""The scikit-learn pipeline, derived from the contract and the estimator's own tags.

Only shapes that convert to ONNX without changing an answer are built (tests/model shows each):
numbers are scaled for models that need it but never for trees, whose float64 thresholds a scaled
float32 would miss; missing numbers are imputed for all but the histogram boosters, whose converter
alone tracks them; TF-IDF rows are not normalised for trees, for the same reason as the scaler.
"""

import inspect
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.inputs import MISSING, feed_frame, layout
from perennial.params import Params, Train, Words

# The runtime's regex knows ASCII letters only: a pattern that means the same on both sides.
TOKENS = "[a-zA-Z0-9_]+"


def matrix(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """The model's columns side by side in the order of its inputs: float32 numbers, then words."""
    parts = [pd.DataFrame(part) for part in feed_frame(frame, layout(contract)).values()]
    return pd.concat(parts, axis=1, ignore_index=True)


def build(params: Params) -> Any:
    """An unfitted Pipeline(features, model) for `matrix` rows, calibrated where the params say so."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import Pipeline

    model = make_estimator(params.train, params.seed, params.data.task)
    features = _transformer(params.data, params.train.text, model)
    if params.train.calibration == "sigmoid":
        if params.data.task == "regression":
            raise UserError("train.calibration: sigmoid is for classes, the target is a number", "set it to none")
        model = CalibratedClassifierCV(model, method="sigmoid", cv=3, ensemble=False)
    elif params.data.task != "regression" and not hasattr(model, "predict_proba"):
        raise UserError(f"{params.train.estimator} gives no probabilities", "set train.calibration: sigmoid")
    return Pipeline([("features", features), ("model", model)])


def make_estimator(train: Train, seed: int, task: str) -> Any:
    """The estimator named by its dotted path, seeded unless its params say otherwise.

    Raises:
        UserError: when there is no such class, a parameter is unknown, or it is of the wrong kind.
    """
    from sklearn.base import is_classifier, is_regressor

    module, _, name = train.estimator.rpartition(".")
    fix = "give a class such as sklearn.linear_model.LogisticRegression"
    try:
        cls = getattr(import_module(module), name)
        known = list(inspect.signature(cls).parameters)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"train.estimator: cannot load {train.estimator!r}: {error}", fix) from None
    unknown = [key for key in train.params if key not in known]
    if unknown and isinstance(cls, type):
        raise UserError(f"train.params: {name} has no parameter {', '.join(unknown)}", f"allowed: {', '.join(known)}")
    try:
        model = cls(**({"random_state": seed} if "random_state" in known else {}) | train.params)
        fits = is_regressor(model) if task == "regression" else is_classifier(model)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"train.estimator: {train.estimator} cannot be made: {error}", fix) from None
    if not fits:
        fix = "choose a regressor for numbers, a classifier for classes"
        raise UserError(f"train.estimator: {name} does not fit a {task} target", fix)
    return model


def refuse_empty(train: pd.DataFrame, contract: Contract) -> None:
    """Raises UserError naming the features that say nothing in any training row."""
    empty = [name for name in contract.features if train[name].isna().all()]
    mute = [n for n in contract.named("text") if n not in empty and not train[n].str.contains(TOKENS, na=False).any()]
    if empty:
        raise UserError(f"no training row has a value for {', '.join(empty)}", "remove it from data.features")
    if mute:
        fix = "the text model reads a-z, 0-9 and _ only: remove it from data.features, or transcribe it"
        raise UserError(f"no training row has a word in {', '.join(mute)}", fix)


def _transformer(contract: Contract, words: Words, model: Any) -> Any:
    from skl2onnx.sklapi import TraceableTfidfVectorizer, register  # noqa: F401  (importing register teaches skl2onnx the class)
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.utils import get_tags

    tags, trees = get_tags(model).input_tags, _is_tree(model)
    steps: list[Any] = []
    start = 0
    for name, columns in layout(contract).items():
        positions = list(range(start, start + len(columns)))
        start += len(columns)
        if name == "numbers":
            steps.append((name, _numeric(model, trees), positions))
        elif name == "categories":
            known: Any = [list(dict.fromkeys([*contract.values_of(column), MISSING])) for column in columns]
            encoder = OneHotEncoder(
                categories=known, handle_unknown="ignore", sparse_output=tags.sparse, dtype=np.float32
            )
            steps.append((name, encoder, positions))
        else:
            # It remembers which words a pair is made of; the plain class makes skl2onnx guess, and lose some pairs.
            vectorizer = TraceableTfidfVectorizer(
                token_pattern=TOKENS,
                max_features=words.max_features,
                ngram_range=(1, words.ngrams),
                norm=None if trees else "l2",
            )
            steps.append((name, vectorizer, positions[0]))
    return ColumnTransformer(steps, sparse_threshold=0.3 if tags.sparse else 0)


def _is_tree(model: Any) -> bool:
    return type(model).__module__.startswith(("sklearn.tree", "sklearn.ensemble"))


def _numeric(model: Any, trees: bool) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if type(model).__name__.startswith("HistGradientBoosting"):
        return "passthrough"
    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    return imputer if trees else make_pipeline(imputer, StandardScaler())

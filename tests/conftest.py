"""A small table of parcels with every type of feature, and params that describe it, for any task."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from perennial.params import Params

# The test workers share the cores: threads of their own would wait for each other, ten times as long. Read by
# scikit-learn when it is first imported, and by every stage that a test runs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TARGETS: dict[str, Any] = {
    "binary": {"name": "grade", "values": ["good", "bad"], "positive": "bad"},
    "multiclass": {"name": "grade", "values": ["low", "middle", "high"]},
    "regression": {"name": "grade", "type": "number"},
}
FEATURES = {
    "mass": {"type": "number"},
    "width": {"type": "number", "min": 0, "max": 10},
    "sealed": {"type": "boolean"},
    "colour": {"type": "category", "values": ["red", "grün", "🟣"]},
    "remark": {"type": "text"},
}
REMARKS = ["schön déjà vu", "bad 😀 news", "ok ok, fine", "isn't it"]
Make = Callable[..., Any]


@pytest.fixture(scope="session")
def make_params() -> Make:
    def make(task: str = "binary", features: Any = FEATURES, train: Any = None, **data: Any) -> Params:
        return Params.model_validate(
            {
                "seed": 1,
                "data": {"raw": "data/raw", "target": TARGETS[task], "features": features} | data,
                "split": {"holdout": 0.2},
                "train": {"estimator": "sklearn.linear_model.LogisticRegression"} | (train or {}),
                "value": None,
                "evaluate": {"bootstrap": 100},
                "gate": {"floors": {}},
            }
        )

    return make


@pytest.fixture(scope="session")
def make_table() -> Make:
    def make(task: str = "binary", rows: int = 300, seed: int = 0) -> pd.DataFrame:
        """Typed as `read_batch` does it; one cell in ten is missing, the grade depends on every feature."""
        rng = np.random.default_rng(seed)
        mass, width, sealed = rng.normal(size=rows), rng.uniform(0, 10, rows), rng.random(rows) < 0.5
        colour, remark = rng.choice(FEATURES["colour"]["values"], rows), rng.choice(REMARKS, rows)
        score = mass + 0.3 * width + sealed + (colour == "red") + 2 * (remark == REMARKS[1]) + rng.normal(size=rows)
        edges = {"binary": [3.3], "multiclass": [2.5, 4.0]}.get(task, [])
        labels = np.array(["good", "bad"] if task == "binary" else ["low", "middle", "high"])
        table = pd.DataFrame(
            {
                "mass": mass,
                "width": width,
                "sealed": pd.array(sealed, dtype="boolean"),
                "colour": pd.Series(colour, dtype="str"),
                "remark": pd.Series(remark, dtype="str"),
                "grade": np.exp(score / 3) if task == "regression" else labels[np.digitize(score, edges)],
            }
        )
        for name in FEATURES:
            table.loc[rng.random(rows) < 0.1, name] = None
        return table

    return make

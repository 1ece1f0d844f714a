"""Run in a copy of the repository: the pipeline's stages, the same model as scikit-learn pickles it, and requests.

    python prepare.py <folder to write to>

The contenders get their rows as the model sees them, so that they have less to do than ours: booleans are
numbers, missing words are filled in. Their TF-IDF is scikit-learn's own class, so that they need no skl2onnx.
"""

import json
import sys
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from perennial.inputs import encode_target, layout
from perennial.params import Params, load
from perennial.pipeline import evaluate, features, prepare, train

SIZES = {1: 500, 100: 50}  # rows of a request, and how many different requests


def main(folder: Path) -> None:
    for stage in (prepare, train, evaluate):
        stage.main()
    params = load()
    rows, holdout = (pd.read_parquet(f"data/prepared/{name}.parquet") for name in ("train", "holdout"))
    model, columns = fit(rows, params)
    joblib.dump(model, folder / "model.joblib")
    (folder / "columns.json").write_text(json.dumps(columns), "utf-8")
    (folder / "bodies").mkdir()
    for size, count in SIZES.items():
        for kind, bodies in requests(holdout, params, columns, size, count).items():
            text = "".join(json.dumps(body) + "\n" for body in bodies)
            (folder / f"bodies/{kind}_{size}.jsonl").write_text(text, "utf-8")


def fit(rows: pd.DataFrame, params: Params) -> tuple[Any, dict[str, list[str]]]:
    """The pipeline that train.py exports, for a frame with names, and these names: numbers, then words."""
    inputs = layout(params.data)
    columns = {"numbers": list(inputs.get("numbers", ()))}
    columns["words"] = [name for kind, names in inputs.items() if kind != "numbers" for name in names]
    model = features.build(params)
    transformers = model.named_steps["features"].transformers
    model.named_steps["features"].transformers = [
        (name, TfidfVectorizer(**step.get_params()) if isinstance(step, TfidfVectorizer) else step, places)
        for name, step, places in transformers
    ]
    named = features.matrix(rows, params.data).set_axis([*columns["numbers"], *columns["words"]], axis=1)
    return model.fit(named, encode_target(rows[params.data.target.name], params.data)), columns


def requests(
    rows: pd.DataFrame, params: Params, columns: dict[str, list[str]], size: int, count: int
) -> dict[str, list[Any]]:
    """`count` requests of `size` rows, in each contender's way to write them."""
    plain = plain_rows(rows, params)
    names = [*columns["numbers"], *columns["words"]]
    matrix = features.matrix(rows, params.data).set_axis(names, axis=1)
    encoded = [
        {name: None if value != value else value for name, value in row.items()} for row in matrix.to_dict("records")
    ]
    bodies: dict[str, list[Any]] = {"plain": [], "encoded": [], "split": []}
    for start in range(count):
        places = [(start * size + offset) % len(rows) for offset in range(size)]
        bodies["plain"].append({"instances": [plain[place] for place in places]})
        bodies["encoded"].append({"instances": [encoded[place] for place in places]})
        values = [list(encoded[place].values()) for place in places]
        bodies["split"].append({"dataframe_split": {"columns": names, "data": values}})
    return bodies


def plain_rows(rows: pd.DataFrame, params: Params) -> list[dict[str, Any]]:
    """The features as a client sends them; what is missing is null."""
    features_only = rows[list(params.data.features)].astype(object)
    return features_only.where(features_only.notna(), None).to_dict("records")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""BentoML's service class with scikit-learn and pandas."""

import json
import os
from pathlib import Path

import bentoml
import joblib
import pandas as pd


@bentoml.service(workers=2, traffic={"timeout": 60})
class Model:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])
        columns = json.loads(Path(os.environ["COLUMNS"]).read_text("utf-8"))
        self.numbers = dict.fromkeys(columns["numbers"], "float32")

    @bentoml.api(route="/predict")
    def predict(self, instances: list[dict]) -> dict:
        frame = pd.DataFrame(instances, columns=self.model.feature_names_in_).astype(self.numbers)
        return {"predictions": self.model.predict_proba(frame).tolist()}

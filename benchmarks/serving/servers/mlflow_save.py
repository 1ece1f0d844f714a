"""The model as an MLflow model with a signature: python mlflow_save.py <folder>."""

import json
import os
import sys
from pathlib import Path

import joblib
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature

model = joblib.load(os.environ["MODEL"])
columns = json.loads(Path(os.environ["COLUMNS"]).read_text("utf-8"))
row = dict.fromkeys(columns["numbers"], 1.5) | dict.fromkeys(columns["words"], "word")
frame = pd.DataFrame([row, row]).astype(dict.fromkeys(columns["numbers"], "float32"))
frame = frame.astype(dict.fromkeys(columns["words"], object))
mlflow.sklearn.save_model(
    model,
    sys.argv[1],
    signature=infer_signature(frame, model.predict_proba(frame)),
    pyfunc_predict_fn="predict_proba",
    serialization_format="cloudpickle",
)

"""FastAPI with scikit-learn and pandas, as tutorials have it: rows typed by pydantic, a frame, predict_proba."""

import json
import os
from pathlib import Path

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, create_model

MODEL = joblib.load(os.environ["MODEL"])
COLUMNS = json.loads(Path(os.environ["COLUMNS"]).read_text("utf-8"))
NUMBERS = dict.fromkeys(COLUMNS["numbers"], "float32")

Row = create_model(
    "Row",
    **dict.fromkeys(COLUMNS["numbers"], (float | None, None)),
    **dict.fromkeys(COLUMNS["words"], (str, ...)),
)


class Request(BaseModel):
    instances: list[Row]  # type: ignore[valid-type]


class Answer(BaseModel):
    predictions: list[list[float]]


app = FastAPI()


@app.post("/predict")
def predict(request: Request) -> Answer:
    frame = pd.DataFrame([row.model_dump() for row in request.instances]).astype(NUMBERS)
    return Answer(predictions=MODEL.predict_proba(frame[MODEL.feature_names_in_]).tolist())

"""Rows to the model's input matrices: the one function training and serving share.

A model takes `numbers` float32[N, numbers and booleans], `categories` string[N, categories]
and one string[N, 1] for each text. Missing numbers are NaN, missing strings have a word of
their own, so that every path that leads to the model treats them alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.contract import Contract

MISSING = "missing"  # a category that was not given
Feed = dict[str, NDArray[Any]]


def layout(contract: Contract) -> dict[str, tuple[str, ...]]:
    """The columns of each input, in order; an input without columns is left out."""
    matrices = {"numbers": contract.named("number", "boolean"), "categories": contract.named("category")}
    texts = {f"text_{name}": (name,) for name in contract.named("text")}
    return {name: columns for name, columns in {**matrices, **texts}.items() if columns}


def feed(rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, Sequence[str]]) -> Feed:
    """Matrices from rows of plain values, None for missing."""
    matrices: Feed = {}
    for name, columns in inputs.items():
        cells: NDArray[Any]
        if name == "numbers":
            cells = np.array([[row.get(column) for column in columns] for row in rows], np.float32)
        else:
            cells = np.array([[_word(row.get(column), name) for column in columns] for row in rows], object)
        matrices[name] = cells.reshape(len(rows), len(columns))
    return matrices


def feed_frame(frame: Any, inputs: Mapping[str, Sequence[str]]) -> Feed:
    """The same matrices from a pandas frame with the contract's types, without a loop over rows."""
    matrices: Feed = {}
    for name, columns in inputs.items():
        if name == "numbers":
            parts = [frame[column].to_numpy(np.float32, na_value=np.nan) for column in columns]
        else:
            parts = [frame[column].fillna(_word(None, name)).to_numpy(object) for column in columns]
        matrices[name] = np.column_stack(parts) if parts else np.empty((len(frame), 0), object)
    return matrices


def _word(value: Any, name: str) -> str:
    return str(value) if value is not None else (MISSING if name == "categories" else "")


def encode_target(target: Any, contract: Contract) -> NDArray[Any]:
    """A pandas column of labels as numbers: as they are, or classes as their position in `Target.classes`."""
    if contract.task == "regression":
        return np.asarray(target.to_numpy(np.float64))
    places = {label: index for index, label in enumerate(contract.target.classes)}
    return np.asarray(target.map(places).to_numpy(np.int64))

"""Batch scoring: a CSV or Parquet file of any size, piece by piece, with the checks and the model of the service.

Every row of the input has one in the output; where it does not fit the contract, the reason stands in place
of the answer.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from perennial.console import out, say
from perennial.contract import Contract
from perennial.errors import UserError
from perennial.files import atomic, read_json, sha256
from perennial.model import answer, open_model
from perennial.pipeline import check
from perennial.pipeline.read import Batch, header, read_chunks


def score(data: Path, target: Path, model_dir: Path = Path("models")) -> int:
    """Write `row`, the id if there is one, the answer and `error` for each row of `data`; a CSV or Parquet file.

    Returns:
        The number of rows without an answer.

    Raises:
        UserError: when the data or the model cannot be read, or a feature's column is missing.
    """
    profile = read_json(model_dir / "profile.json")
    if sha256(model_dir / "model.onnx") != profile["model"]["sha256"]:
        raise UserError(f"{model_dir}: model.onnx and profile.json are of different training runs", "run `make run`")
    contract, session = Contract.model_validate(profile["contract"]), open_model(str(model_dir / "model.onnx"))
    carried = [contract.id] if contract.id and contract.id in header(data, contract) else []
    chunks = read_chunks(data, contract, [*carried, *contract.features])
    rows = wrong = 0
    with atomic(target) as path, _writer(path, target.suffix) as write, ThreadPoolExecutor(1) as ahead:
        for chunk in _progress(_one_ahead(chunks, ahead)):
            scored = _scored(chunk, carried, session, profile, contract)
            write(scored)
            rows, wrong = rows + len(scored), wrong + int(scored["error"].notna().sum())
    say(f"{rows - wrong:,} of {rows:,} rows scored to {target}" + (f"; {wrong:,} have an error" if wrong else ""))
    return wrong


def _one_ahead(chunks: Iterator[Batch], thread: ThreadPoolExecutor) -> Iterator[Batch]:
    """Read the next piece while this one is scored: neither holds Python's lock for long."""
    following = thread.submit(next, chunks, None)
    while chunk := following.result():
        following = thread.submit(next, chunks, None)
        yield chunk


def _progress(chunks: Iterator[Batch]) -> Iterator[Batch]:
    from rich.progress import Progress

    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("Scoring", total=1.0)
        for chunk in chunks:
            yield chunk
            bar.update(task, completed=chunk.done)


def _scored(
    chunk: Batch, carried: list[str], session: Any, profile: dict[str, Any], contract: Contract
) -> pd.DataFrame:
    origin = pd.DataFrame({"file": str(chunk.path), "row": chunk.rows})
    features = chunk.frame[list(contract.features)]
    found = check.violations(features, origin, [chunk], contract)
    bad = check.set_aside(found, origin, contract)
    problems = found[["row"]].assign(error=found["column"] + ": " + found["problem"]).groupby("row")["error"]
    result = pd.DataFrame({"row": chunk.rows}).assign(**{name: chunk.frame[name] for name in carried})
    answers = answer(session, features, contract)
    finite = np.isfinite(answers)  # the model's own sums may go beyond what a float32 holds
    silent = pd.Series(~(finite if finite.ndim == 1 else finite.all(axis=1)), index=bad.index)
    result = result.assign(**_answers(answers, profile))
    result.loc[bad | silent, list(result.columns[1 + len(carried) :])] = None
    reasons = result["row"].map(problems.agg("; ".join)).where(bad)
    result["error"] = reasons.mask(silent & ~bad, "numbers too large for the model")
    lines = found.loc[found["column"] == "", ["row", "problem"]]  # lines that are no rows keep their place too
    whole = pd.concat([result, lines.rename(columns={"problem": "error"})]).sort_values("row", ignore_index=True)
    return whole.astype(dict.fromkeys({"label", "error"} & set(whole.columns), "str"))


def _answers(answers: Any, profile: dict[str, Any]) -> dict[str, Any]:
    """The columns of the output: `value`, or `label` and a probability for each class."""
    classes, threshold = profile["classes"], profile["threshold"]
    if not classes:
        return {"value": answers}
    place = (answers[:, 1] >= threshold).astype(int) if threshold is not None else answers.argmax(axis=1)
    probabilities = {f"probability_{name}": answers[:, index] for index, name in enumerate(classes)}
    return {"label": np.array(classes, object)[place]} | probabilities


@contextmanager
def _writer(path: Path, suffix: str) -> Iterator[Callable[[pd.DataFrame], None]]:
    if suffix not in (".csv", ".parquet"):
        raise UserError(f"the output {suffix or 'without a suffix'} is neither .csv nor .parquet", "name it so")
    kind = pa.csv.CSVWriter if suffix == ".csv" else pa.parquet.ParquetWriter
    opened: list[Any] = []

    def write(frame: pd.DataFrame) -> None:
        schema = opened[0].schema if opened and suffix == ".parquet" else None
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        if not opened:
            opened.append(kind(path, table.schema))
        opened[0].write_table(table)

    try:
        yield write
    finally:
        for writer in opened:
            writer.close()

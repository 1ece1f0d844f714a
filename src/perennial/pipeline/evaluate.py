"""Stage 3: judge the exported model on the hold-out.

Loads only ONNX. Writes reports/metrics.json, evaluation.json, plots/ and report.html.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perennial.console import run, step
from perennial.contract import Contract
from perennial.files import atomic, read_json, write_json
from perennial.inputs import encode_target
from perennial.model import answer as ask
from perennial.model import open_model
from perennial.params import METRICS, Params, load
from perennial.pipeline import metrics

if TYPE_CHECKING:
    import pandas as pd

MODEL, PROFILE, HOLDOUT = Path("models/model.onnx"), Path("models/profile.json"), Path("data/prepared/holdout.parquet")
REPORTS = Path("reports")
IMPORTANCE_ROWS, REPEATS = 5_000, 5
SLICE_ROWS, SLICES, SLICE_RESAMPLES = 50, 30, 200  # fewer rows are counted, not judged
Floats = NDArray[np.float64]


def main() -> None:
    import pandas as pd

    from perennial.pipeline import page, pictures

    params, profile, holdout = load(), read_json(PROFILE), pd.read_parquet(HOLDOUT)
    session = open_model(str(MODEL))
    target = encode_target(holdout[params.data.target.name], params.data)
    answer = ask(session, holdout, params.data)
    with step(f"Evaluating on {len(holdout):,} hold-out rows"):
        figures = judge(target, answer, profile, params)
    with step("Comparing slices"):
        slices = slice_figures(holdout, target, answer, profile, params)
    with step("Measuring what each feature is worth"):
        importance = permutation_importance(session, holdout, target, profile, params)
    with step("Drawing the report"):
        details = {"slices": slices, "importance": importance, "floors": floors(figures["metrics"], params)}
        curves = {
            **curve_tables(target, answer, params.data.task),
            "importance": [(name, row["mean"]) for name, row in importance.items()],
        }
        write_tables(curves)
        drawn = pictures.draw(target, answer, curves, figures, details, profile, params)
        for name, svg in drawn.items():
            with atomic(REPORTS / "plots" / f"{name}.svg") as path:
                path.write_text(svg, encoding="utf-8")
        html = page.render(figures, details, drawn, profile, read_json(REPORTS / "data.json"), params)
        with atomic(REPORTS / "report.html") as path:
            path.write_text(html, encoding="utf-8")
    write_json(REPORTS / "evaluation.json", details)
    write_json(REPORTS / "metrics.json", figures)


def judge(target: Floats, answer: Floats, profile: dict[str, Any], params: Params) -> dict[str, Any]:
    """Metrics with intervals, and those of a dummy that always gives the training share or mean."""
    task, threshold = params.data.task, profile["threshold"]
    ours = metrics.for_task(task, target, answer, threshold, params.value)
    constant = np.array([profile["target"]["mean"]] if task == "regression" else profile["target"]["shares"])
    dummy_answer = np.full(len(target), constant[0]) if task == "regression" else np.tile(constant, (len(target), 1))
    dummy = metrics.for_task(task, target, dummy_answer, threshold, params.value)
    everyone = np.ones((1, len(target)))
    return {
        "rows": len(target),
        "threshold": threshold,
        "metrics": metrics.measure(ours, len(target), params.evaluate.bootstrap, params.seed),
        "baseline": {name: float(metric(everyone)[0]) for name, metric in dummy.items()},
    }


def floors(measured: dict[str, Any], params: Params) -> list[dict[str, Any]]:
    """Each absolute floor of `gate.floors` with its verdict."""
    better = METRICS[params.data.task] | {"value_per_1000": True}
    rows = [(name, floor, measured[name]["value"]) for name, floor in params.gate.floors.items()]
    return [{"metric": n, "floor": f, "value": v, "passed": v >= f if better[n] else v <= f} for n, f, v in rows]


def groups(frame: "pd.DataFrame", contract: Contract) -> "Iterator[tuple[str, str, NDArray[np.bool_]]]":
    """Column, value and the rows of every category, boolean and sensitive group; the largest groups of each column."""
    for name in dict.fromkeys((*contract.named("category", "boolean"), *contract.sensitive)):
        values = frame[name].astype("str").fillna("missing")
        for value in values.value_counts().index[:SLICES]:
            yield name, str(value), (values == value).to_numpy()


def slice_figures(
    frame: "pd.DataFrame", target: Floats, answer: Floats, profile: dict[str, Any], params: Params
) -> list[dict[str, Any]]:
    """The leading metric in each group."""
    contract, rows = params.data, []
    lead = next(iter(METRICS[contract.task]))
    mean_answer = answer if contract.task == "regression" else answer[:, -1]
    for name, value, inside in groups(frame, contract):
        row: dict[str, Any] = {
            "column": name,
            "value": value,
            "rows": int(inside.sum()),
            "sensitive": name in contract.sensitive,
        }
        row |= {"mean_answer": float(mean_answer[inside].mean()), "value_of": lead, "figure": None}
        judged = target[inside]
        if len(judged) >= SLICE_ROWS and len(np.unique(judged)) > 1:
            metric = metrics.for_task(contract.task, judged, answer[inside], profile["threshold"], None)[lead]
            row["figure"] = metrics.measure({lead: metric}, len(judged), SLICE_RESAMPLES, params.seed)[lead]
        rows.append(row)
    return rows


def permutation_importance(
    session: Any, holdout: "pd.DataFrame", target: Floats, profile: dict[str, Any], params: Params
) -> dict[str, Any]:
    """How much worse the leading metric gets when a feature's values are shuffled (Breiman 2001), most first."""
    rng, contract = np.random.default_rng(params.seed), params.data
    sample = holdout.sample(min(len(holdout), IMPORTANCE_ROWS), random_state=params.seed)
    judged = target[sample.index]
    lead, more_is_better = next(iter(METRICS[contract.task].items()))

    def figure(frame: "pd.DataFrame") -> float:
        metric = metrics.for_task(contract.task, judged, ask(session, frame, contract), profile["threshold"], None)[
            lead
        ]
        return float(metric(np.ones((1, len(judged))))[0])

    whole, sign, importance = figure(sample), 1 if more_is_better else -1, {}
    for name in contract.features:
        drops = []
        for _ in range(REPEATS):
            shuffled = sample[name].iloc[rng.permutation(len(sample))].set_axis(sample.index)
            drops.append(sign * (whole - figure(sample.assign(**{name: shuffled}))))
        importance[name] = {"mean": float(np.mean(drops)), "std": float(np.std(drops))}
    return dict(sorted(importance.items(), key=lambda item: -item[1]["mean"]))


def curve_tables(target: Floats, answer: Floats, task: str) -> dict[str, list[tuple[Any, ...]]]:
    """What `dvc plots` draws for any task.

    `curve`: the ROC curve (over all row-class pairs when there are more than two classes), for a number the
    share of rows whose error is at most x. `calibration`: mean answer against mean truth in ten equal groups.
    """
    if task == "regression":
        errors = np.sort(np.abs(answer - target))
        points = np.stack([errors, np.arange(1, len(errors) + 1) / len(errors)], axis=1)
        score, truth = answer, target
    else:
        truth = (
            (target[:, None] == np.arange(answer.shape[1])).astype(np.float64)[:, 1:]
            if task == "binary"
            else np.eye(answer.shape[1])[target.astype(int)]
        )
        score, truth = (answer[:, 1:] if task == "binary" else answer).ravel(), truth.ravel()
        order = np.argsort(-score, kind="stable")
        hits = truth[order]
        points = np.stack([(1 - hits).cumsum() / (1 - hits).sum(), hits.cumsum() / hits.sum()], axis=1)
    kept = np.unique(np.linspace(0, len(points) - 1, 200).astype(int))
    groups = np.array_split(np.argsort(score, kind="stable"), 10)
    calibration = [(float(score[g].mean()), float(truth[g].mean()), len(g)) for g in groups if len(g)]
    return {"curve": [(0.0, 0.0), *map(tuple, points[kept].tolist())], "calibration": calibration}


HEADERS = {"curve": "x,y", "calibration": "predicted,actual,rows", "importance": "feature,importance"}


def write_tables(tables: dict[str, list[tuple[Any, ...]]]) -> None:
    for name, rows in tables.items():
        cells = [",".join(f"{cell:.6f}" if isinstance(cell, float) else str(cell) for cell in row) for row in rows]
        with atomic(REPORTS / "plots" / f"{name}.csv") as path:
            path.write_text("\n".join([HEADERS[name], *cells]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)

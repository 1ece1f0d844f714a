"""The models on the hold-out: differences, slices, fairness, calibration, size and speed."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.console import step
from perennial.files import read_json
from perennial.params import Params
from perennial.repro import METRICS_FILE
from perennial.review import changes, compare
from perennial.review.champion import Champion
from perennial.review.ground import NotComparableError, meet
from perennial.review.rules import Facts

if TYPE_CHECKING:
    import pandas as pd

MODEL, PROFILE, PREPARED = Path("models/model.onnx"), Path("models/profile.json"), Path("data/prepared")
CALLS, WARM_UP = 300, 20  # single rows asked of each model


def measure(params: Params, champion: Champion | None, reason: str) -> Facts:
    """Both models' figures; without a champion, or where it cannot be compared, the challenger's alone and why."""
    import pandas as pd

    from perennial.inputs import encode_target
    from perennial.model import answer, open_model

    profile, holdout = read_json(PROFILE), pd.read_parquet(PREPARED / "holdout.parquet")
    session, slices = open_model(str(MODEL)), params.gate.slices
    least = slices.rows if slices else 100
    with step(f"Asking the challenger about {len(holdout):,} hold-out rows"):
        target = encode_target(holdout[params.data.target.name], params.data).astype(np.float64)
        ours = compare.Answers(target, answer(session, holdout, params.data), profile["threshold"])
    facts: Facts = {"metrics": {}, "not_compared": reason, "compared": None, "features": [], "champion": None}
    if champion:
        facts |= {"champion": _facts(champion.profile) | {k: getattr(champion, k) for k in ("commit", "source")}}
        facts["champion"]["same_bytes"] = champion.same_bytes
        facts["features"] = changes.features(champion, pd.read_parquet(PREPARED / "train.parquet"), params.data)
        facts |= _compared(champion, holdout, ours, params)
    with step("Comparing slices"):
        rows, theirs = facts.pop("rows", np.ones(len(holdout), bool)), facts.pop("theirs", None)
        facts["slices"] = compare.slices(holdout[rows], theirs, ours.at(rows), params, least)
    facts |= {"challenger": _facts(profile), "evaluation": read_json(METRICS_FILE)}
    facts["fairness"] = compare.fairness(holdout, ours, params.data, least)
    facts["calibration"] = compare.calibration(ours, params.data, params.seed)
    return facts | costs(champion, profile)


def _compared(champion: Champion, holdout: "pd.DataFrame", ours: compare.Answers, params: Params) -> dict[str, Any]:
    try:
        with step(f"Comparing with the champion of commit {champion.commit[:8]} ({champion.source})"):
            rows, theirs = meet(champion, holdout, ours, params)
            found_differences = compare.differences(theirs, ours.at(rows), params)
    except NotComparableError as error:
        return {"not_compared": f"the champion of commit {champion.commit[:8]} cannot be compared: {error}"}
    compared = {"rows": int(rows.sum()), "of": len(rows)}
    return {"metrics": found_differences, "compared": compared, "rows": rows, "theirs": theirs}


def _facts(profile: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": profile["model"]["sha256"],
        "contract": profile["contract_digest"],
        "estimator": profile["model"]["estimator"],
        "trained_on": profile["trained_on"],
        "parity": profile["parity"],
        "versions": profile["versions"],
    }


def costs(champion: Champion | None, profile: dict[str, Any]) -> dict[str, Any]:
    """Megabytes of each model, and median milliseconds for one row, asked in turn so that both have the same luck."""
    from perennial.model import answer_row, open_model

    models = {"challenger": (MODEL.read_bytes(), profile)}
    if champion:
        models["champion"] = (champion.model, champion.profile)
    asked = [
        (name, open_model(content), facts["example"]["row"], facts["inputs"])
        for name, (content, facts) in models.items()
    ]
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(WARM_UP + CALLS):
        for name, session, row, inputs in asked:
            start = time.perf_counter()
            answer_row(session, row, inputs)
            times[name].append(time.perf_counter() - start)
    return {
        "size": {name: len(content) / 1e6 for name, (content, _) in models.items()},
        "latency": {name: 1000 * float(np.median(spent[WARM_UP:])) for name, spent in times.items()},
    }

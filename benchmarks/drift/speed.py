"""CPU seconds of the watch on one window, in a process of its own as the contenders are: prints JSON.

python benchmarks/drift/speed.py <a frame with columns turn and now, as others.py reads>
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tables import CLASSES, params, probability, reference, window
from timing import timed

from perennial.monitoring import drift, watch
from perennial.monitoring.window import MOST

ROUNDS = 5


def main(path: Path) -> None:
    table = pd.read_parquet(path)
    before, now = (table[table["now"] == part].drop(columns=["turn", "now"]).reset_index(drop=True) for part in (0, 1))
    rng = np.random.default_rng(0)
    held = reference(before, rng)
    said = probability(now)
    answers = np.stack([1 - said, said], axis=1)
    whole = watch.judge(window(now[:1000], said[:1000]), held, params())

    def decided() -> str:
        found = drift.features(now, held.profile, held.importance)
        facts = {
            "features": found,
            "drifted": [row["feature"] for row in found if row["drifted"]],
            "broken": [row["feature"] for row in found if row["broken"]],
            "predictions": drift.predictions(answers, held.profile),
        }
        return watch.decide([whole | facts] * watch.WINDOWS, params())[0]

    spent = {"the watch: features, predictions and decision on a typed frame": timed(decided, ROUNDS)}
    if len(now) <= MOST:  # of more a sample is judged
        labels = np.where(rng.random(len(now)) < said, CLASSES[1], CLASSES[0])
        known = rng.random(len(now)) < 0.2
        held = watch.Reference(held.profile, held.metrics | {"metrics": {"roc_auc": {"low": 0.0}}}, held.importance)
        labels = np.where(known, labels, None)
        for title, given in (("no labels", None), ("labels for 20 %", labels.tolist())):
            judge = partial(watch.judge, window(now, said, given), held, params())
            spent[f"the watch: all of it on the log's rows, {title}"] = timed(judge, ROUNDS)
    print(json.dumps(spent))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

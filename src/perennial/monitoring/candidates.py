"""What to learn from after the world has moved: all that is known, or what was seen since.

Where rows have a time both are tried, and judged by the same rows, the newest of the new ones, from which neither has
learnt. More rows help while only the customers changed; old ones mislead once they mean something else.
"""

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

from perennial.console import say, step
from perennial.errors import UserError
from perennial.files import atomic, read_json
from perennial.monitoring import batch
from perennial.params import METRICS, Params, load
from perennial.worktree import perennial, said

JUDGES = 0.3  # share of the new rows
FEWEST = 1000  # rows without which the new world alone is not tried
Facts = dict[str, Any]


def train(tree: Path, note: Facts, evidence: datetime.datetime) -> Facts:
    """Train in the tree and leave the better candidate there; which one, and what was tried.

    Raises:
        UserError: when the pipeline fails, or the new rows are all of one time, so that none can judge.
    """
    params = load(tree / "params.yaml")
    if not params.data.time:
        return {"kept": "all", "tried": [_run(tree, "all", params, {})]}
    fresh, since = _fresh(tree, note, evidence, params)
    known = read_json(tree / "reports/data.json")["split"]
    rows = known["train"]["rows"] + known["holdout"]["rows"] + note["rows"]
    tried = [_run(tree, "all", params, {"holdout": JUDGES * fresh / rows})]
    before = (tree / "params.yaml").read_text(encoding="utf-8")
    if fresh >= FEWEST and since != params.split.since:
        recent = {"holdout": JUDGES * fresh / _since(tree, since, params), "since": since}
        try:
            tried.append(_run(tree, "recent", params, recent))
        except UserError as error:
            tried.append({"name": "recent", "failed": str(error)})
        if not _better(tried[1], tried[0], params):
            (tree / "params.yaml").write_text(before, encoding="utf-8")
            _pipeline(tree)  # from the run cache
            return {"kept": "all", "tried": tried}
    return {"kept": tried[-1]["name"], "tried": tried}


def _fresh(tree: Path, note: Facts, evidence: datetime.datetime, params: Params) -> tuple[int, str]:
    """How many of the new rows show the new world, and the time from which it was seen, as the data writes it."""
    from perennial.pipeline.cast import dates
    from perennial.pipeline.read import read_chunks

    contract = params.data
    assert contract.time
    since = batch.written(evidence, contract)
    import pandas as pd

    times = pd.concat(c.frame for c in read_chunks(tree / note["file"], contract, [contract.time.name]))
    recent = times[times[contract.time.name] >= dates(pd.Series([since]), contract.time.format).iloc[0]]
    if recent[contract.time.name].nunique() < 2:
        problem = f"the new rows all have the same {contract.time.name}: none can learn while others judge"
        raise UserError(problem, "wait for another period, or write finer times (data.time.format)")
    return len(recent), since


def _since(tree: Path, since: str, params: Params) -> int:
    """Rows of all prepared ones that are as new."""
    import pandas as pd

    from perennial.pipeline.cast import dates

    assert params.data.time
    name = params.data.time.name
    parts = [pd.read_parquet(tree / f"data/prepared/{part}.parquet", columns=[name]) for part in ("train", "holdout")]
    start = dates(pd.Series([since]), params.data.time.format).iloc[0]
    return sum(int((part[name] >= start).sum()) for part in parts)


def _run(tree: Path, name: str, params: Params, split: Facts) -> Facts:
    """Train with this split; the leading metric and the rows behind it."""
    if split:
        _edit(tree / "params.yaml", split | {"holdout": round(min(split["holdout"], 0.9), 4)})
    with step(f"Training on {'all rows' if name == 'all' else 'the rows since ' + split['since']}"):
        _pipeline(tree)
    lead, data = next(iter(METRICS[params.data.task])), read_json(tree / "reports/data.json")["split"]
    figure = read_json(tree / "reports/metrics.json")["metrics"][lead]
    say(f"{lead} {figure['value']:.4f} on {data['holdout']['rows']:,} rows")
    return {"name": name, "metric": lead, **figure, "split": data, "since": split.get("since")}


def _better(one: Facts, other: Facts, params: Params) -> bool:
    if "failed" in one or one["split"]["holdout"] != other["split"]["holdout"]:
        return False  # other judges
    more = METRICS[params.data.task][one["metric"]]
    return bool(one["value"] > other["value"] if more else one["value"] < other["value"])


def _edit(path: Path, split: Facts) -> None:
    """Change the split and leave the rest of the file, comments too, as people wrote it."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.representer.add_representer(type(None), lambda it, _: it.represent_scalar("tag:yaml.org,2002:null", "null"))
    tree = yaml.load(path)
    for name, value in split.items():
        tree["split"][name] = value
    with atomic(path) as unfinished:
        yaml.dump(tree, unfinished)


def _pipeline(tree: Path) -> None:
    done = perennial(tree, "run")
    if done.returncode:
        raise UserError(f"the pipeline failed on the new rows:\n  {said(done)}")


def dvc(tree: Path, *arguments: str) -> None:
    """DVC's own command in the tree.

    Raises:
        UserError: with what it said.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"dvc {' '.join(arguments)}:\n  {said(done)}", "the remote must be writable from here")

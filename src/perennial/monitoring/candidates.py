"""What to learn from after the world has moved: all that is known, or what was seen since it showed.

Where rows have a time all of these are tried, and judged by the same rows, the newest of the new ones, from which none
has learnt. More rows help while only the customers changed; old ones mislead once they mean something else.
"""

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from perennial.console import say, step
from perennial.errors import UserError
from perennial.files import atomic, read_json
from perennial.monitoring import batch
from perennial.params import METRICS, Params, load, read_yaml
from perennial.worktree import perennial, said

JUDGES, MOST = 0.3, 2000  # share of the rows of the newest two windows, and no more than that
FEWEST = 1000  # rows to learn from, without which what was seen since is not tried
# A key of YAML, the space before its value, and the value, which may be none.
ENTRY = re.compile(r"""\w+(: *(?=[^\s#,}])|):?("[^"]*"|'[^']*'|[^\s#,}]*)""")
Facts = dict[str, Any]


def train(tree: Path, note: Facts, starts: list[datetime.datetime]) -> Facts:
    """Train in the tree and leave the best candidate there; which one, and what was tried.

    Args:
        starts: of the windows that show the new world and of their second halves, the oldest first.

    Raises:
        UserError: when the pipeline fails, or the new rows are all of one time, so that none can judge.
    """
    params = load(tree / "params.yaml")
    if not params.data.time:
        return {"kept": "all rows", "tried": [_run(tree, "all rows", params, {})]}
    judges = min(MOST, round(JUDGES * _fresh(tree, note, starts[-4:][0], params)))
    known = read_json(tree / "reports/data.json")["split"]
    rows = known["train"]["rows"] + known["holdout"]["rows"] + note["rows"]
    tried = [_run(tree, "all rows", params, {"holdout": judges / rows})]
    settings = [(tree / "params.yaml").read_text(encoding="utf-8")]
    times = _times(tree, params)
    for since in dict.fromkeys(batch.written(start, params.data) for start in starts):
        left = int((times >= _moment(since, params)).sum())
        if left - judges >= FEWEST and since != params.split.since:
            tried.append(_run(tree, f"since {since}", params, {"holdout": judges / left, "since": since}))
            settings.append((tree / "params.yaml").read_text(encoding="utf-8"))
    best = _best(tried, params)
    (tree / "params.yaml").write_text(settings[best], encoding="utf-8")
    _pipeline(tree)  # from the run cache
    return {"kept": tried[best]["name"], "tried": tried}


def _moment(time: str, params: Params) -> Any:
    import pandas as pd

    from perennial.pipeline.cast import dates

    assert params.data.time
    return dates(pd.Series([time]), params.data.time.format).iloc[0]


def _fresh(tree: Path, note: Facts, start: datetime.datetime, params: Params) -> int:
    """How many of the new rows are of the newest windows that show the new world."""
    import pandas as pd

    from perennial.pipeline.read import read_chunks

    contract = params.data
    assert contract.time
    chunks = read_chunks(tree / note["file"], contract, [contract.time.name])
    times = pd.concat(chunk.frame for chunk in chunks)[contract.time.name]
    recent = times[times >= _moment(batch.written(start, contract), params)]
    if recent.nunique() < 2:
        problem = f"the new rows all have the same {contract.time.name}: none can learn while others judge"
        raise UserError(problem, "wait for another period, or write finer times (data.time.format)")
    return len(recent)


def _times(tree: Path, params: Params) -> Any:
    """When the prepared rows were, as a pandas column."""
    import pandas as pd

    assert params.data.time
    name = params.data.time.name
    parts = [pd.read_parquet(tree / f"data/prepared/{part}.parquet", columns=[name]) for part in ("train", "holdout")]
    return pd.concat(parts)[name]


def _run(tree: Path, name: str, params: Params, split: Facts) -> Facts:
    """Train with this split; how good it is, and the rows behind that."""
    if split:
        _edit(tree / "params.yaml", split | {"holdout": round(min(split["holdout"], 0.9), 6)})
    with step(f"Training on {name}"):
        _pipeline(tree)
    metric, data = _metric(params), read_json(tree / "reports/data.json")["split"]
    figure = read_json(tree / "reports/metrics.json")["metrics"][metric]
    say(f"{metric} {figure['value']:.4f} on {data['holdout']['rows']:,} rows")
    return {"name": name, "metric": metric, **figure, "split": data}


def _metric(params: Params) -> str:
    """A proper score where there is one: it asks for probabilities that are right, not only for their order."""
    known = METRICS[params.data.task]
    return "log_loss" if "log_loss" in known else next(iter(known))


def _best(tried: list[Facts], params: Params) -> int:
    """The place of the best one, of those that the same rows judged as the first."""
    sign = 1 if METRICS[params.data.task][_metric(params)] else -1
    fair = [at for at, one in enumerate(tried) if one["split"]["holdout"] == tried[0]["split"]["holdout"]]
    return max(fair, key=lambda at: (sign * tried[at]["value"], -at))


def _edit(path: Path, split: Facts) -> None:
    """Change values of the split and leave every other byte of the file as people wrote it."""
    for name, value in split.items():
        lines, section = path.read_bytes().decode().split("\n"), read_yaml(path)["split"]
        row, column = section.lc.key(name if name in section else "holdout")
        entry, told = ENTRY.match(lines[row], column), json.dumps(value)
        assert entry
        before, after = lines[row][:column], lines[row][entry.end() :]
        if name in section:
            lines[row] = f"{before}{name}{entry[1] or ': '}{told}{after}"
        elif section.fa.flow_style():
            lines[row] = f"{before}{entry[0]}, {name}: {told}{after}"
        else:
            lines.insert(row + 1, f"{' ' * column}{name}: {told}")
        with atomic(path) as unfinished:
            unfinished.write_bytes("\n".join(lines).encode())


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

"""The story: a model serves, the world changes, the watch sees it, a pull request renews the model, quality recovers.

Everything but the customers, GitHub and the clock is real: the pipeline, gunicorn, its log, the watch, the gate, git.
"""

import datetime
import json
import random
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from perennial.console import out
from perennial.errors import UserError
from perennial.files import write_json
from perennial.monitoring.retrain import PASSED
from perennial.params import Params, load
from perennial.rehearsal import picture
from perennial.rehearsal.clock import set_clock
from perennial.rehearsal.github import Desk, github
from perennial.rehearsal.stage import Service, Workspace, service
from perennial.rehearsal.traffic import Customers

UTC, DAY = datetime.UTC, datetime.timedelta(days=1)
START, DAYS, DAILY = datetime.datetime(2026, 1, 1, tzinfo=UTC), 90, 1500
ONSET = START + 20 * DAY
SHARE, EARLIEST, LATEST = 0.8, 2, 9  # of the answers that get a label, and after how many days
WEEK, BLOCK, PACK = 7, 50, 250  # days between two watches; rows of a request; rows of one moment
RESULT, PICTURE = Path("reports/loop.json"), Path("reports/loop.png")
Facts = dict[str, Any]


def loop() -> None:
    """Play it, and leave reports/loop.json and reports/loop.png.

    Raises:
        UserError: when a part of it does not do what the story says.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the service ends with the story
    params = load()
    customers = Customers(params.data, DAILY, ONSET, params.seed)
    with tempfile.TemporaryDirectory(prefix="perennial-loop-") as name, github() as (desk, environment):
        workspace = Workspace(Path(name), environment)
        set_clock(workspace.clock, START)
        out.print("Training the first model in a clone of this repository")
        workspace.perennial("run")
        with service(workspace) as served:
            story = _play(workspace, served, desk, customers, params)
        story["recovery"] = _recovery(story, customers, Path(name), params)
    write_json(RESULT, story, sort_keys=False)
    picture.draw(story, PICTURE)
    picture.say(story)
    out.print(f"Picture: {PICTURE}\nTable:   {RESULT}")


def _play(workspace: Workspace, served: Service, desk: Desk, customers: Customers, params: Params) -> Facts:
    """Day after day; what was seen on each, and what happened."""
    days: list[Facts] = []
    events: list[Facts] = [{"day": 0, "what": f"model {served.version()} serves"}]
    changes = {"what": "the world changes, and nobody is told", "short": "the world changes"}
    events.append({"day": (ONSET - START).days, **changes})
    post, fresh = _Postbox(params.seed), False
    for number in range(DAYS):
        day = START + number * DAY
        days.append(_one_day(workspace, served, customers, day, post, fresh) | {"day": number})
        fresh = False
        if number % WEEK == WEEK - 1:
            for event in _monday(workspace, desk, day + DAY):
                events.append({"day": number + 1, **event})
                out.print(f"day {number + 1:>3}  {event['what']}", markup=False, soft_wrap=True)
            if desk.listed("pulls"):
                events += [{"day": number + 1, **event} for event in _merge(workspace, desk)]
                out.print(f"day {number + 1:>3}  {events[-1]['what']}", markup=False, soft_wrap=True)
                fresh = "merged" in events[-1]
    return {"days": days, "events": events, "requests": served.asked, "failed": served.failed}


class _Postbox:
    """Labels on their way: the day each arrives."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._days: dict[datetime.datetime, list[dict[str, Any]]] = {}

    def send(self, day: datetime.datetime, prediction_id: str, label: str) -> None:
        if self._draw.random() < SHARE:
            arrives = day + self._draw.randint(EARLIEST, LATEST) * DAY
            self._days.setdefault(arrives, []).append({"prediction_id": prediction_id, "label": label})

    def arrive(self, day: datetime.datetime) -> list[dict[str, Any]]:
        return self._days.pop(day, [])


def _one_day(
    workspace: Workspace, served: Service, customers: Customers, day: datetime.datetime, post: _Postbox, fresh: bool
) -> Facts:
    """Send the day's customers and labels; with `fresh`, while the service takes a new model.

    Returns the truth, known to the story alone: each row's positive probability as served, label and true probability.
    """
    today, answers = customers.of(day), []
    before = served.version()
    if fresh:
        served.reload()
    with ThreadPoolExecutor(2) as clients:
        for part, moment in zip(range(0, len(today.rows), PACK), _moments(day), strict=False):
            set_clock(workspace.clock, moment)
            rows = today.rows[part : part + PACK]
            size = 1 if fresh and not part else BLOCK  # many small requests while the workers change
            blocks = [rows[at : at + size] for at in range(0, len(rows), size)]
            for answer in clients.map(served.predict, blocks):
                answers += answer["predictions"]
        labels = post.arrive(day)
        list(clients.map(served.label, [labels[at : at + BLOCK] for at in range(0, len(labels), BLOCK)]))
    for answer, label in zip(answers, today.labels, strict=True):
        post.send(day, answer["prediction_id"], label)
    positive = customers.positive
    if fresh and served.version() == before:
        raise UserError("the service did not take the new model", "see what gunicorn said")
    served.shipped()
    return {
        "version": served.version(),
        "said": [answer["probabilities"][positive] for answer in answers],
        "label": [int(label == positive) for label in today.labels],
        "truth": today.truth.tolist(),
        "labels_arrived": len(labels),
    }


def _moments(day: datetime.datetime) -> Iterator[datetime.datetime]:
    hours = 24 / (DAILY / PACK)
    return (day + datetime.timedelta(hours=hours * (place + 0.5)) for place in range(DAILY // PACK))


def _monday(workspace: Workspace, desk: Desk, now: datetime.datetime) -> Iterator[Facts]:
    """What drift.yml does: watch, and retrain if that says so."""
    workspace.perennial("drift", "--until", f"{now:%Y-%m-%dT%H:%M}")
    facts = json.loads((workspace.path / "reports/drift.json").read_text(encoding="utf-8"))
    yield {"what": f"watch: {facts['decision']} ({facts['reasons'][0]})", "decision": facts["decision"]}
    if facts["decision"] == "retrain":
        workspace.perennial("retrain")
        for pull in desk.listed("pulls"):
            yield {"what": f"pull request #{pull['number']}: {pull['title']}", "pull": pull["number"]}


def _merge(workspace: Workspace, desk: Desk) -> Iterator[Facts]:
    """What a reviewer does who believes the gate."""
    (pull,) = desk.listed("pulls")
    if PASSED not in pull["title"]:
        why = "; ".join(line[4:].strip() for line in pull["body"].splitlines() if line.startswith("- ❌"))
        yield {"what": f"#{pull['number']} is not merged, for the gate says no: {why}", "short": "refused"}
        return
    commit = workspace.merge(pull["head"]["ref"])
    pull["state"] = "closed"
    workspace.perennial("run")
    yield {
        "what": f"merged as {commit[:8]}; the service takes the new model",
        "merged": commit,
        "short": "merged, served",
    }


def _recovery(story: Facts, customers: Customers, folder: Path, params: Params) -> Facts:
    """ROC AUC after the last merge: of what serves, and of a model trained on the whole truth of the same days."""
    from perennial.pipeline import features, train

    merges = [event["day"] for event in story["events"] if "merged" in event]
    if not merges:
        raise UserError("no pull request was merged: the loop did not close", "see the decisions above")
    known = [START + number * DAY for number in range((ONSET - START).days, merges[0])]
    model, _ = train.fit(customers.frame(known, folder), params)
    later = [day for day in story["days"] if day["day"] >= merges[-1]]
    frame = customers.frame([START + day["day"] * DAY for day in later], folder)
    ideal = model.predict_proba(features.matrix(frame, params.data))[:, 1]
    label = np.concatenate([day["label"] for day in later])
    said = np.concatenate([day["said"] for day in later])
    before = [day for day in story["days"] if (ONSET - START).days <= day["day"] < merges[0]]
    return {
        "served": picture.auc(label, said),
        "trained_on_the_truth": picture.auc(label, ideal),
        "reachable": picture.auc(label, np.concatenate([day["truth"] for day in later])),
        "before": picture.auc(
            np.concatenate([d["label"] for d in before]), np.concatenate([d["said"] for d in before])
        ),
    }

"""`perennial <verb>`: one command for the whole life of a model.

Each verb is a line or two over the module that does the work, and `make <verb>` calls it.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from perennial import console
from perennial.errors import UserError
from perennial.simulate import Drift

app = typer.Typer(
    help="A model that is versioned, tested, reviewed, served, watched and renewed by pull requests.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def run() -> None:
    """Bring the pipeline up to date (prepare, train, evaluate) and show the result."""
    from perennial import repro

    repro.run()


@app.command()
def show() -> None:
    """Show the last result again."""
    from perennial import repro
    from perennial.params import load

    repro.show(load())


@app.command()
def prepare() -> None:
    """Stage 1 alone: check the raw batches against the contract and split them."""
    from perennial.pipeline.prepare import main

    main()


@app.command()
def train() -> None:
    """Stage 2 alone: fit the estimator and export it to ONNX."""
    from perennial.pipeline.train import main

    main()


@app.command()
def evaluate() -> None:
    """Stage 3 alone: judge the exported model on the hold-out."""
    from perennial.pipeline.evaluate import main

    main()


@app.command()
def verify() -> None:
    """Tell whether dvc.lock is current, in seconds and without training."""
    from perennial import verify as checks

    checks.verify()


@app.command()
def reproduce() -> None:
    """Run everything again in an empty place: same bytes, same metrics, or different."""
    from perennial import verify as checks

    checks.reproduce()


@app.command()
def gate() -> None:
    """Tell whether this tree's model may be merged, against the champion of the base commit."""
    from perennial.review import gate as judge

    raise typer.Exit(0 if judge.gate() else 1)


@app.command()
def report() -> None:
    """Write and print the report of the last gate, as it stands on a pull request."""
    from perennial.review import report as reports

    reports.main()


@app.command()
def review(
    show: Annotated[bool, typer.Option("--open", help="Open the evaluation's page in a browser afterwards")] = False,
) -> None:
    """Gate and report, as they run on a pull request; the exit code is the gate's."""
    from perennial.review import gate as judge
    from perennial.review import report as reports

    passed = judge.gate()
    reports.main()
    if show:
        typer.launch("reports/report.html")
    raise typer.Exit(0 if passed else 1)


@app.command()
def serve(port: Annotated[int, typer.Option(help="0 for a free one")] = 0) -> None:
    """Serve the last model on this machine, and print a request to try."""
    from perennial.serving import local

    local.serve(port)


@app.command()
def score(
    data: Annotated[Path, typer.Argument(help="CSV or Parquet file with the features")],
    out: Annotated[Path, typer.Argument(help="CSV or Parquet file to write")],
) -> None:
    """Score a file of any size with the last model; a row that does not fit keeps its place, with the reason."""
    from perennial.score import score as score_file

    score_file(data, out)


@app.command("release-plan")
def release_plan() -> None:
    """Say which version this commit is or becomes, and why."""
    from perennial.release import publish

    publish.show_plan()


@app.command("release-image")
def release_image() -> None:
    """Build, try and push the image of this commit, unless the registry has it; write its bill of materials."""
    from perennial.release import publish

    publish.make_image()


@app.command()
def release() -> None:
    """Tag this commit's version, publish its release page, propose it for staging."""
    from perennial.release import publish

    publish.publish()


@app.command()
def promote() -> None:
    """Propose for production what runs in staging."""
    from perennial.release import deploy

    deploy.promote()


@app.command()
def rollback(
    to: Annotated[str, typer.Argument(help="The version to bring back, as v1.2.3")],
    environment: Annotated[str, typer.Option(help="staging or production")] = "production",
) -> None:
    """Propose an earlier version of an environment again."""
    from perennial.release import deploy

    deploy.rollback(to, environment)


@app.command()
def canary(
    nginx: Annotated[Path, typer.Option(help="The folder of the proxy's split.conf")] = Path("deploy/nginx"),
    reload: Annotated[str, typer.Option(help="The command that makes the proxy read it; by default, compose's")] = "",
    steps: Annotated[str, typer.Option(help="Percent of the traffic, one after the other")] = "5,25,50,100",
    seconds: Annotated[float, typer.Option(min=0, help="Of a step, at least")] = 120,
    requests: Annotated[int, typer.Option(min=1, help="Of the challenger in a step, at least")] = 500,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks")] = 5,
    patience: Annotated[float, typer.Option(min=0, help="Seconds after which a step with fewer is given up")] = 1800,
    shadow: Annotated[bool, typer.Option("--shadow", help="The challenger sees all and answers nobody")] = False,
) -> None:
    """Give the challenger a growing share of the traffic, and none when it does worse than the champion."""
    from perennial.release import canary as trial

    course = trial.Course(trial.steps_of(steps), seconds, requests, patience, interval)
    good = trial.canary(nginx, reload or trial.RELOAD, course, trial.Bounds(), shadow)
    raise typer.Exit(0 if good else 1)


@app.command()
def drift(
    store: Annotated[str, typer.Option(envvar="PREDICTION_STORE", help="Where the service ships its log")] = "",
    until: Annotated[str, typer.Option(help="The end of the last window, ISO 8601; now, if not given")] = "",
) -> None:
    """Look at the last three windows of production and decide: quiet, watch, data-quality or retrain."""
    from perennial.monitoring import watch

    watch.show(watch.watch(store or "logs/store", _moment(until)))


@app.command()
def evidently(
    store: Annotated[str, typer.Option(envvar="PREDICTION_STORE", help="Where the service ships its log")] = "",
    until: Annotated[str, typer.Option(help="The end of the window, ISO 8601; now, if not given")] = "",
) -> None:
    """Draw the last window with Evidently: a second look that decides nothing (`make evidently` has it installed)."""
    from perennial.monitoring import evidently_report

    evidently_report.write(store or "logs/store", _moment(until))


def _moment(text: str, option: str = "--until") -> datetime | None:
    """The time, in UTC where it does not say."""
    try:
        time = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise UserError(f"{option} {text}: no time in ISO 8601", "write it as 2026-03-31T00:00, in UTC") from None
    return time.replace(tzinfo=time.tzinfo or UTC) if time else None


@app.command()
def window(
    store: Annotated[str, typer.Option(envvar="PREDICTION_STORE", help="Where the service ships its log")] = "",
    since: Annotated[str, typer.Option(help="ISO 8601; 30 days before its end, if not given")] = "",
    until: Annotated[str, typer.Option(help="ISO 8601; now, if not given")] = "",
    rows: Annotated[int | None, typer.Option(min=1, help="Only the newest so many")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV or Parquet file to write the rows and labels to")] = None,
) -> None:
    """Say what the log holds of a span of time: rows, labels, versions, and what could not be read."""
    from perennial.monitoring import coverage

    end = _moment(until) or datetime.now(UTC)
    begin = _moment(since, "--since") or end - timedelta(days=30)
    coverage.window(store or "logs/store", begin, end, rows, out)


@app.command()
def retrain() -> None:
    """Propose a model trained on the newest labelled rows, if the last `drift` said so (called by drift.yml)."""
    from perennial.monitoring import retrain as training

    training.retrain()


@app.command()
def watch(
    store: Annotated[str, typer.Option(envvar="PREDICTION_STORE", help="Where the service ships its log")] = "",
) -> None:
    """Drift, and say it: in the summary and in one standing issue (called by drift.yml)."""
    from perennial.monitoring import tell
    from perennial.monitoring import watch as windows

    facts = windows.watch(store) if store else None
    tell.tell(facts)
    if facts:
        windows.show(facts)


@app.command()
def loop() -> None:
    """Play a model's life on the built-in data: serve, drift, alarm, pull request, merge, recovery (some minutes)."""
    from perennial.rehearsal import loop as story

    story.loop()


@app.command()
def trace(
    what: Annotated[str, typer.Argument(help="A prediction id, image digest, version or commit")],
) -> None:
    """Print what is behind a prediction or an image, down to data, commit and pull request."""
    from perennial.release import trace as lineage

    lineage.show(what)


@app.command("track-data")
def track_data(
    remote: Annotated[str, typer.Argument(help="A folder, or a URL such as s3://bucket/path, gs://… or azure://…")],
) -> None:
    """Move the raw data out of Git, under DVC, into a remote."""
    from perennial import track

    track.track_data(remote)


@app.command()
def simulate(
    start: Annotated[str, typer.Option(help="First month, YYYY-MM")] = "2025-01",
    months: Annotated[int, typer.Option(min=1, help="How many")] = 12,
    rows: Annotated[int, typer.Option(min=1, help="Customers a month")] = 1500,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    drift: Annotated[Drift, typer.Option(help="What went wrong by then")] = "none",
    out: Annotated[Path, typer.Option(help="Folder to write to")] = Path("data/raw"),
) -> None:
    """Write months of the built-in data: a simulated subscription service."""
    from perennial import simulate as simulation

    names = simulation.months_from(start, months)
    batches = [simulation.simulate_month(month, rows, seed, drift) for month in names]
    for month, batch in zip(names, batches, strict=True):
        simulation.write_month(batch, out / f"{month}.csv")
    console.out.print(
        f"{months * rows:,} rows in {out}. "
        f"No model can reach more than ROC AUC {simulation.best_auc(batches):.3f} on them."
    )


def main() -> None:
    console.run(app)


if __name__ == "__main__":
    main()

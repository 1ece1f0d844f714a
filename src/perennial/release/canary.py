"""A challenger beside the champion on one machine: a growing share of the traffic, watched, and back to none by rule.

Works on the reverse proxy of deploy/nginx, by the file that says who answers which share, and on Prometheus. Needs no
cluster. In shadow mode the challenger sees the traffic and answers nobody.
"""

import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from perennial.console import out
from perennial.errors import UserError
from perennial.files import atomic, write_json
from perennial.release.prometheus import Traffic, between, query, shift, totals

RESULT = Path("reports/canary.json")
RELOAD = (
    "docker compose --file deploy/compose.yaml --env-file deploy/compose.env "
    "exec -T proxy nginx -e stderr -p /tmp -c /etc/perennial/nginx.conf -s reload"
)
SPLIT = """\
# Written by `perennial canary`: who answers a prediction, and which of them the challenger sees in its shadow.
# No line for 0 %: nginx refuses it.
split_clients $request_id $track {{
    {track};
}}
split_clients shadow$request_id $shadow {{
    {shadow};
}}
"""
LABELLED = 100  # labels of each before which their worth is not compared
FEW = 20  # requests before which nothing is said
SURE = NormalDist().inv_cdf(0.99)  # beyond chance: there are several looks at a step


@dataclass(frozen=True)
class Bounds:
    """What ends a canary, each beyond chance."""

    errors: float = 0.01  # more of its requests fail than of the champion's
    slower: float = 2.0  # times the champion's 95th percentile …
    free: float = 0.025  # … and slower than so many seconds
    shift: float = 0.25  # PSI of its predictions against the champion's, less what chance gives


@dataclass(frozen=True)
class Course:
    """How the share grows."""

    steps: tuple[int, ...] = (5, 25, 50, 100)  # percent
    seconds: float = 120.0  # of a step, at least
    requests: int = 500  # of the challenger in a step, at least
    patience: float = 1800.0  # seconds after which a step with fewer is given up
    interval: float = 5.0  # between two looks


def canary(nginx: Path, reload: str, course: Course, bounds: Bounds, shadow: bool = False) -> bool:
    """Let the challenger answer more and more; whether it came to the end of the course.

    Raises:
        UserError: when nginx or Prometheus cannot be used; the challenger then answers nobody.
    """
    if not (nginx / "split.conf").is_file():
        raise UserError(f"there is no split.conf in {nginx}", "--nginx <the folder of the proxy's configuration>")
    RESULT.unlink(missing_ok=True)  # of an earlier one
    steps = [_step_of(0, True)] if shadow else [_step_of(share, False) for share in course.steps]
    passed: list[dict[str, Any]] = []
    usual = Traffic()  # what the champion did while it still had some
    with _back_to_champion(nginx, reload) as keep:
        for share, text in steps:
            reason, challenger = _down(), Traffic()  # asked first: no traffic for one that cannot be watched
            if not reason:
                _route(nginx, reload, text)
                reason, usual, challenger = _watch(course, bounds, usual)
            passed.append({"share": share, "stopped": reason, **_figures(usual, challenger)})
            _say(passed[-1], shadow)
            if reason:
                break
        good = not passed[-1]["stopped"]
        if good and not shadow:
            keep()
    write_json(RESULT, {"passed": good, "shadow": shadow, "steps": passed, "bounds": asdict(bounds)}, sort_keys=False)
    return good


def steps_of(text: str) -> tuple[int, ...]:
    """Growing percentages from `5,25,100`.

    Raises:
        UserError: when it is anything else.
    """
    words = text.split(",")
    steps = tuple(int(word) if word.strip().isdecimal() else 0 for word in words)
    if not all(low < high for low, high in zip((0, *steps), (*steps, 101), strict=True)):
        raise UserError(f"--steps {text!r}: not growing percentages", "such as --steps 5,25,50,100")
    return steps


def _step_of(share: int, shadow: bool) -> tuple[int, str]:
    lines = "* challenger" if share >= 100 else f"{share}% challenger;\n    * champion" if share else "* champion"
    return share, SPLIT.format(track=lines, shadow="* on" if shadow else "* off")


@contextmanager
def _back_to_champion(nginx: Path, reload: str) -> Iterator[Any]:
    """Whatever happens inside, Ctrl-C too, the champion answers everything afterwards; unless `keep` was called."""
    kept = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _interrupt)
    try:
        yield lambda: kept.append(True)
    finally:
        try:
            if not kept:
                _route(nginx, reload, _step_of(0, False)[1])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt  # a job that is cancelled, a terminal that is closed


def _route(nginx: Path, reload: str, text: str) -> None:
    with atomic(nginx / "split.conf") as path:
        path.write_text(text, encoding="utf-8")
    try:
        done = subprocess.run(shlex.split(reload), capture_output=True, text=True)
    except (OSError, ValueError) as error:
        raise UserError(f"the proxy did not reload: {error}", "--reload '<command>'") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-300:] or f"exit code {done.returncode}"
        raise UserError(f"the proxy did not reload: {said}", "--reload '<command>'")


def _watch(course: Course, bounds: Bounds, usual: Traffic) -> tuple[str, Traffic, Traffic]:
    """Look until the step is long enough or a bound is passed: why it must end (or nothing), and what was seen."""
    began = time.monotonic()
    before = _both()
    while True:
        time.sleep(course.interval)
        spent = time.monotonic() - began
        champion, challenger = (between(old, new) for old, new in zip(before, _both(), strict=True))
        champion = champion if champion.requests >= FEW else usual
        reason = trouble(champion, challenger, bounds) or _down()
        enough = challenger.requests >= course.requests and spent >= course.seconds
        if not reason and not enough and spent > course.patience:
            reason = f"only {challenger.requests:.0f} requests in {spent:.0f} s: too few to tell anything"
        if reason or enough:
            return reason, champion, challenger


def _both() -> tuple[Traffic, Traffic]:
    return totals('track="champion"'), totals('track="challenger"')


def _down() -> str:
    instances = query('up{track="challenger"}')
    return "" if instances and all(row["value"][1] == "1" for row in instances) else "an instance is down"


def trouble(champion: Traffic, challenger: Traffic, bounds: Bounds) -> str:
    """The first bound that is passed, in words; empty when none is."""
    if challenger.started:
        return f"{challenger.started:.0f} of its workers began anew: they died, or it was reloaded or restarted"
    if challenger.requests < FEW:
        return ""
    more = challenger.error_rate - champion.error_rate - bounds.errors
    spread = sum(t.error_rate * (1 - t.error_rate) / t.requests for t in (champion, challenger) if t.requests)
    if more > SURE * spread**0.5:
        return f"{challenger.error_rate:.1%} of its requests fail, {champion.error_rate:.1%} of the champion's"
    slow, usual = challenger.quantile(0.95), champion.quantile(0.95)
    late = 1 - challenger.within(max(bounds.free, bounds.slower * usual))
    if late - 0.05 > SURE * (0.05 * 0.95 / challenger.requests) ** 0.5:
        return f"95 % of its answers take up to {1000 * slow:.0f} ms, the champion's {1000 * usual:.0f} ms"
    if challenger.lost:
        return f"{challenger.lost:.0f} of its rows were not logged"
    if worse := _worse(champion, challenger):
        return worse
    moved, chance = shift(champion, challenger)
    if moved - 3 * chance > bounds.shift:  # three times the mean: one look in a thousand, of ten bins
        return f"its predictions are spread differently: PSI {moved:.2f}"
    return ""


def _worse(champion: Traffic, challenger: Traffic) -> str:
    """Whether its answers turn out worse, by the labels that came; money counts where outcomes have a price."""
    (usual, usual_variance, known), (cost, variance, labelled) = champion.cost(), challenger.cost()
    if min(known, labelled) < LABELLED or cost - usual <= SURE * (usual_variance / known + variance / labelled) ** 0.5:
        return ""
    if challenger.prices:
        return f"an answer of its is worth {-cost:.3g}, of the champion's {-usual:.3g}, by {labelled:.0f} labels"
    return f"the loss of its answers is {cost:.3g}, of the champion's {usual:.3g}, by {labelled:.0f} labels"


def _figures(champion: Traffic, challenger: Traffic) -> dict[str, Any]:
    return {
        name: {"requests": t.requests, "errors": t.error_rate, "p95": t.quantile(0.95), "lost": t.lost}
        for name, t in (("champion", champion), ("challenger", challenger))
    } | {"psi": shift(champion, challenger)[0]}


def _say(step: dict[str, Any], shadow: bool) -> None:
    new, old = step["challenger"], step["champion"]
    mark, what = ("[red]✗[/]" if step["stopped"] else "[green]✓[/]"), "shadow" if shadow else f"{step['share']} %"
    out.print(
        f"{mark} {what}: {new['requests']:.0f} requests (champion {old['requests']:.0f}), {new['errors']:.2%} failed "
        f"({old['errors']:.2%}), p95 {1000 * new['p95']:.1f} ms ({1000 * old['p95']:.1f})"
    )
    if step["stopped"]:
        out.print(f"  {step['stopped']}. The champion answers everything again.", markup=False)

"""Say what the watch decided: in the run's summary and output, and in one standing issue, closed when all is quiet.

Lasting drift has a pull request instead of an issue (`retrain`); an issue that stands is renewed all the same.
"""

import os
from pathlib import Path
from typing import Any

from perennial.console import out
from perennial.files import atomic
from perennial.github import api, pages
from perennial.params import METRICS
from perennial.pipeline.page import number
from perennial.review.markdown import code, fold, safe, table

REPORT = Path("reports/drift.md")
LABEL, TITLE = "drift", "Production: "
LONGEST = 65_000  # characters; GitHub takes 65,536
MEANING = {
    "quiet": "Production looks like training.",
    "watch": "Something moved, once or where it does not matter. Nothing to do yet.",
    "data-quality": "The data is broken, not the world: mend its source. A model must not learn from it.",
    "retrain": "The world has moved, and it lasts: a model that learns from the newest labelled rows is due.",
}
HINT = (
    "The repository variable `PREDICTION_STORE` names the place where the service ships its log: a URL "
    "that fsspec knows, such as `s3://bucket/path`, with credentials by secrets (docs/monitoring.md)."
)
UNCONNECTED = f"## No production to watch yet\n\n{HINT}\n"


def tell(facts: dict[str, Any] | None) -> None:
    """Write reports/drift.md, add it to the summary, and renew or close the issue (in GitHub Actions)."""
    text = render(facts) if facts else UNCONNECTED
    with atomic(REPORT) as path:
        path.write_text(text, encoding="utf-8")
    decision = facts["decision"] if facts else "quiet"
    for name, told in (("GITHUB_STEP_SUMMARY", text), ("GITHUB_OUTPUT", f"decision={decision}\n")):
        if path_of := os.environ.get(name):
            with open(path_of, "a", encoding="utf-8") as file:
                file.write(told)
    repository = os.environ.get("GITHUB_REPOSITORY")
    if facts and repository and os.environ.get("GITHUB_TOKEN"):
        standing_issue(repository, decision, text, make=decision != "retrain")


def standing(repository: str) -> Any:
    """The open issue; None when all was quiet. One that a person wrote under the same label is not ours."""
    listed = pages(f"/repos/{repository}/issues?state=open&labels={LABEL}")
    ours = (entry for entry in listed if "pull_request" not in entry and entry["title"].startswith(TITLE))
    return next(ours, None)


def standing_issue(repository: str, decision: str, text: str, make: bool = True) -> None:
    """One open issue while something is wrong, none while all is quiet; without `make` it is only renewed."""
    issue = standing(repository)
    words = {"title": TITLE + decision, "body": text[:LONGEST]}
    if decision == "quiet":
        if issue:
            api("POST", f"/repos/{repository}/issues/{issue['number']}/comments", {"body": "Quiet again."})
            api("PATCH", f"/repos/{repository}/issues/{issue['number']}", {"state": "closed"})
            out.print(f"Closed #{issue['number']}.")
    elif issue is None:
        if not make:
            return
        made = api("POST", f"/repos/{repository}/issues", words | {"labels": [LABEL]})
        out.print(f"Opened {made['html_url']}", soft_wrap=True)
    elif {key: issue[key] for key in words} != words:
        api("PATCH", f"/repos/{repository}/issues/{issue['number']}", words)
        out.print(f"Renewed #{issue['number']}.")


def render(facts: dict[str, Any]) -> str:
    """The decision, its reasons, and what it was seen in, as Markdown."""
    lead = next(iter(METRICS[facts["task"]]))
    lines = [f"## Production: {facts['decision']}", "", MEANING[facts["decision"]], ""]
    lines += [f"- {safe(reason)}" for reason in facts["reasons"]]
    header = ["window", "rows:", "labelled:", "drifted", "broken", f"{lead}:", "expected:"]
    lines += ["", *table(header, [_window(window, lead) for window in facts["windows"]])]
    lines += ["", "*Expected* is what the model's own probabilities promise: blind to a change of what the rows mean."]
    newest = facts["windows"][0]
    if newest["features"]:
        cells = [
            [code(row["feature"]), f"{row['psi']:.3f}", f"{row['p']:.2g}", _share(row["missing"]), _share(row["other"])]
            for row in newest["features"]
        ]
        rows = table(["feature, what matters most first", "shift (PSI):", "p:", "missing:", "unlisted:"], cells)
        lines += fold("The last window, feature by feature", rows)
    if not any(window["coverage"]["rows"] for window in facts["windows"]):
        lines += ["", f"Nothing is logged in {code(facts['store'])} yet. {HINT}"]
    if facts["learnt"]:
        lines += ["", f"Only what came after {facts['learnt'][:16]} counts: the model has learnt from the rest."]
    return "\n".join([*lines, "", f"Model {code(facts['model'][:12])}."]) + "\n"


def _window(window: dict[str, Any], lead: str) -> list[str]:
    kept, found = window["coverage"], window.get("quality")
    figure = (
        f"{number(found[lead]['value'])} ({number(found[lead]['low'])} to {number(found[lead]['high'])})"
        if found
        else "–"
    )
    names = [", ".join(map(code, window[what])) or "–" for what in ("drifted", "broken")]
    days = f"{kept['since'][:10]} to {kept['until'][:10]}"
    expected = number(window.get("expected", {}).get(lead))
    return [days, f"{kept['rows']:,}", f"{kept['labelled']:.0%}", *names, figure, expected]


def _share(row: dict[str, float]) -> str:
    return f"{row['before']:.1%} → {row['now']:.1%}"

"""reports/evidently.html: the last window beside the training rows, as Evidently draws them. It decides nothing.

Evidently's own verdicts are no alarm: its tests take the reference as exact up to 1,000 rows and change to fixed
distances above, and it leaves missing values out. It is a second look at the rows, and runs in an environment of its
own (`make evidently`), for that is a gigabyte which nothing else needs.
"""

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.console import out, step
from perennial.errors import UserError
from perennial.files import atomic, read_json
from perennial.monitoring import watch
from perennial.monitoring.window import read
from perennial.params import Params, load

if TYPE_CHECKING:
    import pandas as pd

REPORT, TRAIN = Path("reports/evidently.html"), Path("data/prepared/train.parquet")
MOST = 20_000  # rows of a side: a distance is known to a hundredth by then, and Evidently's time grows with them
BRACKETS = str.maketrans("<>", "‹›")
NOTICE = (
    '<p style="font: 16px/1.5 system-ui, sans-serif; margin: 0; padding: 1rem; background: #fef3c7; color: #0f172a">'
    "A second look at the last window's rows (current) beside the training rows (reference), drawn by Evidently. "
    "It decides nothing, and leaves missing values out of its tests: the decision is in <code>drift.html</code>.</p>"
)


def write(store: str, until: datetime.datetime | None = None) -> None:
    """Draw the last window before `until` (now).

    Raises:
        UserError: when the window has too few rows to be worth a look, or this is another environment.
    """
    params = load()
    since, end = watch.spans(params, until)[0]
    with step(f"Reading the {params.watch.days:g} days before {end:%Y-%m-%d %H:%M}"):
        window = watch.comparable(read(store, since, end, most=MOST), read_json(watch.PROFILE)["classes"])
    if len(window.rows) < params.watch.rows:
        known = f"{len(window.rows)} rows in the last window, fewer than {params.watch.rows}"
        raise UserError(f"{store}: {known}: too few to look at", "PREDICTION_STORE=<the log>, or --until <a time>")
    with step("Drawing with Evidently"):
        html = draw(watch.typed(window.frame(), params), reference(params), params)
    with atomic(REPORT) as path:
        path.write_text(html, encoding="utf-8")
    out.print(f"Report: {REPORT}   a second look; the decision is `make drift`'s")


def reference(params: Params) -> "pd.DataFrame":
    """The training rows, or a sample of them, the same each time."""
    import pandas as pd

    rows = pd.read_parquet(TRAIN, columns=list(params.data.features))
    return rows.sample(min(len(rows), MOST), random_state=params.seed)


def draw(current: "pd.DataFrame", before: "pd.DataFrame", params: Params) -> str:
    """Both presets as one HTML page that loads nothing from elsewhere."""
    os.environ["DO_NOT_TRACK"] = "1"  # read when Evidently is imported
    try:
        from evidently import DataDefinition, Dataset, Report
    except ImportError as error:
        raise UserError(f"Evidently is not here: {error}", "run `make evidently`") from None
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    columns = columns_of(current, before, params)
    definition = DataDefinition(**columns)  # what it guesses leaves nullable types out without a word
    now, then = (Dataset.from_pandas(cast(frame, columns), data_definition=definition) for frame in (current, before))
    run = Report([DataDriftPreset(), DataSummaryPreset()]).run(current_data=now, reference_data=then)
    return with_notice(run.get_html_str(as_iframe=False))


def columns_of(current: "pd.DataFrame", before: "pd.DataFrame", params: Params) -> dict[str, list[str]]:
    """The features by Evidently's kinds, but for those with a side that has no value at all: one ends its report."""
    filled = [name for name in params.data.features if current[name].notna().any() and before[name].notna().any()]
    kinds = {"numerical_columns": ["number"], "categorical_columns": ["category", "boolean"], "text_columns": ["text"]}
    return {kind: [n for n in filled if params.data.features[n].type in types] for kind, types in kinds.items()}


def cast(frame: "pd.DataFrame", columns: dict[str, list[str]]) -> "pd.DataFrame":
    """Types that Evidently reads: float64, and strings as objects with None; nothing else of the frame.

    Without angle brackets: Evidently writes values into a script of its page as they are, and a `</script>` that a
    client sent would end it and begin another.
    """
    cells: dict[str, Any] = {name: frame[name].astype("float64") for name in columns["numerical_columns"]}
    for name in columns["categorical_columns"] + columns["text_columns"]:
        words = frame[name].astype("str").str.translate(BRACKETS)
        cells[name] = words.astype(object).where(frame[name].notna(), None)
    return frame[[]].assign(**cells)


def with_notice(html: str) -> str:
    """The page with a line above it that says what it is not."""
    head, body, rest = html.partition("<body>")
    if not body:
        raise RuntimeError("Evidently's page has no <body>: say elsewhere that it decides nothing")
    return f"{head}{body}{NOTICE}{rest}"

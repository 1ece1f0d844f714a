"""Runs in a contender's own environment: reads `[what, path]` a line, answers with a line of JSON.

    <its python> others.py evidently|nannyml

`verdicts` gives of each turn the columns called drifted, null where it cannot be asked, or the error it ended
with; `report` the same from Evidently's own report; `speed` CPU seconds.
"""

import json
import sys
import warnings
from pathlib import Path

import pandas as pd
from timing import timed

warnings.simplefilter("ignore")
ROUNDS = 3


def frames(path):
    table = pd.read_parquet(path)
    for _, rows in table.groupby("turn", sort=True):
        now = rows["now"]
        yield (rows[part].drop(columns=["turn", "now"]).reset_index(drop=True) for part in (~now, now))


def kind(column):
    return "num" if pd.api.types.is_numeric_dtype(column) else "cat"


class Evidently:
    def __init__(self):
        from evidently import DataDefinition, Dataset, Report
        from evidently.legacy.calculations.stattests import get_stattest
        from evidently.metrics import DriftedColumnsCount
        from evidently.presets import DataDriftPreset

        self.get, self.preset, self.count = get_stattest, DataDriftPreset, DriftedColumnsCount
        self.Report, self.Dataset, self.Definition = Report, Dataset, DataDefinition

    def named(self, before, now):
        """By the tests that its presets choose by default, called directly: a report draws for seconds."""
        found = []
        for name in before:
            one, other = before[name].dropna(), now[name].dropna()  # as its report does
            if one.empty or other.empty:
                raise ValueError(f"An empty column '{name}'")
            test = self.get(one, other, kind(one), None)
            if test(one, other, kind(one), None).drifted:
                found.append(name)
        return found

    def report(self, metric, before, now, **options):
        numbers = [name for name in before if kind(before[name]) == "num"]
        definition = self.Definition(
            numerical_columns=numbers, categorical_columns=[name for name in before if name not in numbers]
        )
        parts = [self.Dataset.from_pandas(part, data_definition=definition) for part in (now, before)]
        return self.Report([metric], **options).run(*parts)

    def by_report(self, before, now):
        tests = self.report(self.preset(), before, now, include_tests=True).dict()["tests"]
        columns = [test["metric_config"]["params"].get("column") for test in tests]
        failed = [test["status"] == "FAIL" for test in tests]
        return [column for column, drifted in zip(columns, failed, strict=True) if column and drifted]

    def speed(self, before, now, folder):
        html = folder / "evidently.html"
        return {
            "Evidently, its preset and the page": timed(
                lambda: self.report(self.preset(), before, now).save_html(str(html)), ROUNDS
            ),
            "Evidently, its preset": timed(lambda: self.report(self.preset(), before, now).dict(), ROUNDS),
            "Evidently, the count of drifted columns": timed(
                lambda: self.report(self.count(), before, now).dict(), ROUNDS
            ),
            "Evidently, its tests called directly": timed(lambda: self.named(before, now), ROUNDS),
        }


class Nannyml:
    def __init__(self):
        import nannyml

        self.calculator = nannyml.UnivariateDriftCalculator

    def named(self, before, now):
        """With its default distances and thresholds; a chunk is a window, so the reference is cut as production is.

        None where that gives fewer than three chunks: its limits are three standard deviations over them.
        """
        if len(before) < 3 * len(now):
            return None
        fitted = self.calculator(column_names=list(before), chunk_size=len(now)).fit(before)
        figures = fitted.calculate(now).filter(period="analysis").to_df()
        alerts = [column for column in figures.columns if column[-1] == "alert"]
        return sorted({column[0] for column in alerts if figures[column].any()})

    def speed(self, before, now, _):
        def work():
            fitted = self.calculator(column_names=list(before), chunk_number=10).fit(before)
            fitted.calculate(now).to_df()

        return {"NannyML, univariate drift": timed(work, ROUNDS)}


def answer(other, what, path):
    if what == "speed":
        ((before, now),) = frames(path)
        return other.speed(before, now, Path(path).parent)
    ask = other.named if what == "verdicts" else other.by_report
    found = []
    for before, now in frames(path):
        try:
            found.append(ask(before, now))
        except Exception as error:  # whatever it raises on a window is its verdict on it
            found.append({"error": f"{type(error).__name__}: {error}"[:200]})
    return found


def main():
    answers, sys.stdout = sys.stdout, sys.stderr  # what they print is no answer
    other = {"evidently": Evidently, "nannyml": Nannyml}[sys.argv[1]]()
    for line in sys.stdin:
        print(json.dumps(answer(other, *json.loads(line))), file=answers, flush=True)


main()

"""The dashboard of deploy/grafana, judged by the types of the Grafana that compose.yaml names, and by a Prometheus that
answers each of its queries about a service that runs.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from observed import Observed
from promtool import rules_text
from proxy import DEPLOY, needs
from service.servers import train_model, until

from perennial.params import Params
from perennial.serving import metrics

Object = dict[str, Any]
FILE = DEPLOY / "grafana/dashboards/model.json"
MODEL: Object = json.loads(FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in MODEL["panels"] if panel["type"] != "row"]
FILLED = {"$namespace": ".*", "$track": ".*", "$__rate_interval": "10s"}  # what Grafana puts in their place
COMPILER = "typescript@5"
KINDS = {"stat": "Stat", "bargauge": "BarGauge", "table": "Table", "timeseries": "TimeSeries"}  # of panels
TYPES = 'import type * as dashboard from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";\n'
for kind, file in KINDS.items():
    path = f"@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{file}PanelCfg_types.gen"
    TYPES += f'import type * as {kind} from "{path}";\n'
TYPES += """
// JSON has words where these have enums.
type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[]
    : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Query = { refId: string; expr: string; legendFormat?: string; instant?: boolean; format?: "table" };
type Field<Custom> = Omit<dashboard.FieldConfigSource, "defaults"> & {
    defaults: Omit<dashboard.FieldConfig, "custom"> & { custom?: Partial<Custom> };
};
type Of<Type, Options, Custom = {}> = Omit<dashboard.Panel, "type" | "options" | "targets" | "fieldConfig"> & {
    type: Type; options?: Partial<Options>; targets: Query[]; fieldConfig: Field<Custom>;
};
type Panel = dashboard.RowPanel | Of<"stat", stat.Options> | Of<"bargauge", bargauge.Options>
    | Of<"table", table.Options, table.FieldConfig> | Of<"timeseries", timeseries.Options, timeseries.FieldConfig>;
// The last three are those of the Prometheus data source.
type Note = Omit<dashboard.AnnotationQuery, "target"> & {
    target: Query & { interval: string }; titleFormat: string; tagKeys: string;
};
type Model = Plain<Omit<dashboard.Dashboard, "panels" | "annotations"> & {
    annotations: { list: Note[] }; panels: Panel[];
}>;
export const model: Model = """


# As Grafana reads it


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with TypeScript, and the types that this release of Grafana publishes."""
    image = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["grafana"]["image"]
    folder, wanted = tmp_path_factory.mktemp("grafana"), [f"@grafana/schema@{image.rpartition(':')[2]}", COMPILER]
    install = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", *wanted]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install {wanted}: {done.stderr[-300:]}")
    return folder


def complaints(folder: Path, text: str) -> str:
    (folder / "model.ts").write_text(TYPES + text)
    options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext"]
    command = [folder / "node_modules/.bin/tsc", *options, "--moduleResolution", "bundler", "model.ts"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300).stdout


@needs("npm")
def test_grafana_knows_every_field(compiler: Path) -> None:
    assert complaints(compiler, FILE.read_text(encoding="utf-8")) == ""


@needs("npm")
@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        ('"schemaVersion"', '"schemaVersions"'),
        ('"gridPos"', '"gridPosition"'),
        ('"unit": "percentunit"', '"units": "percentunit"'),
        ('"graphMode"', '"graph"'),
        ('"displayMode": "basic"', '"displayMode": "simple"'),
        ('"thresholdsStyle"', '"thresholdStyle"'),
        ('"titleFormat"', '"title"'),
    ],
)
def test_a_field_it_does_not_know_is_found(known: str, unknown: str, compiler: Path) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert known in text
    assert "error TS" in complaints(compiler, text.replace(known, unknown))


def test_every_panel_says_what_it_shows() -> None:
    numbers = [panel["id"] for panel in MODEL["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}, panel["title"]
        for target in panel["targets"]:
            assert panel["type"] == "table" or len(panel["targets"]) == 1 or target["legendFormat"], panel["title"]


def test_no_panel_covers_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in MODEL["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_its_lines_are_drawn_where_the_alerts_are() -> None:
    """A limit that is moved in the rules must move here too."""
    rules = {
        rule["alert"]: rule["expr"] for rule in yaml.safe_load(rules_text())["groups"][0]["rules"] if "alert" in rule
    }
    drawn = {
        "Shift of features beyond chance": ("ModelFeatureDrift", "> 0.02"),
        "Shift of predictions": ("ModelPredictionDrift", "> 0.02"),
        "Missing and unlisted values": ("ModelDataBroken", "> 0.05"),
        "Errors": ("ModelErrors", "> 0.01"),
        "Slowest 1 %": ("ModelSlow", "> 0.5"),
        "Quality": ("ModelQualityFell", "> 3"),
        "Labels in the window": ("ModelQualityFell", ">= 100"),
        "Rows in the window": ("ModelFeatureDrift", ">= 500"),
    }
    for title, (alert, limit) in drawn.items():
        assert limit in rules[alert], (alert, limit)
        for panel in (each for each in PANELS if each["title"] == title):
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert steps[-1]["value"] == float(limit.split()[1]), title


# As Prometheus answers it


def queries() -> list[tuple[str, str]]:
    found = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    found += [(note["name"], note["target"]["expr"]) for note in MODEL["annotations"]["list"]]
    for text, value in FILLED.items():
        found = [(title, expression.replace(text, value)) for title, expression in found]
    return found


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, make_params: Any, make_table: Any) -> Iterator[Observed]:
    """A service with prices that was asked, told labels (one of them of nobody's), and sent nonsense."""
    folder, table = tmp_path_factory.mktemp("observed"), make_table(rows=1_000, seed=1)
    prices = {"currency": "EUR", "true_positive": 5, "false_positive": -1}
    params = Params.model_validate(make_params().model_dump(mode="json") | {"value": prices})
    model = train_model(folder / "model", params, make_table(rows=2_000))
    with Observed(folder, model, rules_text(_6h="10m", _7d="20m")) as running:
        until(lambda: running.ask("up == 1"))
        for half in (table[:500], table[500:]):
            predictions = running.predict(half.drop(columns="grade"))
            running.label(list(zip(predictions, half["grade"], strict=True)))
            strange = {"prediction_id": "0" * 12 + "-" + "0" * 16 + "-0", "label": "bad"}
            running.server.post("/feedback", {"labels": [strange]})
            running.server.post("/predict", {"instances": []})
            time.sleep(3)
        until(lambda: sum(running.figures("version:labels:w", "version").values()) == len(table))
        yield running


@needs("prometheus")
def test_every_query_is_answered(observed: Observed) -> None:
    """Prometheus refuses what is not PromQL. One thing did not happen: that rows were not logged."""
    silent = [(title, expression) for title, expression in queries() if not observed.ask(expression)]
    ((title, expression),) = silent
    assert title == "Log and workers"
    assert "model_log_lost_rows_total" in expression


@needs("prometheus")
def test_every_name_in_it_is_one_that_prometheus_has(observed: Observed) -> None:
    name = r"\b(?:model_\w+|[a-z_]+(?::\w+)+|ALERTS)\b"
    named = {each for _, expression in queries() for each in re.findall(name, re.sub(r"'.*?'", "", expression))}
    there = {each["metric"]["__name__"] for each in observed.ask("count by (__name__) ({__name__!=''})")}
    (lost,) = [family.name + "_total" for family in metrics.LOST.collect()]
    assert len(named) > 20
    assert named - there <= {lost, "ALERTS"}  # none of either


@needs("prometheus")
def test_its_figures_are_right(observed: Observed) -> None:
    """Of some panels, against what was sent."""

    def value(title: str) -> float:
        ((expression,),) = [[text for name, text in queries() if name == title]]
        (answer,) = observed.ask(expression)
        return float(answer["value"][1])

    outcomes = {
        (each["metric"]["predicted"], each["metric"]["actual"]): float(each["value"][1])
        for each in observed.ask("version_outcome:rows:w")
    }
    assert sum(outcomes.values()) == 1_000
    worth = 5 * outcomes["bad", "bad"] - outcomes["bad", "good"]
    assert value("Value") == pytest.approx(worth)  # of 1,000
    assert value("Labels in the window") == value("Rows in the window") == 1_000
    assert value("Features that drifted") == 0
    assert abs(value("Quality")) < 3

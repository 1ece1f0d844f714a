"""The rules of deploy/prometheus: told by promtool what counters did, and compared with numpy; then with a real
Prometheus that watches a real service, and a real Alertmanager that starts the watch.
"""

import json
import math
import re
import subprocess
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from observed import Labelled, Observed, Seen, alertmanager, asked, shifted
from prometheus_client import Counter, Gauge, Histogram
from promtool import (
    NOW,
    PRODUCTION,
    STAGING,
    WINDOW,
    Column,
    Object,
    about,
    begins,
    close,
    failed,
    firing,
    grows,
    restarts,
    rules_text,
)
from proxy import DEPLOY, needs
from repository import ROOT
from scipy.stats import chi2
from service.servers import train_model, until
from stand_in.github import GitHub

from perennial import psi
from perennial.release.canary import Bounds, trouble
from perennial.release.prometheus import Traffic, between
from perennial.serving import metrics, outcomes

ALERTMANAGER = (DEPLOY / "alertmanager/alertmanager.yml").read_text(encoding="utf-8")
((ADDRESS, REPOSITORY),) = re.findall(r"https://api\.github\.com(/repos/(\S+)/dispatches)", ALERTMANAGER)
TOKEN = "a-token-of-this-repository"


@needs("promtool")
def test_promtool_knows_every_field() -> None:
    command = ["promtool", "check", "rules", "--lint-fatal", DEPLOY / "prometheus/rules/model.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> list[Object]:
    (group,) = yaml.safe_load(rules_text())["groups"]
    return list(group["rules"])


def test_each_rule_has_the_window_of_its_kind() -> None:
    """6 hours, but where labels are waited for."""
    for rule in rules():
        if record := rule.get("record"):
            spans = set(re.findall(r"(?:\[|offset )(\w+)", rule["expr"]))
            assert spans <= ({"7d"} if record.startswith("version") or "labels" in record else {"6h"}), record


def test_they_ask_for_metrics_that_the_service_has() -> None:
    made = [each for module in (metrics, outcomes) for each in vars(module).values()]
    exported = {each._name for each in made if isinstance(each, Counter | Gauge | Histogram)}
    asked = {name for rule in rules() for name in re.findall(r"\bmodel_\w+", rule["expr"])}
    assert {re.sub("_(total|bucket)$", "", name) for name in asked} <= exported
    assert len(asked) > 15


def test_every_alert_says_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert set(alert["annotations"]) == {"summary", "action"}
    starting = {alert["alert"] for alert in alerts if alert["labels"].get("loop") == "drift"}
    assert starting == {"ModelFeatureDrift", "ModelPredictionDrift", "ModelDataBroken", "ModelQualityFell"}


def test_a_cluster_gets_the_same_rules() -> None:
    """By the command of deploy/README.md, as the object that the Prometheus Operator reads."""
    (command,) = re.findall(
        r"(?s)```sh\n(\{[^`]*?PrometheusRule.*?)```", (DEPLOY / "README.md").read_text(encoding="utf-8")
    )
    text, count = re.subn(r"kubectl apply .*", "cat", command)
    done = subprocess.run(["bash", "-c", text], cwd=DEPLOY.parent, capture_output=True, text=True, check=True)
    made = yaml.safe_load(done.stdout)
    assert (count, made["kind"], made["spec"]) == (1, "PrometheusRule", yaml.safe_load(rules_text()))


def test_the_watch_is_that_of_the_repository_that_is_deployed() -> None:
    source, *_ = yaml.safe_load_all((DEPLOY / "flux/kustomization.yaml").read_text(encoding="utf-8"))
    assert source["spec"]["url"].removesuffix(".git") == f"https://github.com/{REPOSITORY}"
    workflow = yaml.safe_load((ROOT / ".github/workflows/drift.yml").read_text(encoding="utf-8"))
    (receiver,) = [each for each in yaml.safe_load(ALERTMANAGER)["receivers"] if each["name"] == "watch"]
    (call,) = receiver["webhook_configs"]
    assert [call["payload"]["event_type"]] == workflow[True]["repository_dispatch"]["types"]  # `on` is YAML for true


# Drift, as numpy computes it

AGED = (3.0, 5.0, 2.0, 0.0)  # rows a minute in each bin
COLUMNS = {
    # One bin is never hit; b restarts in the window, c began in it.
    "age": Column(
        (0.3, 0.3, 0.3, 0.1),
        {"a": grows(*AGED, base=1000), "b": restarts(*AGED, at=300), "c": begins(*AGED, at=400)},
        since={"b": 300, "c": 400},
    ),
    "city": Column((0.5, 0.3, 0.2), {"a": grows(10, 6, 4, base=50)}),  # as in training
    "tiny": Column((0.5, 0.5), {"a": grows(52, 48)}),  # beyond chance in 36,000 rows, but two points off only
    "rare": Column((0.5, 0.5), {"a": grows(0.9, 0.4)}),  # far off, in 468 rows
    "noisy": Column([0.1] * 10, {"a": grows(*[0.21] * 5, *[0.125] * 5)}, rows=500),  # off, but within its noise
    "clock": Column((0.5, 0.5), {"a": grows(80, 20)}, place=f'{PRODUCTION},track="challenger"'),
    "state": Column((0.6, 0.35, 0.05), {"a": grows(50, 30, 20)}, bins=("x", "y", "missing"), ours=["missing"]),
    "dusty": Column((0.6, 0.35, 0.05), {"a": grows(60, 32, 8)}, bins=("x", "y", "missing"), ours=["missing"]),
    # The contract has values of these names: more of them is no break.
    "names": Column(
        (0.4, 0.5, 0.05, 0.05, 0.0), {"a": grows(65, 25, 5, 5, 0)},
        bins=("missing", "x", "other", "missing_", "other_"), ours=("missing_", "other_"),
    ),
    "words": Column(
        (0.5, 0.49, 0.01, 0.0), {"a": grows(45, 40, 1, 14)},
        bins=("other", "x", "missing", "other_"), ours=("missing", "other_"),
    ),
}  # fmt: skip
ELSEWHERE = Column((0.5, 0.3, 0.2), {"s": grows(2, 6, 12)}, place=STAGING)  # a feature of production, drifting here


def drift() -> Object:
    series: dict[str, str] = {}
    checks, alerts = [], []
    for name, column in [*COLUMNS.items(), ("city", ELSEWHERE)]:
        series |= column.series(name)
        checks += column.checks(name)
        alerts += [f'alertname="{alert}",feature="{name}",{column.place}' for alert in column.alerts()]
    return about(series, NOW, *checks, firing(*alerts, by="alertname, feature, namespace, track"))


def test_the_cases_are_what_they_are_meant_to_be() -> None:
    said = {name: column.alerts() for name, column in COLUMNS.items() if column.alerts()}
    moved, broke = "ModelFeatureDrift", "ModelDataBroken"
    assert said == {
        "age": [moved],
        "clock": [moved],
        "names": [moved],
        "state": [moved, broke],
        "words": [moved, broke],
    }
    tiny, rare, noisy = (COLUMNS[name] for name in ("tiny", "rare", "noisy"))
    assert tiny.psi > tiny.noise  # and yet silent
    assert rare.psi > rare.noise
    assert noisy.psi - noisy.chance > psi.SMALL


@needs("promtool")
def test_drift_is_what_numpy_computes(tmp_path: Path) -> None:
    assert failed(tmp_path, rules_text(), drift()) == ""


SPOILT = {  # the rules, and what somebody could make of them
    "without a floor": ("feature:psi_excess:w > 0.02", "feature:psi_excess:w > 0.001"),
    "without a noise level": ("          and feature:psi:w > feature:psi_critical:w\n", ""),
    "few rows suffice": ("and feature:rows:w >= 500\n        for", "and feature:rows:w >= 400\n        for"),
    "another window": ("model_feature_bin_total offset 6h", "model_feature_bin_total offset 5h"),
    "restarts go unseen": ("restarts:w\n            or model_feature", "restarts:none\n            or model_feature"),
    "what began is left out": ("            or model_feature_bin_total\n", ""),
    "not smoothed": ("(feature_bin:rows:w + 0.5)", "feature_bin:rows:w"),
    "chance added": ("feature:psi:w - (count", "feature:psi:w + (count"),
    "environments mixed": ("sum by (namespace, track, feature, bin) (", "sum by (track, feature, bin) ("),
    "breaks are let pass": ("feature_bin:broken_rise:w > 0.05", "feature_bin:broken_rise:w > 0.2"),
    "breaks are seen everywhere": ("feature_bin:broken_rise:w > 0.05", "feature_bin:broken_rise:w > 0.02"),
    "values are taken for breaks": ('"bin", "$1", "bin", "(.*)_"', '"bin", "$1", "bin", "(.*)__"'),
}  # fmt: skip


@needs("promtool")
@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_rule_is_found(fault: str, tmp_path: Path) -> None:
    sound, spoilt = SPOILT[fault]
    assert rules_text().count(sound) == 1
    assert "FAILED" in failed(tmp_path, rules_text().replace(sound, spoilt), drift())


# Predictions


@needs("promtool")
@pytest.mark.parametrize("bins", [2, 3, 10])
def test_drift_of_predictions_is_what_numpy_computes(bins: int, tmp_path: Path) -> None:
    paces, shares, rows = np.linspace(1, 2, bins), np.full(bins, 1 / bins), 2_000
    series = {'model_prediction_ref_rows{instance="a"}': f"{rows}x{NOW}"}
    for place, pace in enumerate(paces):
        series[f'model_prediction_bin_total{{bin="{place}",instance="a"}}'] = f"0+{float(pace)!r}x{NOW}"
        smooth = float((shares[place] * rows + 0.5) / (rows + 0.5 * bins))
        series[f'model_prediction_bin_ref_share{{bin="{place}",instance="a"}}'] = f"{smooth!r}x{NOW}"
    found, chance = psi.index(paces * WINDOW, shares * rows)
    bound = chi2.ppf(0.99, bins - 1) * (1 / (paces.sum() * WINDOW) + 1 / rows)
    checks = [
        close("prediction:psi:w", found),
        close("prediction:psi_excess:w", found - chance),
        close("prediction:psi_critical:w", bound, to=0.01 * bound),
        firing('alertname="ModelPredictionDrift"'),
    ]
    assert failed(tmp_path, rules_text(), about(series, NOW, *checks)) == ""
    as_before = {name: re.sub(r"0\+\S+x", "0+1.5x", text) for name, text in series.items()}
    assert failed(tmp_path, rules_text(), about(as_before, NOW, firing())) == ""


# Quality, from labels that come late


def quality(labels: float, loss: float) -> dict[str, str]:
    """Labels a minute with this mean loss. Half of them come to the other track, whose instance restarts in the window
    and then makes up for it; what its own model promises is of no account.
    """
    champion, challenger = 'track="champion",instance="a"', 'track="challenger",instance="b"'
    pace = labels / 2
    series = {f'model_requests_total{{route="metrics",code="200",{challenger}}}': "0+1x299 0+1x180"}
    for own, version, mean, std in ((champion, "new", 0.2, 0.25), (challenger, "other", 0.9, 0.01)):
        series |= {
            f'model_info{{version="{version}",{own}}}': f"1x{NOW}",
            f"model_ref_loss_mean{{{own}}}": f"{mean}x{NOW}",
            f"model_ref_loss_std{{{own}}}": f"{std}x{NOW}",
            f"model_ref_loss_rows{{{own}}}": f"400x{NOW}",
        }
    for name, step, before in (("labels", pace, 100), ("label_loss", pace * loss, 90)):  # worse before the window
        series[f'model_{name}_total{{version="new",{champion}}}'] = f"{before}+{step}x{NOW}"
        series[f'model_{name}_total{{version="new",{challenger}}}'] = f"{before}+{step}x299 0+{2 * step}x180"
    return series


@needs("promtool")
@pytest.mark.parametrize(
    ("labels", "loss", "fell"),
    [(1, 0.2, False), (1, 0.25, False), (1, 0.26, True), (0.25, 0.9, False), (0.3, 0.9, True), (1, 0.05, False)],
)
def test_quality_is_judged_against_the_holdout(labels: float, loss: float, fell: bool, tmp_path: Path) -> None:
    rows = labels * WINDOW
    error = 0.25 * math.sqrt(1 / rows + 1 / 400)
    checks = [
        close('version:labels:w{version="new"}', rows),
        close('version:loss:w{version="new"}', loss),
        close('version:ref_loss{version="new"}', 0.2),
        close('version:loss_error:w{version="new"}', error),
        firing(*['alertname="ModelQualityFell",version="new"'] * fell, by="alertname, version"),
    ]
    assert fell == (loss - 0.2 > 3 * error and rows >= 100)
    told = about(quality(labels, loss), NOW, *checks)
    assert failed(tmp_path, rules_text(_7d="6h"), told) == ""
    if fell:
        unguarded = rules_text(_7d="6h").replace(
            "unless on (namespace, track, instance) instance:restarts:labels\n", ""
        )
        assert "FAILED" in failed(tmp_path, unguarded, told)


# The service. Minutes, and the alerts that fire at their end

UP = 'up{job="perennial",instance="a"}'
BUSY = {
    'model_requests_total{route="predict",code="200",instance="a"}': "0+60x200",
    'model_request_seconds_bucket{route="predict",le="0.1",instance="a"}': "0+48x200",
    'model_request_seconds_bucket{route="predict",le="0.25",instance="a"}': "0+60x200",
    'model_request_seconds_bucket{route="predict",le="5",instance="a"}': "0+60x200",
    'model_request_seconds_bucket{route="predict",le="+Inf",instance="a"}': "0+60x200",
    'model_info{version="one",instance="a"}': "1x200",
}
KNOWN, UNKNOWN = (f'model_feedback_total{{known="{word}",instance="a"}}' for word in ("true", "false"))
LOST = 'model_log_lost_rows_total{kind="predictions",instance="a"}'
FAILED = 'model_requests_total{route="predict",code="500",instance="a"}'
P95 = 'model_request_seconds_bucket{route="predict",le="0.25",instance="a"}'
P99 = 'model_request_seconds_bucket{route="predict",le="0.5",instance="a"}'
ROWS, MORE = (f'model_rows_total{{instance="{name}"}}' for name in "ab")
CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "all is well": (BUSY, []),
    "an instance is down": ({UP: "1x190 0x10"}, ["ModelDown"]),
    "it was away for a moment": ({UP: "1x198 0x1"}, []),
    "every instance is gone": ({UP: "1x150 stale"}, ["ModelDown"]),
    "requests fail": (BUSY | {FAILED: "0x180 0+1x20"}, ["ModelErrors"]),
    "one request failed": (BUSY | {FAILED: "0x190 1x10"}, []),
    "one in two hundred fails": (BUSY | {FAILED: "0x100 0+0.3x100"}, []),
    "probes fail": (BUSY | {'model_requests_total{route="readyz",code="503",instance="a"}': "0+60x200"}, []),
    "one in ten is slow": (BUSY | {P95: "0+54x200", P99: "0+60x200"}, ["ModelSlow"]),
    "one in forty is very slow": (BUSY | {P95: "0+58.5x200", P99: "0+58.5x200"}, ["ModelSlow"]),
    "one in forty is slow": (BUSY | {P95: "0+58.5x200", P99: "0+60x200"}, []),
    "rows are not logged": (BUSY | {LOST: "_x190 40x10"}, ["ModelLogLost"]),  # counted at once, where nothing was
    "rows were not logged long ago": (BUSY | {LOST: "40x200"}, []),
    "a rollout": (BUSY | {'model_info{version="two",instance="b"}': "_x150 1x50"}, []),
    "a rollout hangs": (BUSY | {'model_info{version="two",instance="b"}': "_x130 1x70"}, ["ModelVersionSkew"]),
    "a challenger": (BUSY | {'model_info{version="two",track="challenger",instance="b"}': "1x200"}, []),
    "labels of another environment": (BUSY | {KNOWN: "0+9x200", UNKNOWN: "0+1x200"}, ["ModelLabelsUnknown"]),
    "a label in thirty is unknown": (BUSY | {KNOWN: "0+29x200", UNKNOWN: "0+1x200"}, []),
    "nobody asks any more": (BUSY | {ROWS: "0+5x100 500x100"}, ["ModelNoTraffic"]),
    "nobody ever asked": (BUSY | {ROWS: "0x200"}, []),
    "another instance is asked": (BUSY | {ROWS: "0+5x100 500x100", MORE: "0+5x200"}, []),
}


@needs("promtool")
@pytest.mark.parametrize("case", CASES)
def test_the_service_is_watched(case: str, tmp_path: Path) -> None:
    series, alerts = CASES[case]
    told = about(series, 200, firing(*(f'alertname="{name}"' for name in alerts)))
    assert failed(tmp_path, rules_text(_6h="150m", _7d="1h30m"), told) == ""


# A real service, watched

watched = needs("alertmanager")  # 0.32 or newer; Debian's is older, and has another name


@dataclass
class Story:
    """Rows as in training; when they are out of the window others, and labels of both."""

    usual: Seen
    labelled: Labelled
    moved: Seen
    mislabelled: Labelled
    counted: tuple[Traffic, Traffic]  # as a canary reads them, after each of the labels
    dispatches: list[Object]
    calls: list[Any]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, make_params: Any, make_table: Any) -> Story:
    folder = tmp_path_factory.mktemp("observed")
    model = train_model(folder / "model", make_params(), make_table(rows=5_000))
    with GitHub(folder) as github, alertmanager(folder, github.url, TOKEN) as manager:
        github.token, repository = TOKEN, github.add_repository(REPOSITORY)
        rules, address = rules_text(_6h="30s", _7d="10m"), manager.address.removeprefix("http://")
        with Observed(folder, model, rules, address) as observed:
            table = make_table(rows=1_000, seed=1)
            usual, predictions = observed.see(table.drop(columns="grade"))
            labels = list(zip(predictions, table["grade"], strict=True))
            labelled, first = observed.told(labels, len(labels)), observed.traffic()
            assert not github.log, "nothing happened yet"
            observed.lasts("absent(feature:rows:w)")  # they have left the window
            later = make_table(rows=1_000, seed=2)
            moved, predictions = observed.see(shifted(later.drop(columns="grade"), np.random.default_rng(0)))
            opposite = later["grade"].map({"good": "bad", "bad": "good"})
            labels += zip(predictions, opposite, strict=True)
            mislabelled, second = observed.told(labels, len(predictions)), observed.traffic()
            until(lambda: repository.dispatches)
            return Story(usual, labelled, moved, mislabelled, (first, second), repository.dispatches, github.log)


@watched
def test_the_figures_of_prometheus_are_those_of_numpy(story: Story) -> None:
    for seen in (story.usual, story.moved):
        assert seen.psi == pytest.approx({name: found for name, (found, _) in seen.expected.items()}, abs=1e-9)
        beyond = {name: found - chance for name, (found, chance) in seen.expected.items()}
        assert seen.excess == pytest.approx(beyond, abs=1e-9)
    for labelled in (story.labelled, story.mislabelled):
        assert labelled.loss == pytest.approx(labelled.expected, abs=1e-6)  # an id carries six digits of a probability


@watched
def test_rows_like_those_of_training_alarm_nobody(story: Story) -> None:
    assert story.usual.firing == {}
    assert story.labelled.firing == {}


@watched
def test_alerts_name_exactly_what_moved_and_what_broke(story: Story) -> None:
    assert story.moved.firing == {
        "ModelFeatureDrift": {"mass", "colour", "width"},
        "ModelPredictionDrift": {""},
        "ModelDataBroken": {"width:missing", "colour:other"},
    }


@watched
def test_labels_that_come_later_tell_that_quality_fell(story: Story) -> None:
    assert len(story.mislabelled.firing["ModelQualityFell"]) == 1


@watched
def test_a_canary_reads_what_the_labels_tell(story: Story) -> None:
    """The rows labelled first as a champion's, those labelled wrongly as its challenger's."""
    champion, challenger = replace(story.counted[0], started=0), between(*story.counted)
    assert (champion.labels, challenger.labels) == (1000, 1000)
    assert sum(champion.outcomes.values()) == sum(challenger.outcomes.values()) == 1000
    assert champion.loss / 1000 == pytest.approx(story.labelled.loss, abs=1e-6)
    assert trouble(champion, champion, Bounds()) == ""
    told = trouble(champion, replace(challenger, requests=1000, bins=champion.bins, seconds=champion.seconds), Bounds())
    assert "by 1000 labels" in told


@watched
def test_all_this_starts_the_watch_once(story: Story) -> None:
    assert story.dispatches == [{"event_type": "drift"}]
    (call,) = story.calls
    assert (call.method, call.path, call.status) == ("POST", ADDRESS, 204)
    assert call.authorization == f"Bearer {TOKEN}"


@watched
def test_only_production_starts_the_watch(tmp_path: Path) -> None:
    with GitHub(tmp_path) as github, alertmanager(tmp_path, github.url, TOKEN) as manager:
        github.token, repository = TOKEN, github.add_repository(REPOSITORY)

        def fire(**labels: str) -> None:
            body = json.dumps([{"labels": {"alertname": "ModelFeatureDrift"} | labels}]).encode()
            address = f"{manager.address}/api/v2/alerts"
            request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=5).close()

        fire(loop="drift", namespace="perennial-staging")
        fire(alertname="ModelDown", severity="page", namespace="perennial-production")
        time.sleep(3)  # three times as long as it waits here
        assert not github.log
        fire(loop="drift", namespace="perennial-production", feature="mass")
        fire(loop="drift", namespace="perennial-production", feature="width")
        until(lambda: repository.dispatches)
        told = {tuple(r["name"] for r in alert["receivers"]) for alert in asked(f"{manager.address}/api/v2/alerts")}
        assert told == {("people",), ("watch", "people")}  # people are told of everything
        assert repository.dispatches == [{"event_type": "drift"}]

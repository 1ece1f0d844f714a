"""A real service that a real Prometheus watches with the rules of deploy/, their spans made short."""

import json
import re
import subprocess
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
import yaml
from proxy import DEPLOY
from service.servers import Server, plain_rows, until

from perennial import psi
from perennial.files import read_json
from perennial.release.prometheus import Traffic, query, totals
from perennial.serving.local import free_port

Object = dict[str, Any]
Labels = list[tuple[Object, str]]  # of predictions
Firing = dict[str, set[str]]  # alerts, and whom they are about
PIECE = 100  # rows of a request


@dataclass
class Seen:
    """What Prometheus said of some rows, and numpy; by feature, "" for the predictions."""

    psi: dict[str, float]
    excess: dict[str, float]
    firing: Firing
    expected: dict[str, tuple[float, float]]  # PSI, and what chance gives


@dataclass
class Labelled:
    """What Prometheus said of some labels, and numpy."""

    loss: float
    expected: float
    firing: Firing


def asked(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=5) as answer:
        return json.load(answer)


class Process:
    """A context in which a program runs, ready when it answers."""

    def __init__(self, folder: Path, port: int, *command: Any) -> None:
        self.address, self._said = f"http://127.0.0.1:{port}", folder / f"{command[0]}.txt"
        self._folder, self._command = folder, [str(part) for part in command]

    def __enter__(self) -> Self:
        with self._said.open("w") as said:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=said, stderr=said)
        try:
            until(self._ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._said.read_text()
        with suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.address}/-/ready", timeout=5).status == 200)
        return False


def alertmanager(folder: Path, github: str, token: str) -> Process:
    """With the configuration of deploy/, but that it does not wait, and finds GitHub at this address."""
    port = free_port()
    text = (DEPLOY / "alertmanager/alertmanager.yml").read_text(encoding="utf-8")
    for old, new in {"https://api.github.com": github, "group_wait: 5m": "group_wait: 1s"}.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "alertmanager.yml").write_text(text)
    (folder / "github-token").write_text(f"{token}\n")
    places = ["--config.file=alertmanager.yml", "--storage.path=kept", f"--web.listen-address=127.0.0.1:{port}"]
    return Process(folder, port, "alertmanager", *places, "--cluster.listen-address=")


def prometheus(folder: Path, rules: str, service: int, alerts: str = "") -> Process:
    """With the configuration of deploy/, but that it asks once a second, and is told where everything is."""
    port = free_port()
    told = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    told["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    (scrape,) = told["scrape_configs"]
    del scrape["dns_sd_configs"], scrape["relabel_configs"]
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{service}"], "labels": {"track": "champion"}}]
    told["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alerts] if alerts else []}]}]
    (folder / "rules").mkdir()
    quick = re.sub(r"\bfor: \w+", "for: 2s", rules.replace("interval: 1m", "interval: 1s"))
    (folder / "rules/model.yaml").write_text(quick)
    (folder / "prometheus.json").write_text(json.dumps(told))  # JSON is YAML
    command = ["prometheus", "--config.file=prometheus.json", "--storage.tsdb.path=tsdb", "--log.level=warn"]
    return Process(folder, port, *command, f"--web.listen-address=127.0.0.1:{port}")


class Observed:
    """A context in which a model serves with two workers, and Prometheus watches it."""

    def __init__(self, folder: Path, model: Path, rules: str, alerts: str = "") -> None:
        self.profile: Object = read_json(model / "models/profile.json")
        self.server = Server(model, folder / "logs", folder / "said.txt")
        self.prometheus = prometheus(folder, rules, self.server.port, alerts)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            stack.enter_context(self.prometheus)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, expression: str) -> list[Object]:
        """Prometheus' instant answer; nothing while it begins."""
        return query(expression, self.prometheus.address)

    def figures(self, expression: str, label: str) -> dict[str, float]:
        return {each["metric"].get(label, ""): float(each["value"][1]) for each in self.ask(expression)}

    def firing(self) -> Firing:
        """The features (or other subjects) of each alert that fires now, and that its text could be written."""
        found: Firing = {}
        for alert in asked(f"{self.prometheus.address}/api/v1/alerts")["data"]["alerts"]:
            for text in alert["annotations"].values():
                assert "<error" not in text, text
                assert "<no value>" not in text, text
            if alert["state"] == "firing":
                labels = alert["labels"]
                subject = ":".join(labels[name] for name in ("feature", "bin", "version") if name in labels)
                found.setdefault(labels["alertname"], set()).add(subject)
        return found

    def predict(self, table: pd.DataFrame) -> list[Object]:
        """Every row, on connections of their own, so that both workers are asked."""
        rows = plain_rows(table)
        pieces = [rows[start : start + PIECE] for start in range(0, len(rows), PIECE)]
        return [each for piece in pieces for each in self.server.predict(*piece)]

    def label(self, labels: Labels) -> None:
        told = [{"prediction_id": prediction["prediction_id"], "label": label} for prediction, label in labels]
        for start in range(0, len(told), PIECE):
            assert self.server.post("/feedback", {"labels": told[start : start + PIECE]}).status == 200

    def see(self, table: pd.DataFrame) -> tuple[Seen, list[Object]]:
        """Send these rows, and look when the window has them all, and alerts had the time to fire."""
        predictions = self.predict(table)
        self.lasts(f"count(feature:rows:w == {len(table)}) == {len(self.profile['features'])}")
        both = [self.figures(f"{{__name__=~'(feature|prediction):{w}:w'}}", "feature") for w in ("psi", "psi_excess")]
        return Seen(*both, self.firing(), self._expected(table, predictions)), predictions

    def lasts(self, condition: str) -> None:
        """Wait until this has been so for longer than alerts wait here."""
        until(lambda: self.ask(f"count_over_time(({condition})[8s:1s]) >= 7"), 60)

    def _expected(self, table: pd.DataFrame, predictions: list[Object]) -> dict[str, tuple[float, float]]:
        features, answers = self.profile["features"], self.profile["answers"]
        trained, held_out = self.profile["trained_on"]["rows"], self.profile["promised"]["rows"]
        found = {name: psi.index(psi.counts(table[name], f), psi.shares(f) * trained) for name, f in features.items()}
        scores = [each["probabilities"]["bad"] for each in predictions]
        bins = np.bincount(np.searchsorted(answers["edges"], scores), minlength=len(answers["shares"]))
        return found | {"": psi.index(bins.astype(np.float64), np.array(answers["shares"]) * held_out)}

    def traffic(self) -> Traffic:
        """All it has counted, as a canary reads it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROMETHEUS_URL", self.prometheus.address)
            return totals('track="champion"')

    def told(self, labels: Labels, new: int) -> Labelled:
        """Send the last so many of these labels, and look at what all of them make."""
        self.label(labels[-new:])
        self.lasts(f"sum(version:labels:w) == {len(labels)}")
        (loss,) = self.figures("version:loss:w", "version").values()
        errors = [((label == "bad") - prediction["probabilities"]["bad"]) ** 2 for prediction, label in labels]
        return Labelled(loss, float(np.mean(errors)), self.firing())


def shifted(table: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    """Heavier; redder, and some in a colour that nobody listed; half of the widths gone."""
    table = table.copy()
    table["mass"] += 1
    table.loc[draw.random(len(table)) < 0.3, "colour"] = "red"
    table.loc[draw.random(len(table)) < 0.15, "colour"] = "octarine"
    table.loc[draw.random(len(table)) < 0.5, "width"] = None
    return table

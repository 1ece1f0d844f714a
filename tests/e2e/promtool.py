"""Tests for `promtool test rules`, and counters as numpy adds them up."""

import json
import math
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from proxy import DEPLOY
from scipy.stats import chi2

from perennial import psi
from perennial.monitoring.drift import BROKEN

Object = dict[str, Any]
Counters = list[list[float]]  # of each bin, at each minute
HOURS = 60  # minutes
WINDOW, NOW = 6 * HOURS, 8 * HOURS  # the window of drift, and when it is asked; a sample a minute
LEAST = 500  # rows
SERVED = {'up{job="perennial",instance="a"}': "1x1000"}
PRODUCTION, STAGING = 'namespace="perennial-production"', 'namespace="perennial-staging"'


def rules_text(**spans: str) -> str:
    """The rules as they are deployed, but for windows: `rules_text(_7d="6h")`."""
    text = (DEPLOY / "prometheus/rules/model.yaml").read_text(encoding="utf-8")
    for name, span in spans.items():
        text, count = re.subn(rf"(\[|offset ){name[1:]}\b", rf"\g<1>{span}", text)
        assert count, f"no rule looks {name[1:]} back"
    return text


def failed(folder: Path, rules: str, *tests: Object) -> str:
    """What `promtool test rules` has to say; nothing when all holds."""
    (folder / "model.yaml").write_text(rules)
    told = {"rule_files": ["model.yaml"], "evaluation_interval": "1m", "tests": list(tests)}
    (folder / "test.json").write_text(json.dumps(told))  # JSON is YAML
    subprocess.run(["promtool", "check", "rules", "model.yaml"], cwd=folder, capture_output=True, check=True)
    command = ["promtool", "test", "rules", "test.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr or "no"


def about(series: dict[str, str], minute: int, *checks: Object) -> Object:
    inputs = [{"series": name, "values": values} for name, values in (SERVED | series).items()]
    asked = [{"eval_time": f"{minute}m"} | check for check in checks]
    return {"interval": "1m", "input_series": inputs, "promql_expr_test": asked}


def close(expression: str, value: float, to: float = 1e-9) -> Object:
    """promtool compares floats exactly, and the order in which PromQL sums is not fixed."""
    near = f"sum(abs({expression} - {float(value)!r}) < bool {to})"
    return {"expr": near, "exp_samples": [{"labels": "{}", "value": 1}]}


def firing(*alerts: str, by: str = "alertname") -> Object:
    """These alerts and no other; `by` are the labels that tell them apart."""
    samples = [{"labels": f"{{{each}}}", "value": 1} for each in alerts]
    return {"expr": f'count by ({by}) (ALERTS{{alertstate="firing"}}) > bool 0', "exp_samples": samples}


def values(numbers: Sequence[float]) -> str:
    """In promtool's words; none where it is NaN."""
    return " ".join("_" if math.isnan(number) else repr(float(number)) for number in numbers)


def grows(*pace: float, base: float = 0) -> Counters:
    return [[base + rows * minute for minute in range(NOW + 1)] for rows in pace]


def restarts(*pace: float, at: int) -> Counters:
    """It comes back faster, and soon has more than before."""
    lives = [(7 + rows * np.arange(at), 2 * rows * np.arange(NOW + 1 - at)) for rows in pace]
    return [np.concatenate(both).tolist() for both in lives]


def begins(*pace: float, at: int) -> Counters:
    return [[math.nan] * at + [rows * minute for minute in range(NOW + 1 - at)] for rows in pace]


@dataclass
class Column:
    """A feature: its shares in training, and what each instance counted."""

    shares: Sequence[float]
    counted: dict[str, Counters]
    since: dict[str, int] = field(default_factory=dict)  # when an instance began, where it did in the window
    bins: Sequence[str] = ()
    ours: Sequence[str] = ()  # the bins that are no values of the feature
    rows: int = 10_000  # in training
    place: str = PRODUCTION

    def __post_init__(self) -> None:
        self.bins = self.bins or [str(number) for number in range(len(self.shares))]
        self.critical = float(chi2.ppf(1 - 0.05 / 9, len(self.shares) - 1))
        self.reference = (np.array(self.shares) * self.rows + 0.5) / (self.rows + 0.5 * len(self.shares))
        self.now = np.zeros(len(self.shares))
        for instance, counters in self.counted.items():
            ends = np.array(counters)
            self.now += ends[:, NOW] - (0 if instance in self.since else ends[:, NOW - WINDOW])
        self.psi, self.chance = psi.index(self.now, np.array(self.shares) * self.rows)
        self.noise = self.critical * (1 / self.now.sum() + 1 / self.rows)

    def series(self, name: str) -> dict[str, str]:
        found = {}
        for instance, counters in self.counted.items():
            own = f'{self.place},instance="{instance}"'
            of, always = f'feature="{name}",{own}', f"x{NOW}"
            for label, counter, share in zip(self.bins, counters, self.reference, strict=True):
                found[f'model_feature_bin_total{{bin="{label}",{of}}}'] = values(counter)
                found[f'model_feature_bin_ref_share{{bin="{label}",{of}}}'] = f"{float(share)!r}{always}"
            found[f"model_feature_ref_rows{{{of}}}"] = f"{self.rows}{always}"
            found[f"model_feature_psi_chi2_critical{{{of}}}"] = f"{self.critical!r}{always}"
            began = self.since.get(instance, 0)
            before = [math.nan] * began if math.isnan(counters[0][0]) else list(range(began))
            scrapes = [*before, *range(NOW + 1 - began)]
            found[f'model_requests_total{{route="metrics",code="200",{own}}}'] = values(scrapes)
        return found

    def checks(self, name: str) -> list[Object]:
        of, rows = f'{{feature="{name}",{self.place}}}', float(self.now.sum())
        excess = self.psi - self.chance
        told = {"rows": rows, "psi": self.psi, "psi_excess": excess, "psi_critical": self.noise}
        return [close(f"feature:{figure}:w{of}", value) for figure, value in told.items()]

    def alerts(self) -> list[str]:
        """What must be said of it."""
        risen = self.now / self.now.sum() - self.reference > BROKEN
        broken = any(bool(up) and label in self.ours for label, up in zip(self.bins, risen, strict=True))
        drifted = self.psi - self.chance > psi.SMALL and self.psi > self.noise
        enough = self.now.sum() >= LEAST
        return ["ModelFeatureDrift"] * bool(enough and drifted) + ["ModelDataBroken"] * bool(enough and broken)

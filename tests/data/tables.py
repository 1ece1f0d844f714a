"""Small tables about houses, and a folder to run the first stage in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from perennial.files import read_json
from perennial.pipeline import prepare

PARAMS = """
data:
  raw: data/raw
  csv: {csv}
  target: {{name: sold, values: ["no", "yes"], positive: "yes"}}
  id: house
  time: {{name: day, format: "%d/%m/%Y"}}
  features:
    area: {{type: number, min: 10, max: 1000}}
    rooms: {{type: number, required: true}}
    kind: {{type: category, values: [flat, villa, None]}}
    zone: {{type: category, values: [a, b], unseen: refuse}}
    garden: {{type: boolean}}
    advert: {{type: text}}
  sensitive: [street]
  tolerance: 0.1
split: {{holdout: 0.25}}
train: {{estimator: sklearn.linear_model.LogisticRegression}}
value: null
evaluate: {{bootstrap: 100}}
gate: {{floors: {{}}}}
seed: 1
"""
HEADER = ["house", "day", "area", "rooms", "kind", "zone", "garden", "advert", "street", "sold"]
Row = dict[str, Any]


def row(number: int, **changes: Any) -> Row:
    """One good row; `number` decides its id, day and label."""
    good = {
        "house": f"h{number}", "day": f"{number % 20 + 1:02d}/03/2024", "area": 50 + number % 900,
        "rooms": 1 + number % 4,
        "kind": ["flat", "villa"][number % 2], "zone": "ab"[number % 2], "garden": ["yes", "no"][number % 3 > 0],
        "advert": "sunny and quiet", "street": "elm", "sold": ["no", "yes"][number % 5 > 2],
    }  # fmt: skip
    return good | changes


class Workspace:
    """A folder with params.yaml and data/raw, and the first stage run in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.raw = root, root / "data/raw"
        self.raw.mkdir(parents=True)
        self.params()

    def params(self, edit: Callable[[str], str] = str, csv: str = "{}") -> None:
        (self.root / "params.yaml").write_text(edit(PARAMS.format(csv=csv)))

    def csv(self, rows: list[Row], name: str = "a.csv", header: list[str] = HEADER, end: str = "\n") -> Path:
        lines = [",".join(header), *(",".join(str(cell) for cell in row.values()) for row in rows)]
        (self.raw / name).write_bytes((end.join(lines) + end).encode())
        return self.raw / name

    def prepare(self) -> dict[str, Any]:
        """Run the stage; the content of reports/data.json."""
        prepare.main()
        return self.report()

    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = read_json(self.root / "reports/data.json")
        return content

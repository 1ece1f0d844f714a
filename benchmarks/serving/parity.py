"""All contenders must give the same answers before any is measured."""

import json
import sys
from collections import defaultdict
from typing import Any

from contenders import STATIC
from process import Server

TOLERANCE, REQUESTS = 1e-6, 20


def require_equal(servers: list[Server], sizes: tuple[int, ...]) -> None:
    """The same probabilities from all that give any, for the first requests of each size."""
    for rows in sizes:
        found: dict[int, dict[str, list[list[float]]]] = defaultdict(dict)
        for server in servers:
            if server.contender.name != STATIC:
                for place, body in enumerate(server.bodies(rows)[:REQUESTS]):
                    found[place][server.contender.title] = _answers(json.loads(server.ask(body, rows)[1]))
        for answers in found.values():
            reference = answers.popitem()[1]
            for title, other in answers.items():
                pairs = [pair for one, two in zip(other, reference, strict=True) for pair in zip(one, two, strict=True)]
                if not all(abs(one - two) <= TOLERANCE for one, two in pairs):
                    sys.exit(f"{title} answers otherwise than the rest: {other[0]}, not {reference[0]}")


def _answers(body: Any) -> list[list[float]]:
    given = body["predictions"]
    return [list(one["probabilities"].values()) if isinstance(one, dict) else one for one in given]

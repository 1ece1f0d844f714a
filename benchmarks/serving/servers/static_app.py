"""The ceiling: Flask as it comes, a constant answer of the size of ours at /<rows>."""

import os
from pathlib import Path

from flask import Flask, Response

app = Flask(__name__)


def _answer_with(content: bytes, rows: str) -> None:
    app.add_url_rule(f"/{rows}", rows, lambda: Response(content, content_type="application/json"), methods=["POST"])


for answer in Path(os.environ["ANSWERS"]).iterdir():
    _answer_with(answer.read_bytes(), answer.stem)

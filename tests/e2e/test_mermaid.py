"""The pictures of a report, drawn by the Mermaid that GitHub draws them with, in a real Chromium."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from repository import Repository
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from perennial.review.markdown import chart

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromedriver") and shutil.which("npm")), reason="needs chromium, chromedriver and npm"
)
PACKAGE = "mermaid@11"
DRAW = """
const [block, name, done] = arguments;
mermaid.initialize({startOnLoad: false, securityLevel: "strict"});
mermaid.parse(block)
    .then(() => mermaid.render(name, block))
    .then(drawn => { document.body.insertAdjacentHTML("beforeend", drawn.svg); done(null); })
    .catch(error => done(String(error)));
"""
READ = """
const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
return [...document.querySelectorAll("svg")].map(svg => {
    const texts = [...svg.querySelectorAll("text")], boxes = texts.map(text => text.getBoundingClientRect());
    const bars = [...svg.querySelectorAll("[class*=bar-plot] rect")].map(bar => bar.getBoundingClientRect());
    return {
        texts: texts.map(text => text.textContent),
        bars: bars.length,
        lines: svg.querySelectorAll("[class*=line-plot] path").length,
        hidden: boxes.filter((box, i) => boxes.slice(i + 1).some(other => overlap(box, other))).length,
        covered: bars.filter((bar, i) => bars.slice(i + 1).some(other => overlap(bar, other))).length,
    };
});
"""
NASTY = [
    'quo"te', "semi;colon", "per%%cent", "[square]", "{brace}", "<b>bold</b>", "back`tick", "new\nline", "#35;", "]",
    "&amp;", "", " ", '"', "title", "bar [1]", "grün 🟣", "-->", "\\", "end",
]  # fmt: skip
LONG = [f"{i} a feature whose name says everything there is to say about it" for i in range(20)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A page with Mermaid in it."""
    folder = tmp_path_factory.mktemp("mermaid")
    install = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr[-300:]}")
    page = folder / "page.html"
    page.write_text('<meta charset="utf-8"><script src="node_modules/mermaid/dist/mermaid.min.js"></script><body>')
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,1300", "--no-first-run"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    driver.get(page.as_uri())
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def empty_page(browser: Chrome) -> None:
    browser.execute_script("document.body.replaceChildren()")


def draw(browser: Chrome, blocks: list[str], picture: Path) -> list[dict[str, Any]]:
    """Draw each block and keep a picture of the page; what each drawing shows."""
    for number, block in enumerate(blocks):
        error = browser.execute_async_script(DRAW, block, f"drawn{number}")
        assert error is None, f"{error}\n{block}"
    browser.save_screenshot(str(picture))
    return browser.execute_script(READ)  # type: ignore[no-any-return]


def blocks_of(text: str) -> list[str]:
    return re.findall(r"^```mermaid\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def block_of(labels: list[str], values: list[float], line: list[float] | None = None) -> str:
    (block,) = blocks_of("\n".join(chart('A "title": [1]', labels, "loss of roc_auc", values, line or [])) + "\n")
    return block


def test_the_pictures_of_a_real_report(browser: Chrome, built: Repository, tmp_path: Path) -> None:
    here = built.copy(tmp_path / "here")
    here.replace("params.yaml", "gate:\n", "gate:\n  reproduced: null\n")
    here.perennial("gate", expect=0)
    here.perennial("report")
    calibration, importance = draw(browser, blocks_of(here.read("reports/report.md")), tmp_path / "report.png")
    assert (calibration["bars"], calibration["lines"]) == (10, 1)
    assert importance["bars"] == 5
    assert calibration["hidden"] == importance["hidden"] == 0
    assert {"What the model relies on", "amount", "distance", "colour", "urgent", "remark"} <= set(importance["texts"])


def test_no_label_breaks_a_picture(browser: Chrome, tmp_path: Path) -> None:
    blocks = [block_of([label, "good"], [0.5, 0.1]) for label in NASTY]
    drawn = draw(browser, [*blocks, block_of(NASTY, [0.1] * 20)], tmp_path / "nasty.png")
    assert [picture["bars"] for picture in drawn] == [2] * len(NASTY) + [20]
    assert all("good" in picture["texts"] for picture in drawn[:-1])
    assert "grün" in " ".join(drawn[-1]["texts"])


def test_twenty_long_labels(browser: Chrome, tmp_path: Path) -> None:
    (drawn,) = draw(browser, [block_of(LONG, [0.2 - i / 100 for i in range(20)])], tmp_path / "long.png")
    assert (drawn["bars"], drawn["hidden"]) == (20, 0)


def test_equal_labels_have_a_bar_each(browser: Chrome, tmp_path: Path) -> None:
    """Tenths of rows whose predictions are the same."""
    blocks = [block_of(["0.5", "0.5", "0.7"], [0.1, 0.2, 0.3], line) for line in (None, [0.5, 0.5, 0.7])]
    drawn = draw(browser, blocks, tmp_path / "equal.png")
    assert [(picture["bars"], picture["covered"]) for picture in drawn] == [(3, 0)] * 2


@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [-0.1, -0.2], [1e-9, 2e-9], [1e9, 2e9], [0.3, -0.1], [0.3, 0.3]], ids=str
)
def test_any_values_can_be_drawn(browser: Chrome, tmp_path: Path, values: list[float]) -> None:
    (drawn,) = draw(browser, [block_of(["one", "two"], values, values)], tmp_path / "values.png")
    assert (drawn["bars"], drawn["lines"]) == (2, 1)

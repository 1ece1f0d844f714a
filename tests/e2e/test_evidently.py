"""Evidently, in the environment that `make evidently` builds, on a log with a drift and values that mean harm."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from repository import Repository
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from traffic import DAY, SINCE, UNTIL, Log, prediction

pytestmark = pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromium and chromedriver are not installed")

HOSTILE = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>"
SPY = """\
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"):
        with open(os.environ["SPIED"], "a") as file:
            file.write(f"{event} {arguments[1:]}\\n")
sys.addaudithook(hook)
"""
PAGES = ["drift", "evidently"]


def write_log(repository: Repository, store: Path) -> None:
    """A window of the training rows again, but for amounts that are twice as large and some hostile words."""
    rows = pd.read_parquet(repository.path / "data/prepared/train.parquet").sample(900, replace=True, random_state=1)
    features = rows[["amount", "distance", "colour", "urgent", "remark"]]
    lines = []
    for number, cells in enumerate(features.astype(object).where(features.notna(), None).to_dict("records")):
        cells["amount"] = None if cells["amount"] is None else 2 * cells["amount"]
        if number % 30 == 0:
            cells |= {"colour": HOSTILE, "remark": HOSTILE}
        share = (number + 0.5) / len(features)
        answer = {"label": "yes", "probabilities": {"no": 1 - share, "yes": share}}
        at = SINCE + share * (UNTIL - SINCE)
        lines.append(prediction(number, at, features=cells, output=answer, model_version=HOSTILE[:60]))
    log, filed = Log(store), np.array([line["time"] for line in lines])
    for day in range(7):
        start = SINCE + day * DAY
        inside = (filed >= start.timestamp()) & (filed < (start + DAY).timestamp())
        log.predictions(*[line for line, here in zip(lines, inside, strict=True) if here])


@pytest.fixture(scope="module")
def drawn(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A repository after `perennial drift` and `make evidently`, each on the same window."""
    folder = tmp_path_factory.mktemp("evidently")
    repository = built.copy(folder / "copy")
    write_log(repository, folder / "store")
    (folder / "spy").mkdir()
    (folder / "spy/sitecustomize.py").write_text(SPY)
    repository.environment |= {"PREDICTION_STORE": str(folder / "store"), "SPIED": str(folder / "spied.txt")}
    repository.command("make", ".venv-monitor/.monitor")
    repository.perennial("drift", "--until", UNTIL.isoformat())
    path = f"{folder / 'spy'}:{repository.environment['PYTHONPATH']}"
    repository.command("make", "evidently", f"ARGS=--until {UNTIL.isoformat()}", PYTHONPATH=path)
    yield repository
    shutil.rmtree(repository.path / ".venv-monitor")  # a gigabyte


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    profile = f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,1400", profile):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def opened(browser: Chrome, repository: Repository, name: str) -> str:
    """The words of a page once it is drawn."""
    for kind in ("performance", "browser"):
        browser.get_log(kind)  # what another page did
    browser.get((repository.path / f"reports/{name}.html").as_uri())
    WebDriverWait(browser, 60).until(lambda b: "amount" in b.find_element(By.TAG_NAME, "body").text)
    return str(browser.find_element(By.TAG_NAME, "body").text)


def asked_for(browser: Chrome) -> list[str]:
    """The addresses that the page made the browser ask for."""
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]


def test_it_names_the_drifted_feature_and_decides_nothing(browser: Chrome, drawn: Repository) -> None:
    words = opened(browser, drawn, "evidently")
    assert "It decides nothing" in words
    rows = [row.text.split("\n") for row in browser.find_elements(By.CSS_SELECTOR, "tr")]
    verdicts = {row[0].split()[0]: " ".join(row) for row in rows if row[0]}
    assert "Detected" in verdicts["amount"]
    assert "Not Detected" in verdicts["distance"]
    assert 1e6 < (drawn.path / "reports/evidently.html").stat().st_size < 1e7


def test_ours_names_it_too(browser: Chrome, drawn: Repository) -> None:
    words = opened(browser, drawn, "drift")
    drifted = json.loads(drawn.read("reports/drift.json"))["windows"][0]["drifted"]
    assert drifted[0] == "amount"
    assert "distance" not in drifted
    assert "amount drifted" in words


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_and_runs_nothing_of_the_log(browser: Chrome, drawn: Repository, name: str) -> None:
    opened(browser, drawn, name)
    assert [url for url in asked_for(browser) if not url.startswith(("data:", "blob:"))] == [browser.current_url]
    assert browser.execute_script("return window.harmed") is None
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_our_page_fits_a_phone(browser: Chrome, drawn: Repository) -> None:
    screen = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    opened(browser, drawn, "drift")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_is_sent(drawn: Repository) -> None:
    spied = Path(drawn.environment["SPIED"])
    assert not spied.exists(), spied.read_text()
    call = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    spy = str(spied.parent / "spy")
    drawn.command(str(drawn.path / ".venv-monitor/bin/python"), "-c", call, PYTHONPATH=spy)
    assert "socket.connect" in spied.read_text()  # the spy does see what is sent
    spied.unlink()


def test_too_few_rows_are_not_drawn(drawn: Repository) -> None:
    early = (SINCE + DAY).isoformat()
    said = drawn.command(sys.executable, "-m", "perennial", "evidently", "--until", early, expect=1)
    assert "fewer than 500: too few to look at" in " ".join(said.split())

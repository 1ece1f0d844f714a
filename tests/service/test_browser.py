"""What a person sees in a browser, without the internet: a form that asks the model, and the API's description."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from servers import Server

TEXT = "document.getElementById('answer').innerText"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def picture(browser: Browser, request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep what the page looked like, where PICTURES says so."""
    yield
    if folder := os.environ.get("PICTURES"):
        browser.picture(Path(folder) / f"{request.node.name}.png")


def example(server: Server) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((server.folder / "models/profile.json").read_text())["example"]["row"]
    return row


def fill(browser: Browser, **fields: str) -> None:
    for name, value in fields.items():
        browser.run(f"document.querySelector('[name=' + {json.dumps(name)} + ']').value = {json.dumps(value)}")


def press(browser: Browser) -> str:
    """What the form says after its button was pressed."""
    browser.run("document.getElementById('answer').className = ''")
    browser.run("document.querySelector('button').click()")
    browser.wait_for("document.getElementById('answer').className !== ''")
    text: str = browser.run(TEXT)
    return text


@pytest.mark.usefixtures("picture")
def test_the_form_asks_the_model_about_the_example(browser: Browser, server: Server) -> None:
    browser.open(f"http://127.0.0.1:{server.port}/")
    (answer,) = server.predict(example(server))
    lines = press(browser).splitlines()
    assert lines[0] == answer["label"]
    assert lines[1:3] == [f"{name}: {100 * share:.1f} %" for name, share in answer["probabilities"].items()]
    assert lines[3].startswith("prediction ")


def test_what_is_typed_is_what_is_asked_and_empty_is_missing(browser: Browser, server: Server) -> None:
    browser.open(f"http://127.0.0.1:{server.port}/")
    fill(browser, mass="-2.5", width="", sealed="false", colour="🟣", remark="bad 😀 <b>news</b>")
    name = press(browser).rpartition("prediction ")[2]
    (line,) = [line for line in server.lines() if line["prediction_id"] == name]
    assert line["features"] == {"mass": -2.5, "sealed": False, "colour": "🟣", "remark": "bad 😀 <b>news</b>"}
    fill(browser, mass="", sealed="", colour="", remark="")
    name = press(browser).rpartition("prediction ")[2]
    assert [line["features"] for line in server.lines() if line["prediction_id"] == name] == [{}]


@pytest.mark.usefixtures("picture")
def test_the_form_shows_what_the_service_refuses(browser: Browser, server: Server) -> None:
    browser.open(f"http://127.0.0.1:{server.port}/")
    fill(browser, remark="x" * 10_001)
    assert press(browser).splitlines() == [
        "the request does not fit the contract",
        "$.instances[0].remark: String should have at most 10000 characters",
    ]


def test_the_form_holds_back_what_the_contract_forbids(browser: Browser, server: Server) -> None:
    browser.open(f"http://127.0.0.1:{server.port}/")
    before = browser.run(TEXT)
    fill(browser, width="11")
    browser.run("document.querySelector('button').click()")
    assert browser.run("document.querySelector('[name=width]').validationMessage")
    assert browser.run(TEXT) == before


def test_the_form_of_a_number_shows_a_number(browser: Browser, start: Callable[..., Server]) -> None:
    with start("regression") as server:
        browser.open(f"http://127.0.0.1:{server.port}/")
        (answer,) = server.predict(example(server))
        assert float(press(browser).splitlines()[0]) == pytest.approx(answer["value"], rel=1e-5)


@pytest.mark.usefixtures("picture")
def test_the_description_works_offline_and_is_filled_in(browser: Browser, server: Server) -> None:
    browser.open(f"http://127.0.0.1:{server.port}/docs/")
    browser.wait_for("document.querySelectorAll('.opblock').length")
    shown = browser.run("[...document.querySelectorAll('.opblock-summary-path')].map(each => each.innerText)")
    paths = [path.replace("\u200b", "") for path in shown]
    assert paths == ["/predict", "/feedback", "/healthz", "/readyz", "/version"]
    browser.run("document.querySelector('.opblock-summary-control').click()")
    browser.wait_for("document.querySelectorAll('.try-out__btn').length")
    browser.run("document.querySelector('.try-out__btn').click()")
    body = browser.wait_for("document.querySelector('.body-param__text')?.value")
    assert json.loads(body) == {"instances": [example(server)]}
    browser.run("document.querySelector('.btn.execute').click()")
    told = browser.wait_for("document.querySelector('.live-responses-table tbody .response-col_status')?.innerText")
    assert told.split()[0] == "200"


def test_no_page_complains_on_the_console(browser: Browser) -> None:
    """Runs last: about all of the above but the request that was refused."""
    assert "\n".join(each for each in browser.complaints if "422" not in each) == ""

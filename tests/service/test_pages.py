"""The pages in a real Chromium, which cannot reach any other host."""

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from servers import Server

pytestmark = pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromium and chromedriver are not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    profile = f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    alone = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-quic"]
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,1400", profile, *quiet, *alone):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def opened(browser: Chrome, server: Server, path: str) -> Chrome:
    browser.get(f"http://127.0.0.1:{server.port}{path}")
    return browser


def wait(browser: Chrome, what: Any) -> Any:
    return WebDriverWait(browser, 20).until(what)


def example(server: Server) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((server.folder / "models/profile.json").read_text())["example"]["row"]
    return row


def submit(browser: Chrome) -> str:
    """Press the button; what the page says then."""
    before = browser.find_element(By.ID, "answer").text
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    return str(wait(browser, lambda b: (text := b.find_element(By.ID, "answer").text) != before and text))


def test_the_form_is_filled_in_with_the_example_and_shows_its_answer(browser: Chrome, server: Server) -> None:
    text = submit(opened(browser, server, "/"))
    answer = server.predict(example(server))[0]
    assert text.startswith(answer["label"])
    for name, probability in answer["probabilities"].items():
        assert f"{name}: {100 * probability:.1f} %" in text


def test_what_is_left_empty_counts_as_missing_and_choices_are_those_of_the_contract(
    browser: Chrome, server: Server
) -> None:
    page, row = opened(browser, server, "/"), example(server)
    contract = json.loads((server.folder / "models/profile.json").read_text())["contract"]
    for name, spec in contract["features"].items():
        field = page.find_element(By.NAME, name)
        if spec["type"] in ("category", "boolean"):
            options = [option.text for option in Select(field).options]
            assert options == ["", *spec.get("values", ["true", "false"])]
            Select(field).select_by_visible_text("")
        elif not spec["required"]:
            field.clear()
        row[name] = row[name] if spec["required"] else None
    assert f"{100 * next(iter(server.predict(row)[0]['probabilities'].values())):.1f} %" in submit(page)


def test_a_wrong_value_is_shown_with_its_path(browser: Chrome, server: Server) -> None:
    page = opened(browser, server, "/")
    name, spec = next(
        (name, spec)
        for name, spec in json.loads((server.folder / "models/profile.json").read_text())["contract"][
            "features"
        ].items()
        if spec["type"] == "text"
    )
    assert spec["type"] == "text"
    page.execute_script("document.getElementsByName(arguments[0])[0].value = 'x'.repeat(10001)", name)
    text = submit(page)
    assert text.startswith("the request does not fit the contract")
    assert f"$.instances[0].{name}: String should have at most 10000 characters" in text


def test_the_form_of_a_number_shows_a_number(browser: Chrome, start: Callable[..., Server]) -> None:
    with start("regression") as server:
        text = submit(opened(browser, server, "/"))
        assert float(text.split()[0]) == pytest.approx(server.predict(example(server))[0]["value"], rel=1e-5)


def test_the_documentation_needs_no_other_host_and_can_be_tried_out(browser: Chrome, server: Server) -> None:
    page = opened(browser, server, "/docs/")
    block = wait(page, lambda b: b.find_element(By.CSS_SELECTOR, ".opblock-post"))
    block.find_element(By.CSS_SELECTOR, ".opblock-summary").click()
    wait(page, lambda b: b.find_element(By.CSS_SELECTOR, ".try-out__btn")).click()
    body = wait(page, lambda b: b.find_element(By.CSS_SELECTOR, "textarea.body-param__text"))
    assert json.loads(body.get_attribute("value")) == {"instances": [example(server)]}
    page.find_element(By.CSS_SELECTOR, ".execute").click()
    response = wait(
        page, lambda b: b.find_element(By.CSS_SELECTOR, ".live-responses-table tr.response .response-col_status")
    )
    assert response.text.startswith("200")


def test_no_page_complains_on_the_console(browser: Chrome) -> None:
    """Runs last: about all of the above but the request that was refused."""
    complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in complaints if "422" not in message] == []

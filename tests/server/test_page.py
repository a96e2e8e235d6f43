"""The page: what its files hold, and what people do with it, in a real browser where there is one."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.server.conftest import encoded
from tests.server.started import TOKEN, Served
from tests.sounds import tone, wave_bytes
from uniperceiver.server.routes.pages import page_files

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = os.environ.get("UNIPERCEIVER_AXE")  # axe.min.js of axe-core, which npm has
SECONDS = 30_000  # milliseconds until something is there, on a busy machine


def test_the_page_is_small_and_needs_nobody_else() -> None:
    texts = {address: path.read_text(encoding="utf-8") for address, path in page_files().items()}
    assert {"/", "/api", "/page/page.js", "/page/page.css", "/page/icon.svg"} <= texts.keys()
    assert sum(len(text.encode()) for text in texts.values()) <= 60_000
    for address, text in texts.items():
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}, address
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)|innerHTML|eval\(", text), address
    named = {name for text in texts.values() for name in re.findall(r"(?:src|href)=\"(/[^\"#]*)\"", text)}
    assert named <= texts.keys() | {"/openapi.json"}


def test_its_files_are_sent_as_what_they_are(client: httpx.Client) -> None:
    for address, path in page_files().items():
        answer = client.get(address)
        assert answer.content == path.read_bytes()
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-cache"
    assert client.head("/").status_code == 200
    assert client.post("/").status_code == 405
    for address in ("/page/", "/page/parts", "/page/../settings.py", "/page//etc/passwd", "/docs", "/redoc"):
        assert client.get(address).status_code == 404


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium here; on Debian: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A tab of the browser, and what went wrong in it."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(SECONDS)
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self) -> None:
        """Open the page, with the token that it asks for."""
        self.page.goto(self.url)
        self.page.locator("#token").fill(TOKEN)
        self.page.keyboard.press("Enter")
        self.page.locator("#state.ready").wait_for()
        self.errors = [error for error in self.errors if "401" not in error]

    def ask(self, tab: str) -> str:
        """Ask the question of a tab; what the answer says first."""
        self.page.get_by_role("tab", name=tab).click()
        self.page.locator("#ask").click()
        self.page.locator("#answer .verdict").wait_for()
        return str(self.page.locator("#answer .verdict").inner_text())


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x_HWC = np.zeros((96, 128, 3), dtype=np.uint8)
    x_HWC[20:60, 30:90] = (200, 30, 30)
    path = tmp_path_factory.mktemp("pictures") / "picture <b>.png"
    path.write_bytes(encoded(x_HWC))
    return path


@pytest.fixture
def visit(browser: Any, full: Served, request: pytest.FixtureRequest) -> Iterator[Visit]:
    scheme, width = getattr(request, "param", ("light", 1100))
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    visit = Visit(context.new_page(), full.url)
    visit.open()
    yield visit
    context.close()
    assert visit.errors == []
    assert {url for url in visit.requests if not url.startswith((full.url, "blob:"))} == set()


@pytest.mark.browser
@pytest.mark.parametrize("visit", [("light", 1100), ("dark", 1100), ("light", 320)], indirect=True, ids=str)
def test_every_question_is_answered(visit: Visit, picture: Path) -> None:
    page = visit.page
    page.set_input_files("#file", picture)
    assert "a red circle" in visit.ask("Classify") or "%" in page.locator("#answer .verdict").inner_text()
    assert page.locator("#answer .bar").count() == 3
    assert visit.ask("Caption")
    assert visit.ask("Compare").startswith("nearest: ")
    page.get_by_role("tab", name="Find").click()
    page.locator("#task").select_option("shapes")  # whose things have masks
    page.locator("#least").fill("0")
    assert "thing" in visit.ask("Find")
    assert page.locator("#answer rect").count() > 0
    assert page.locator("#answer path.mask").count() == page.locator("#answer rect").count()
    assert "3 experts" in visit.ask("Inside")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert "-F file=@FILE" in page.locator("#curl").inner_text()
    if AXE:
        page.evaluate(Path(AXE).read_text(encoding="utf-8"))
        assert page.evaluate("axe.run().then((result) => result.violations.map((rule) => rule.id))") == []


@pytest.mark.browser
def test_a_sound_is_played(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    sound = tmp_path / "a.wav"
    sound.write_bytes(wave_bytes(tone(0.2)))
    page.set_input_files("#file", sound)
    player = page.locator("#shown audio")
    player.wait_for()
    assert page.locator("#shown img, #shown video").count() == 0
    page.wait_for_function("document.querySelector('#shown audio').duration > 0.1")
    page.locator("#ask").click()
    page.locator("#problem:not([hidden])").wait_for()
    assert "this model does not hear" in page.locator("#problem").inner_text()
    visit.errors = [error for error in visit.errors if "422" not in error]


@pytest.mark.browser
def test_the_page_is_used_without_a_mouse(visit: Visit, picture: Path) -> None:
    page = visit.page
    page.set_input_files("#file", picture)
    page.locator("#text").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "tab-classify"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-caption"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.id") == "tab-inside"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-classify"
    for _ in range(4):  # panel, task, labels, button
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "ask"
    page.keyboard.press("Enter")
    page.locator("#answer .verdict").wait_for()


@pytest.mark.browser
def test_what_is_wrong_is_a_sentence(visit: Visit, picture: Path, tmp_path: Path) -> None:
    page = visit.page
    page.locator("#ask").click()
    assert "Choose a picture, clip or sound first" in page.locator("#problem").inner_text()
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:60])
    page.set_input_files("#file", broken)
    page.locator("#ask").click()
    page.locator("#problem:not([hidden])").wait_for()
    said = page.locator("#problem").inner_text()
    assert said.startswith("What you gave: damaged image")
    assert "{" not in said
    visit.errors = [error for error in visit.errors if "422" not in error]
    page.locator("#clear").click()
    page.locator("#text").fill("a red circle")
    page.locator("#labels").fill("a\nb<img src=x>")
    page.locator("#ask").click()
    page.locator("#answer .verdict, #problem:not([hidden])").first.wait_for()
    assert page.locator("#answer img").count() == 0
    assert "labels=" in page.url


@pytest.mark.browser
def test_without_javascript_it_says_what_it_needs(browser: Any, full: Served) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(full.url)
    assert "needs JavaScript" in page.locator("noscript").inner_text()
    context.close()

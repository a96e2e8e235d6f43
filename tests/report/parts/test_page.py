"""What all pages have in common: templates, colours, and texts that stay texts."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from tests.report.html import EVIL, Page, assert_harmless
from uniperceiver.report.parts.colours import DARK, LIGHT
from uniperceiver.report.parts.page import clean, render_page

EMPTY = {"title": "a title", "kicker": "run", "verdict": None, "facts": {}, "links": []}


def rendered(**changes: object) -> str:
    return render_page("page.html.j2", EMPTY | changes)


def test_links_lead_to_the_sections_that_are_there() -> None:
    text = rendered(links=["Tasks", "Curves"])
    assert [value for name, value in Page(text).attributes if name == "href"] == ["#tasks", "#curves"]
    assert "<nav>" not in rendered(links=["Tasks"])


def test_a_page_without_sections_says_so() -> None:
    assert "Nothing was logged yet." in rendered()
    assert "Nothing was logged yet." not in rendered(links=["Tasks"])


def test_a_header_has_what_there_is_to_say() -> None:
    text = rendered(verdict="It went well.", facts={"runs": "3", "tasks": "shapes, motions, words"})
    assert '<p class="verdict">It went well.</p>' in text
    assert "<div><dt>runs</dt><dd>3</dd></div>" in text
    assert '<div class="long"><dt>tasks</dt>' in text
    assert not Page(rendered()).count("class", "verdict")


def test_texts_never_become_tags_or_expressions() -> None:
    text = rendered(title=EVIL, kicker=EVIL, verdict=EVIL, facts={EVIL: EVIL})
    assert_harmless(text)
    assert Page(text).text.count("alert(1)") == 2 * 6  # it is shown, as text
    assert "{{ 7 * 7 }}" in text


def test_the_page_can_neither_run_a_script_nor_reach_a_network() -> None:
    assert "default-src 'none'" in rendered()
    assert not re.search(r"https?:|@import|url\(", rendered())


def test_both_colour_schemes_are_there() -> None:
    light, dark = rendered().split("prefers-color-scheme: dark", 1)
    assert f"--card: {LIGHT.card};" in light
    assert f"--tone-7: {LIGHT.tones[7]};" in light
    assert f"--card: {DARK.card};" in dark
    assert f"--tone-7: {DARK.tones[7]};" in dark


def test_every_colour_of_a_template_is_known() -> None:
    """A variable that no theme sets would be no colour at all."""
    folder = Path(__file__).parents[3] / "uniperceiver"
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.j2")]
    used = {name for text in texts for name in re.findall(r"var\((--[a-z-]+)\)", text)}
    assert used
    style = rendered()
    for name in used - {"--share", "--tone-", "--class"}:  # set where they are used
        assert f"{name}:" in style, name


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render_page("page.html.j2", {"title": "a title"})


def test_cleaning_keeps_what_can_be_written() -> None:
    assert clean("a\x00b\ud800\n鳥") == "a\ufffdb\ufffd\n鳥"

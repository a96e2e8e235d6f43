"""What all reports have in common."""

from uniperceiver.report.markup import Html, element
from uniperceiver.report.page import header, page


def rendered(sections: dict[str, Html | None], styles: tuple[str, ...] = ()) -> str:
    return page("a <title>", header("run", "mine", None, {}), sections, styles)


def test_links_lead_to_the_sections_that_are_there() -> None:
    one, two = element("section", "first", id="one"), element("section", "second", id="two")
    text = rendered({"One": one, "None": None, "Two": two})
    assert '<nav><a href="#one">One</a><a href="#two">Two</a></nav>' in text
    assert text.index("first") < text.index("second")


def test_a_single_section_needs_no_links_and_none_at_all_is_said() -> None:
    assert "<nav>" not in rendered({"One": element("section", "first")})
    assert "Nothing was logged yet." in rendered({"One": None})


def test_the_page_can_neither_run_a_script_nor_reach_a_network() -> None:
    text = rendered({})
    assert "default-src &#x27;none&#x27;; style-src" in text
    assert "<title>a &lt;title&gt;</title>" in text


def test_a_report_may_bring_a_style_of_its_own() -> None:
    assert len(rendered({}, ("study.css",))) > len(rendered({}))


def test_a_header_has_what_there_is_to_say() -> None:
    said = header("study", "mine", "It went well.", {"runs": "3", "tasks": "one, two, three, four"}).text
    assert '<p class="verdict">It went well.</p>' in said
    assert "<div><dt>runs</dt><dd>3</dd></div>" in said
    assert '<div class="long"><dt>tasks</dt>' in said
    assert "verdict" not in header("study", "mine", None, {}).text

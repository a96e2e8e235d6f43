"""report.html of a run: one file that needs nothing else, to be looked at rather than read."""

from importlib.resources import files

from uniperceiver.report.contents import Example, RunReport
from uniperceiver.report.curves import curves_section
from uniperceiver.report.experts import experts_section
from uniperceiver.report.gallery import gallery_section
from uniperceiver.report.interference import interference_section
from uniperceiver.report.markup import Html, element, join
from uniperceiver.report.remarks import recipe_section, remarks_section
from uniperceiver.report.summary import cards_section, header
from uniperceiver.report.table import table_section

__all__ = ["Example", "RunReport", "render"]

# Even if a text were taken for a tag, the page could neither run a script nor reach a network.
ALLOWED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render(report: RunReport) -> str:
    """The page as HTML, to be written as UTF-8."""
    sections = {
        "Tasks": cards_section(report),
        "Examples": gallery_section(report),
        "Experts": experts_section(report),
        "Interference": interference_section(report),
        "Curves": curves_section(report),
        "Figures": table_section(report),
        "Remarks": remarks_section(report),
        "Recipe": recipe_section(report),
    }
    there = {name: section for name, section in sections.items() if section is not None}
    links = (element("a", name, href=f"#{name.lower()}") for name in there)
    page = element(
        "html",
        _head(report.title),
        element(
            "body",
            header(report),
            element("nav", *links) if len(there) > 1 else None,
            element("main", *there.values()) if there else element("main", element("p", "Nothing was logged yet.")),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page.text}\n"


def _head(title: str) -> Html:
    style = files("uniperceiver.report").joinpath("style.css").read_text(encoding="utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=ALLOWED),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", join(Html(style))),
    )

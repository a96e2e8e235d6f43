"""What all reports have in common: one HTML file that needs nothing else, its head, header and links."""

from collections.abc import Mapping, Sequence
from importlib.resources import files

from uniperceiver.report.markup import Html, element

# Even if a text were taken for a tag, the page could neither run a script nor reach a network.
_ALLOWED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_LONG_FACT = 18  # characters; longer ones take two columns


def page(title: str, top: Html, sections: Mapping[str, Html | None], styles: Sequence[str] = ()) -> str:
    """The page as HTML, to be written as UTF-8; sections that are None are left out.

    Args:
        styles: files of this folder, beside style.css.
    """
    there = {name: section for name, section in sections.items() if section is not None}
    links = (element("a", name, href=f"#{name.lower()}") for name in there)
    body = element(
        "body",
        top,
        element("nav", *links) if len(there) > 1 else None,
        element("main", *there.values()) if there else element("main", element("p", "Nothing was logged yet.")),
    )
    return f"<!doctype html>\n{element('html', _head(title, styles), body, lang='en').text}\n"


def _head(title: str, styles: Sequence[str]) -> Html:
    folder = files("uniperceiver.report")
    css = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", *styles))
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_ALLOWED),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html("".join(css))),
    )


def header(kicker: str, title: str, verdict: str | None, facts: Mapping[str, str]) -> Html:
    """What the report is about, what came out in a sentence, and facts."""
    listed = (
        element("div", element("dt", name), element("dd", value), class_="long" if len(value) > _LONG_FACT else None)
        for name, value in facts.items()
    )
    return element(
        "header",
        element("p", kicker, class_="kicker"),
        element("h1", title),
        element("p", verdict, class_="verdict") if verdict is not None else None,
        element("dl", *listed, class_="facts") if facts else None,
    )

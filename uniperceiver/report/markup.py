"""HTML in which a text is never taken for a tag: whatever is not Html is escaped where it is put in."""

import html
import re
from dataclasses import dataclass

# Neither HTML nor UTF-8 has room for these; file names and captions may contain them all the same. The last
# range turns the direction of the text around them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
_EMPTY_ELEMENTS = frozenset({"meta", "img", "br"})


@dataclass(frozen=True)
class Html:
    """A piece of a page."""

    text: str


Child = Html | str | None


def escaped(text: str) -> str:
    """The text as it may stand between tags or in a quoted attribute."""
    return html.escape(_UNPRINTABLE.sub("\ufffd", text), quote=True)


def element(name: str, /, *children: Child, **attributes: str | float | None) -> Html:
    """An element; `class_` and `data_x` become class and data-x, attributes and children that are None are left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY_ELEMENTS:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(*children).text}</{name}>")


def join(*children: Child) -> Html:
    """The pieces one after the other."""
    return Html(
        "".join(each.text if isinstance(each, Html) else escaped(each) for each in children if each is not None)
    )


def shortened(text: str, most: int) -> str:
    """At most that many characters, with an ellipsis where something was cut."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"

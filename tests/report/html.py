"""What a browser would make of a page, for the tests of pages."""

import re
from html.parser import HTMLParser

EVIL = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\" onmouseover='x' & </pre>\x00\ud800\u202e"
    "{{ 7 * 7 }} $x_1$"
)
EMPTY_ELEMENTS = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and words; fails where a tag is not closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in EMPTY_ELEMENTS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    @property
    def text(self) -> str:
        return re.sub("[ \\n]+", " ", " ".join(self.words))

    def count(self, name: str, value: str) -> int:
        """How many elements have that word in an attribute."""
        return sum(name == key and value in text.split() for key, text in self.attributes)


def assert_harmless(text: str) -> None:
    """Nothing runs, nothing is fetched, and no hostile text became a tag or an expression."""
    page = Page(text)
    assert not {"script", "x", "link", "iframe", "object", "form", "base"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name != "src" or value.startswith(("data:image/", "data:audio/wav;"))
        assert name not in ("href", "xlink:href") or value.startswith("#")
    assert "<script" not in text
    assert not any(each in text for each in ("\x00", "\u202e", "\ud800"))
    text.encode("utf-8")

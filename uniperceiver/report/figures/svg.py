"""A matplotlib figure as SVG inside a page: small, in the page's own colours and letters, the same bytes each time."""

import io
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from uniperceiver.report.figures.canvas import TEXT, TIPS, drawing
from uniperceiver.report.parts.colours import LIGHT, variables
from uniperceiver.report.parts.page import clean

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_CIRCLE = re.compile(r"M 0 (\S+)\s+C")
_SQUARE = re.compile(r"M (\S+) (\S+)\s+L (\S+) (\S+)\s+L (\S+) (\S+)\s+L (\S+) (\S+)\s+(?:L (\S+) (\S+)\s+)?z\s*$")
_ROUND = 3.5  # corners of squares
_NOTHING, _GROUND = "fill:none", "fill:var(--card)"  # styles of what is not seen: the card of the page is the ground
# What the style sheet sets for a whole figure, or a browser by itself.
_USUAL = {
    "stroke-linecap": "butt square",
    "stroke-linejoin": "miter round",
    "font-size": f"{TEXT:g}px",
    "text-anchor": "start",
    "fill": LIGHT.soft,
}


def inline(figure: "Figure", label: str) -> "Markup":
    """Draw a figure as an <svg> element for HTML.

    Colours of the palette become variables of the style sheet, letters are those of the page, and what the figure says
    where one points at it becomes <title>. Texts are escaped, whatever they contain.

    Args:
        label: what a screen reader says.
    """
    from markupsafe import Markup
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    tipped = {
        f"{TIPS}{place}": artist for place, artist in enumerate(figure.findobj(lambda artist: hasattr(artist, TIPS)))
    }
    seen = {name: artist for name, artist in tipped.items() if not isinstance(artist, Line2D)}
    for name, artist in seen.items():
        artist.set_gid(name)
    for text in figure.findobj(Text):
        text.set_text(clean(text.get_text()))
    buffer = io.BytesIO()
    with drawing():
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(buffer.getvalue())
    width, height = (float(root.attrib["viewBox"].split()[place]) for place in (2, 3))
    shapes = {node.attrib["id"]: node for node in root.iter(f"{_SVG}path") if "id" in node.attrib}
    page = ElementTree.Element(
        "svg",
        {
            "class": "chart",
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width:g}",
            "role": "img",
            "aria-label": clean(label),
        },
    )
    page.extend(list(_simpler(root, shapes, {name: getattr(artist, TIPS) for name, artist in seen.items()})))
    for artist in tipped.values():
        if isinstance(artist, Line2D):
            page.extend(list(_columns(artist, height)))
    return Markup(ElementTree.tostring(page, encoding="unicode"))


def _simpler(
    parent: ElementTree.Element, shapes: dict[str, ElementTree.Element], tips: dict[str, Sequence[str]]
) -> Iterator[ElementTree.Element]:
    """The same picture without groups, backgrounds, definitions and whatever goes without saying."""
    for node in parent:
        name = node.tag.removeprefix(_SVG)
        if name == "g" and node.attrib.get("id") in tips:
            yield from _with_titles(node.iter(f"{_SVG}path"), tips[node.attrib["id"]])
        elif name == "g":
            yield from _simpler(node, shapes, tips)
        elif name == "use":
            yield _placed(node, shapes[node.attrib[f"{_XLINK}href"].removeprefix("#")])
        elif name == "path" and node.get("d"):
            if (style := _style(node)) not in (_NOTHING, _GROUND):
                yield ElementTree.Element("path", {"d": _numbers(node.attrib["d"]), "style": style})
        elif name == "text":
            yield _text(node)


def _with_titles(paths: Iterator[ElementTree.Element], tips: Sequence[str]) -> Iterator[ElementTree.Element]:
    """Shapes, each with its text; squares have round corners, and those without a colour are only there to be found."""
    for path, tip in zip(paths, tips, strict=True):
        style = _style(path)
        shape = {"class": "spot"} if style == _NOTHING else {"style": style}
        if corners := _SQUARE.match(path.attrib["d"]):
            xs, ys = ([float(corners[place]) for place in places] for places in ((1, 3, 5), (2, 4, 6)))
            size = {"x": min(xs), "y": min(ys), "width": max(xs) - min(xs), "height": max(ys) - min(ys)}
            size["rx"] = min(_ROUND, size["width"] / 4)
            node = ElementTree.Element("rect", {key: f"{value:.4g}" for key, value in size.items()} | shape)
        else:
            node = ElementTree.Element("path", {"d": _numbers(path.attrib["d"])} | shape)
        if tip:
            ElementTree.SubElement(node, "title").text = clean(tip)
        yield node


def _placed(use: ElementTree.Element, shape: ElementTree.Element) -> ElementTree.Element:
    """A mark at its place; definitions would need names that no other figure of the page has."""
    x, y = float(use.attrib["x"]), float(use.attrib["y"])
    style = _style(use)
    circle = _CIRCLE.match(shape.attrib["d"])
    if circle is not None:
        attributes = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{float(circle[1]):g}", "style": style}
        return ElementTree.Element("circle", attributes)
    return ElementTree.Element(
        "path", {"d": _numbers(shape.attrib["d"]), "transform": f"translate({x:.1f} {y:.1f})", "style": style}
    )


def _text(node: ElementTree.Element) -> ElementTree.Element:
    attributes: dict[str, str] = {}
    for key in ("x", "y"):
        if key in node.attrib:
            attributes[key] = f"{float(node.attrib[key]):.1f}"
    turned = node.attrib.get("transform", "")
    if not turned.startswith("rotate(-0 "):
        attributes["transform"] = _numbers(turned)
    if style := _style(node):
        attributes["style"] = style
    element = ElementTree.Element("text", attributes)
    element.text = node.text
    return element


def _style(node: ElementTree.Element) -> str:
    """A style in the page's colours, without what is usual."""
    parts = []
    is_text = node.tag == f"{_SVG}text"
    for part in node.attrib.get("style", "").split("; "):
        key, _, value = part.partition(": ")
        usual = _USUAL.get(key, "").split() if key != "fill" or is_text else ()
        if not key or value in usual or key in ("font-family", "stroke-miterlimit"):
            continue
        parts.append(f"{key}:{_VARIABLE.get(value, value)}")
    return ";".join(parts)


_VARIABLE = {colour: f"var({name})" for name, colour in variables(LIGHT)}


def _numbers(path: str) -> str:
    """Coordinates with one decimal, on one line."""
    short = _NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), path)
    return re.sub(r"\s*([MLCQz])\s*", r"\1", short.replace("\n", "")).strip()


def _columns(line: "Line2D", height: float) -> Iterator[ElementTree.Element]:
    """Invisible columns over the points of a line; the one that is pointed at shows its point and says its text."""
    axes: Any = line.axes
    value_N = np.asarray(line.get_ydata(), dtype=float)
    points_N2 = axes.transData.transform(np.column_stack([line.get_xdata(), np.nan_to_num(value_N)]))
    xs = points_N2[:, 0]
    order = np.argsort(xs, kind="stable")
    borders = [axes.bbox.x0, *((left + right) / 2 for left, right in pairwise(xs[order])), axes.bbox.x1]
    top, bottom = height - axes.bbox.y1, height - axes.bbox.y0
    for place, index in enumerate(order):
        column = ElementTree.Element("g", {"class": "at"})
        ElementTree.SubElement(column, "title").text = clean(getattr(line, TIPS)[index])
        left, right = borders[place], borders[place + 1]
        size = {"x": left, "y": top, "width": max(right - left, 0.0), "height": bottom - top}
        ElementTree.SubElement(column, "rect", {key: f"{value:.1f}" for key, value in size.items()})
        ends = {"x1": xs[index], "x2": xs[index], "y1": top, "y2": bottom}
        ElementTree.SubElement(column, "line", {key: f"{value:.1f}" for key, value in ends.items()})
        if np.isfinite(value_N[index]):
            x, y = points_N2[index]
            mark = {
                "cx": f"{x:.1f}",
                "cy": f"{height - y:.1f}",
                "r": "3.4",
                "style": f"fill:{_VARIABLE[str(line.get_color())]}",
            }
            ElementTree.SubElement(column, "circle", mark)
        yield column

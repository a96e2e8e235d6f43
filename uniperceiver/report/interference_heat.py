"""The heat map of one group of parameters: who helps and who hurts whom, in numbers on colours."""

from collections.abc import Iterator, Sequence

from uniperceiver.interference.records import InterferenceLayer
from uniperceiver.report.interference_cells import Cell, rows_of, short_names, signed, strength, written_in
from uniperceiver.report.markup import Html, element

_ROW_NAME, _COLUMN_NAME = 15, 14  # most characters
_UPRIGHT = 4  # of more tasks than that, the columns' names are turned
_COLUMN, _MARGIN = 50, 145  # widths in pixels: of a column; of the rows' names and the frame
_LEGEND = (-1.0, -0.3, -0.05, 0.05, 0.3, 1.0)


def heat_maps(tasks: Sequence[str], layers: Sequence[InterferenceLayer]) -> Html:
    """The heat maps side by side, as many as there is room for."""
    wide = max(250, _MARGIN + _COLUMN * len(tasks))
    return element("div", *(_heat_map(tasks, each) for each in layers), class_="panels heats", style=f"--wide:{wide}px")


def heat_legend(cells: Sequence[Cell]) -> Html:
    """What the colours mean, and those of the marks that there are."""
    shown = [_swatch(value) for value in _LEGEND]
    return element(
        "p",
        "hurts\u2002",
        *shown,
        "\u2002helps",
        element("span", element("span", class_="key swatch own"), "own step", class_="pair"),
        element("span", element("span", class_="key swatch none"), "not measurable", class_="pair")
        if _any_missing(cells)
        else None,
        element("span", element("b", "bold"), ": the 95\u202f% interval excludes 0", class_="pair")
        if _any_interval(cells)
        else None,
        class_="explained keys long",
    )


def said(cell: Cell) -> str:
    """All figures of a cell in words."""
    return " · ".join(_said(cell))


def shade(cell: Cell) -> tuple[str, str | None]:
    """The class and the style of a cell."""
    if cell.value is None:
        return "none", None
    if cell.own:
        return "own", None
    side = "helps" if cell.value >= 0 else "hurts"
    return side, f"--share:{100 * strength(cell.value):.0f}%"


def _swatch(value: float) -> Html:
    side = "helps" if value > 0 else "hurts"
    style = f"--share:{100 * strength(value):.0f}%"
    return element("span", signed(value), class_=f"swatch scale {side}", style=style)


def _any_missing(cells: Sequence[Cell]) -> bool:
    return any(each.value is None for each in cells)


def _any_interval(cells: Sequence[Cell]) -> bool:
    return any(each.low is not None and each.high is not None for each in cells)


def _heat_map(tasks: Sequence[str], layer: InterferenceLayer) -> Html:
    title = layer.name if layer.layer is None else f"layer {layer.layer}"
    caption = element(
        "figcaption",
        element("span", title, class_="name"),
        element("small", layer.name) if layer.layer is not None else None,
    )
    turned = len(tasks) > _UPRIGHT
    heads = (
        element("th", element("span", short), scope="col", title=f"a step of {task}")
        for task, short in zip(tasks, short_names(tasks, _COLUMN_NAME), strict=True)
    )
    head = element("tr", element("td"), *heads, class_="turned" if turned else None)
    names = short_names(tasks, _ROW_NAME)
    rows = (_row(name, row) for name, row in zip(names, rows_of(tasks, layer), strict=True))
    table = element("table", element("thead", head), element("tbody", *rows), class_="heat")
    return element("figure", caption, element("div", table, class_="wide"), class_="panel")


def _row(name: str, row: Sequence[Cell]) -> Html:
    head = element("th", name, scope="row", title=f"{row[0].affected} is affected")
    return element("tr", head, *(_square(each) for each in row))


def _square(cell: Cell) -> Html:
    side, style = shade(cell)
    number = written_in(cell)
    return element(
        "td",
        element("b", number) if cell.clear and not cell.own else number,
        title=said(cell),
        class_=side,
        style=style,
    )


def _said(cell: Cell) -> Iterator[str]:
    if cell.own:
        yield f"{cell.affected}, by its own step"
    else:
        yield f"{cell.affected}, when {cell.stepping} takes the step"
    yield "not measurable" if cell.value is None else f"{signed(cell.value)}{interval(cell)}"
    if cell.mean_of_ratios is not None:
        yield f"mean of ratios {signed(cell.mean_of_ratios)}"
    if cell.cosine is not None:
        yield f"cosine {signed(cell.cosine)}"
    if cell.conflict_rate is not None:
        yield f"conflict in {100 * cell.conflict_rate:.0f}\u202f% of the pairs"


def interval(cell: Cell) -> str:
    """The interval as what follows the value; nothing where there is none."""
    if cell.low is None or cell.high is None:
        return ""
    return f" (95\u202f% interval {signed(cell.low)} to {signed(cell.high)})"

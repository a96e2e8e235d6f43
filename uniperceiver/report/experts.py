"""The experts' picture: groups of tokens x experts of each layer, one panel for attention and one for FFNs.

(Figure 3 of Uni-Perceiver-MoE, as a heat map.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from uniperceiver.evaluation.experts import Experts
from uniperceiver.moe.statistics import GateFigures
from uniperceiver.report.contents import RunReport
from uniperceiver.report.experts_groups import TokenGroup, gates_of, token_groups
from uniperceiver.report.markup import Html, element, join, shortened

_PARTS = {"attention": "Attention", "ffn": "FFN"}
_ROW, _BAR, _HEAD, _GAP, _BREAK = 20, 15, 36, 9, 9  # heights of rows, marks and head; gaps of layers and of kinds
_WIDTH = 1104.0  # of a whole panel, if that is enough
_HUES = {"visual": 258, "text": 55, "text candidates": 165, "visual candidates": 330}
_NARROWEST, _WIDEST = 5.0, 22.0  # of a cell
_DIGIT = 9.0  # the width that a digit needs
_LABEL = 50  # most characters
_SAID = 4  # experts that are named where one points


def experts_section(report: RunReport) -> Html | None:
    """How the model chooses its experts; None for a dense model."""
    found = report.experts
    if found is None:
        return None
    groups = token_groups(found.figures)
    panels = (_panel(found, groups, part, gate) for part, gate in _panels(groups))
    return element(
        "section",
        element("h2", "Experts"),
        element("p", _explained(found), class_="explained"),
        _legend(found, groups) if groups else None,
        *panels,
        id="experts",
    )


def _explained(found: Experts) -> str:
    if not found.figures:
        return (
            f"Routing {found.condition}: each task has its own copy of the weights, so there is no gate, and nothing "
            "that it could show."
        )
    return (
        f"Routing by {found.condition}, {found.k} of {found.experts} experts per token. Each row is a group of tokens, "
        f"each block a layer, each column in it an expert (0 to {found.experts - 1}): the stronger the colour, the "
        "larger the expert's mean weight for these tokens. Rows that look alike share experts; tasks that every gate "
        "treats alike are one row. Point at a block for its figures."
    )


def _legend(found: Experts, groups: Sequence[TokenGroup]) -> Html:
    even = 1 / found.experts
    shown = {0.05: "5\u202f%", even: f"{100 * even:.3g}\u202f% (all alike)", 0.5: "50\u202f%", 1.0: "100\u202f%"}
    weights = (
        join(element("span", class_="key cell", style=f"opacity:{_shade(weight)}"), f"{text} ")
        for weight, text in sorted(shown.items())
    )
    kinds = (
        join(element("span", class_="key cell task", style=f"--hue:{_HUES[kind]}"), f"{kind} ")
        for kind in dict.fromkeys(group.tokens for group in groups)
        if kind in _HUES
    )
    return element("p", "mean weight:\u2002", *weights, *kinds, class_="explained keys long")


def _panels(groups: Sequence[TokenGroup]) -> list[tuple[str, int]]:
    """The parts that have gates; with two gates in a part, each is a panel."""
    return list(dict.fromkeys((part, gate) for part, gate, _ in gates_of(groups)))


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Where everything lies on the paper."""

    layers: Sequence[int]
    experts: int
    label: float  # width of the labels

    @property
    def cell(self) -> float:
        wide = (_WIDTH - self.label - 2 - _GAP * (len(self.layers) - 1)) / (len(self.layers) * self.experts)
        return min(max(wide, _NARROWEST), _WIDEST)

    @property
    def block(self) -> float:
        """Width of a layer."""
        return self.cell * self.experts

    @property
    def width(self) -> float:
        return self.x(len(self.layers) - 1) + self.block + 2

    def x(self, place: int) -> float:
        """The left edge of a layer."""
        return self.label + place * (self.block + _GAP)

    @property
    def numbered(self) -> list[int]:
        """Experts whose number has room."""
        digits = len(str(self.experts - 1))
        step = next((each for each in (1, 2, 4, 8) if each * self.cell >= digits * _DIGIT), self.experts)
        return list(range(0, self.experts, step))


def _panel(found: Experts, groups: Sequence[TokenGroup], part: str, gate: int) -> Html:
    layers = [layer for one, other, layer in gates_of(groups) if (one, other) == (part, gate)]
    grid = _Grid(layers=layers, experts=found.experts, label=6.2 * max(len(_label(each)) for each in groups) + 26)
    rows, y = [], float(_HEAD)
    for place, group in enumerate(groups):
        if place and (groups[place - 1].side, groups[place - 1].kind) != (group.side, group.kind):
            y += _BREAK
        rows.append(_row(group, [(part, gate, layer) for layer in layers], grid, y))
        y += _ROW
    several = any((part, 1) == (one, other) for one, other, _ in gates_of(groups))
    title = _PARTS.get(part, part) + (f", gate of linear {gate + 1}" if several else "")
    svg = element(
        "svg",
        _head(grid),
        *rows,
        class_="gates",
        viewBox=f"0 0 {grid.width:.1f} {y:.0f}",
        width=f"{grid.width:.0f}",
        role="img",
        aria_label=f"{title}: mean weight of each expert for each group of tokens",
    )
    caption = element("figcaption", element("span", title, class_="name"))
    return element("figure", caption, element("div", svg, class_="wide"), class_="panel")


def _head(grid: _Grid) -> Html:
    """Layers and experts over their columns."""
    texts = []
    for place, layer in enumerate(grid.layers):
        middle = f"{grid.x(place) + grid.block / 2:.1f}"
        name = f"layer {layer}" if grid.block >= 50 else str(layer)
        texts.append(element("text", name, class_="layer", x=middle, y=13))
        for expert in grid.numbered:
            x = f"{grid.x(place) + (expert + 0.5) * grid.cell:.1f}"
            texts.append(element("text", str(expert), class_="expert", x=x, y=_HEAD - 7))
    return join(*texts)


def _row(group: TokenGroup, gates: Sequence[tuple[str, int, int]], grid: _Grid, y: float) -> Html:
    blocks = (
        _block(group, group.by_gate[gate], grid, grid.x(place), y)
        for place, gate in enumerate(gates)
        if gate in group.by_gate
    )
    middle = f"{y + _BAR / 2:.1f}"
    label = element(
        "text",
        element("title", _name(group)),
        _label(group),
        class_="who",
        x=f"{grid.label - 12:.1f}",
        y=middle,
        dy="0.34em",
    )
    hue = _HUES.get(group.tokens)
    style = None if hue is None else f"--hue:{hue}"
    return element("g", label, *blocks, class_="task" if style else None, style=style)


def _block(group: TokenGroup, found: GateFigures, grid: _Grid, x: float, y: float) -> Html:
    """What one gate chose for the group: a mark for each expert with a weight."""
    marks = (
        element(
            "rect",
            x=f"{x + expert * grid.cell + 0.5:.1f}",
            y=f"{y:.0f}",
            width=f"{grid.cell - 1:.1f}",
            height=_BAR,
            opacity=_shade(weight),
        )
        for expert, weight in enumerate(found.weight)
        if weight > 0
    )
    ground = element("rect", class_="ground", x=f"{x:.1f}", y=f"{y:.0f}", width=f"{grid.block:.1f}", height=_BAR)
    return element("g", element("title", _said(group, found)), ground, *marks)


def _said(group: TokenGroup, found: GateFigures) -> str:
    order = sorted(range(len(found.weight)), key=lambda expert: -found.weight[expert])
    named = [expert for expert in order if found.weight[expert] > 0][:_SAID]
    experts = ", ".join(
        f"expert {expert}: weight {found.weight[expert]:.2f}, {100 * found.load[expert]:.0f}\u202f% of the assignments"
        for expert in named
    )
    return f"{_name(group)} · layer {found.layer} · {experts}{''.join(_asides(found))}"


def _asides(found: GateFigures) -> Iterator[str]:
    yield f" · entropy {found.entropy:.2f} nats"
    if found.drop_rate:
        yield f" · {100 * found.drop_rate:.1f}\u202f% of the assignments dropped"
    if found.unserved:
        yield f" · {100 * found.unserved:.1f}\u202f% of the tokens without an expert"


def _shade(weight: float) -> float:
    """Opacity: more than the weight, so that small weights can be seen."""
    return round(float(min(max(weight, 0.0), 1.0) ** 0.7), 2)


def _name(group: TokenGroup) -> str:
    return f"{', '.join(group.tasks)} · {group.tokens}"


def _label(group: TokenGroup) -> str:
    return f"{shortened(', '.join(group.tasks), _LABEL - len(group.tokens))} · {group.tokens}"

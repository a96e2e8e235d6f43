"""The experts' picture: groups of tokens x experts of each layer, one panel for attention and one for FFNs.

(Figure 3 of Uni-Perceiver-MoE, as a heat map.)
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from uniperceiver.evaluation.experts import Experts
from uniperceiver.moe.statistics import GateFigures
from uniperceiver.report.figures.canvas import LETTER, Box, clear_of, drawn, grid, tip
from uniperceiver.report.parts.colours import LIGHT
from uniperceiver.report.parts.numbers import THIN_SPACE, shortened
from uniperceiver.report.parts.token_groups import Gate, TokenGroup, gates_of, token_groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOKEN_TONES = {"visual": 0, "text": 1, "text candidates": 2, "visual candidates": 3}  # places in the palette
_PARTS = {"attention": "Attention", "ffn": "FFN"}
_ROW, _MARK, _BREAK = 20, 15, 9  # heights of a row and of its marks, and between kinds of tokens
_GAP = 9  # between layers
_WIDTH, _NARROW_WIDTH = 1104.0, 322.0  # of a whole panel, if that is enough; the latter on a phone
_NARROWEST, _WIDEST = 5.0, 22.0  # of an expert's column
_NARROWEST_ON_A_PHONE = 3.0
_NAME = 14  # height of a row's name, where it stands above the row
_DIGIT = 9.0  # the width that a digit needs
_LABEL = 50  # most characters
_NAMED = 4  # experts that are named where one points


def expert_panels(experts: Experts) -> list[tuple[str, int]]:
    """List the parts that have gates, and which of their gates: each is a panel."""
    return list(dict.fromkeys((part, gate) for part, gate, _ in gates_of(token_groups(experts.figures))))


def panel_title(experts: Experts, part: str, gate: int) -> str:
    """Name a panel: "FFN", or "FFN, gate of linear 1" where the part has two gates."""
    two_gates = (part, 1) in expert_panels(experts)
    return _PARTS.get(part, part) + (f", gate of linear {gate + 1}" if two_gates else "")


@drawn
def expert_weights(
    experts: Experts, part: str, gate: int = 0, *, titles: bool = True, narrow: bool = False
) -> "Figure":
    """Draw the mean weight of each expert for each group of tokens: a row for a group, a block for a layer.

    Tasks that every gate treats alike are one row. The stronger the colour, the larger the weight.

    Args:
        part: "attention" or "ffn".
        gate: 1 is the gate of a part's second linear map, where each has its own.
        narrow: as wide as a phone; the name of a row stands above it.

    Example:
        >>> from uniperceiver.figures import Experts, GateFigures, expert_weights
        >>> figures = GateFigures(
        ...     task="shapes", layer=0, part="ffn", gate=0, side="input", kind="visual", tokens=9, load=[0.5, 0.5],
        ...     weight=[0.7, 0.3], drop_rate=0.0, unserved=0.0, entropy=0.6, top1=0.7,
        ... )
        >>> experts = Experts(condition="token", experts=2, k=2, figures=[figures])
        >>> [label.get_text() for label in expert_weights(experts, "ffn").axes[0].get_yticklabels()]
        ['shapes · visual']
    """
    groups = token_groups(experts.figures)
    layers = [layer for name, number, layer in gates_of(groups) if (name, number) == (part, gate)]
    names = [f"{shortened(', '.join(group.tasks), _LABEL - len(group.tokens))} · {group.tokens}" for group in groups]
    left = 2.0 if narrow else LETTER * max(map(len, names), default=0) + 26
    width, narrowest = (_NARROW_WIDTH, _NARROWEST_ON_A_PHONE) if narrow else (_WIDTH, _NARROWEST)
    free = (width - left - 2 - _GAP * (len(layers) - 1)) / (len(layers) * experts.experts)
    cell = min(max(free, narrowest), _WIDEST)
    block = cell * experts.experts + _GAP
    tops = _tops(groups, above=_NAME if narrow else 0)
    right, bottom = block * len(layers) - _GAP, tops[-1] + _ROW if tops else _ROW
    box = Box(width=left + right + 6, height=bottom + 40, left=left, right=6, top=36, bottom=4)
    figure, (axes,) = grid([panel_title(experts, part, gate) if titles else ""], box, columns=1)
    axes.set(xlim=(0, right), ylim=(bottom, 0))
    axes.set_yticks([] if narrow else [top + _MARK / 2 for top in tops], [] if narrow else names)
    axes.set_xticks([])
    axes.tick_params(axis="y", labelsize=11.5)
    digits = len(str(experts.experts - 1))
    every = next((step for step in (1, 2, 4, 8) if step * cell >= digits * _DIGIT), experts.experts)
    for place, layer in enumerate(layers):
        middle = place * block + (block - _GAP) / 2
        name = f"layer {layer}" if block >= 59 else str(layer)
        axes.text(middle, -22, name, ha="center", va="baseline", fontsize=11.5, color=LIGHT.ink)
        for expert in range(0, experts.experts, every):
            x = place * block + (expert + 0.5) * cell
            axes.text(x, -6, str(expert), ha="center", va="baseline", fontsize=9.5, color=LIGHT.faint)
    for group, name, top in zip(groups, names, tops, strict=True):
        if narrow:
            axes.text(0, top - 3, name, ha="left", va="baseline", fontsize=11, color=LIGHT.ink)
        _draw_row(axes, group, [(part, gate, layer) for layer in layers], top, cell, block)
    return figure


def _tops(groups: Sequence[TokenGroup], above: float) -> list[float]:
    """Where the rows begin, with room above each and a break between kinds of tokens."""
    tops: list[float] = []
    for place, group in enumerate(groups):
        before = groups[place - 1] if place else group
        new_kind = (before.side, before.kind) != (group.side, group.kind)
        tops.append((tops[-1] + _ROW if tops else 0.0) + above + _BREAK * new_kind)
    return tops


def _draw_row(axes: "Axes", group: TokenGroup, gates: Sequence[Gate], top: float, cell: float, block: float) -> None:
    """What the gates chose for a group: in the block of each a mark for every expert with a weight."""
    from matplotlib.collections import PolyCollection

    grounds, marks, colours, texts = [], [], [], []
    tone = TOKEN_TONES.get(group.tokens)
    shade = LIGHT.soft if tone is None else LIGHT.tones[tone]
    for place, gate in enumerate(gates):
        figures = group.by_gate.get(gate)
        if figures is None:
            continue
        left = place * block
        grounds.append(_square(left, left + block - _GAP, top))
        texts.append(in_words(group, figures))
        for expert, weight in enumerate(figures.weight):
            if weight > 0:
                marks.append(_square(left + expert * cell + 0.5, left + (expert + 1) * cell - 0.5, top))
                colours.append(clear_of(shade, opacity_of(weight)))
    style: dict[str, Any] = {"linewidths": 0, "clip_on": False}
    axes.add_collection(PolyCollection(grounds, facecolors=LIGHT.sunk, **style), autolim=False)
    axes.add_collection(PolyCollection(marks, facecolors=colours, **style), autolim=False)
    tip(axes.add_collection(PolyCollection(grounds, facecolors="none", **style), autolim=False), texts)


def _square(left: float, right: float, top: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, top + _MARK), (left, top + _MARK)]


def in_words(group: TokenGroup, figures: GateFigures) -> str:
    """Tell what a gate chose for a group of tokens in words."""
    order = sorted(range(len(figures.weight)), key=lambda expert: -figures.weight[expert])
    named = [expert for expert in order if figures.weight[expert] > 0][:_NAMED]
    experts = ", ".join(
        f"expert {expert}: weight {figures.weight[expert]:.2f}, "
        f"{100 * figures.load[expert]:.0f}{THIN_SPACE}% of the assignments"
        for expert in named
    )
    name = f"{', '.join(group.tasks)} · {group.tokens}"
    return f"{name} · layer {figures.layer} · {experts}{''.join(_asides(figures))}"


def _asides(figures: GateFigures) -> Iterator[str]:
    yield f" · entropy {figures.entropy:.2f} nats"
    if figures.drop_rate:
        yield f" · {100 * figures.drop_rate:.1f}{THIN_SPACE}% of the assignments dropped"
    if figures.unserved:
        yield f" · {100 * figures.unserved:.1f}{THIN_SPACE}% of the tokens without an expert"


def opacity_of(weight: float) -> float:
    """Turn a weight into opacity, more than itself, so that small weights can be seen."""
    return round(float(min(max(weight, 0.0), 1.0) ** 0.7), 2)

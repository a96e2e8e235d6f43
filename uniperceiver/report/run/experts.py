"""The section of experts: which tokens go to which experts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uniperceiver.evaluation.experts import Experts, idle_gates
from uniperceiver.report.figures.gates import TOKEN_TONES, expert_panels, expert_weights, opacity_of, panel_title
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.numbers import THIN_SPACE
from uniperceiver.report.parts.token_groups import token_groups

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class ExpertsSection:
    """Holds how a model chooses its experts, in words and figures."""

    explained: str
    weights: Sequence[tuple[float, str]]  # of the legend: opacity, what it means
    kinds: Sequence[tuple[int, str]]  # of the legend: place in the palette, kind of tokens
    panels: Sequence[tuple[str, "Markup", "Markup"]]  # title, figure, the same for narrow screens
    idle: Sequence[str] = ()  # what gates do not do


def experts_section(experts: Experts | None) -> ExpertsSection | None:
    """Draw how a model chooses its experts; None for a dense model."""
    if experts is None:
        return None
    if not experts.figures:
        explained = (
            f"Routing {experts.condition}: each task has its own copy of the weights, so there is no gate, and nothing "
            "that it could show."
        )
        return ExpertsSection(explained=explained, weights=(), kinds=(), panels=())
    explained = (
        f"Routing by {experts.condition}, {experts.k} of {experts.experts} experts per token. Each row is a group of "
        f"tokens, each block a layer, each column in it an expert (0 to {experts.experts - 1}): the stronger the "
        "colour, the larger the expert's mean weight for these tokens. Rows that look alike share experts; tasks that "
        "every gate treats alike are one row. Point at a block for its figures."
    )
    even = 1 / experts.experts
    weights = {0.05: f"5{THIN_SPACE}%", even: f"{100 * even:.3g}{THIN_SPACE}% (all alike)"}
    weights |= {0.5: f"50{THIN_SPACE}%", 1.0: f"100{THIN_SPACE}%"}
    tokens = dict.fromkeys(group.tokens for group in token_groups(experts.figures))
    panels = []
    for part, gate in expert_panels(experts):
        title = panel_title(experts, part, gate)
        label = f"{title}: mean weight of each expert for each group of tokens"
        wide, narrow = (
            inline(expert_weights(experts, part, gate, titles=False, narrow=on_a_phone), label)
            for on_a_phone in (False, True)
        )
        panels.append((title, wide, narrow))
    return ExpertsSection(
        explained=explained,
        weights=[(opacity_of(weight), text) for weight, text in sorted(weights.items())],
        kinds=[(TOKEN_TONES[kind], kind) for kind in tokens if kind in TOKEN_TONES],
        panels=panels,
        idle=idle_gates(experts),
    )

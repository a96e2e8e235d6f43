"""Upcycling: a dense model becomes one with experts, each a copy of the dense linear or FFN (Komatsuzaki et al., 2023).

Weights that add up to 1 make of equal experts the dense linear again, so nothing changes at first.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from uniperceiver.errors import UserError
from uniperceiver.model.weights import first_misfit
from uniperceiver.moe.conditions import condition_of
from uniperceiver.moe.settings import MoE

_EXPERT = re.compile(r"\.experts\.\d+(?=\.)")
_GATES = ".router."


def refuse_other_outputs(settings: MoE) -> None:
    """Refuse settings whose weights of a token do not add up to 1: copies would not be the dense model.

    Raises:
        UserError: the line says which, and what to write instead.
    """
    condition = condition_of(settings.condition)
    if condition.experts_choose:
        raise UserError(
            f"model.start: a dense model cannot begin with moe.condition={settings.condition}: how many experts take a "
            "token is left open, so its weights do not add up to 1; use moe.condition=token"
        )
    if condition.gated and settings.k == 1:
        raise UserError(
            "model.start: a dense model cannot begin with moe.k=1: its linears would be multiplied by the probability "
            "of the only expert, about 1 / experts; use moe.k=2"
        )
    if condition.gated and not settings.renormalise:
        raise UserError(
            "model.start: a dense model cannot begin with moe.renormalise=false: the weights of its copies would add "
            "up to less than 1; leave the key out"
        )


def dense_name(name: str) -> str:
    """The tensor of a dense model that a tensor of an expert is a copy of; other names stay as they are."""
    return _EXPERT.sub("", name)


@torch.no_grad()
def upcycled(
    fresh: Mapping[str, Tensor], dense: Mapping[str, Tensor], noise: float, stream: torch.Generator
) -> dict[str, Tensor]:
    """A dense model's weights in the form of a model with experts, whose gates stay as they are in `fresh`.

    Args:
        fresh: the state of the model with experts.
        dense: the state of a dense model, of the same size.
        noise: standard deviation of what is added to each expert's matrix, relative to the matrix's own; drawn from
            `stream`, for each expert anew.

    Raises:
        UserError: the two are of different sizes.
    """
    copied = {name: dense_name(name) for name in fresh if _GATES not in name}
    misfit = first_misfit({source: fresh[name] for name, source in copied.items()}, dense)
    if misfit is not None:
        raise UserError(f"model.start: its weights do not fit the recipe's model: {misfit.name!r} differs")
    weights = dict(fresh)
    for name, source in copied.items():
        weights[name] = dense[source].clone()
        if noise and source != name and weights[name].ndim == 2:
            drawn = torch.randn(weights[name].shape, generator=stream)
            weights[name] += noise * weights[name].std() * drawn
    return weights

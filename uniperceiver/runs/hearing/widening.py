"""A run whose tasks need tokens of a kind that its start does not know, such as sounds: what is added to its model.

All that was there stays, and answers as before: the codes of routing have more entries, which are 0 on all sequences
without such tokens.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from uniperceiver.config import Recipe, SoundConfig
from uniperceiver.errors import UserError, listed
from uniperceiver.model.architecture import Architecture
from uniperceiver.serving.saved import SavedModel


def widened(recipe: Recipe, start: Architecture, asked: Architecture, of_recipe: Mapping[str, Any]) -> Architecture:
    """The architecture of a start, with what the recipe's tasks need beside it.

    Args:
        of_recipe: fields that are as the recipe asks.

    Raises:
        UserError: the start hears otherwise than the recipe asks for.
    """
    if start.sound is not None and asked.sound is not None and recipe.model.sound != SoundConfig():
        measured = dataclasses.replace(asked.sound, mean=start.sound.mean, deviation=start.sound.deviation)
        if measured != start.sound:
            own = ", ".join(f"{name} {getattr(start.sound, name)}" for name in ("rate", "kind", "mels", "patch"))
            raise UserError(
                f"model.start {recipe.model.start}: its model hears with {own}, and the recipe asks for another way; "
                "remove model.sound"
            )
    regions, changes = start.regions, dict(of_recipe)
    if regions is not None and asked.regions is not None:
        regions = dataclasses.replace(regions, queries=asked.regions.queries, tokens=asked.regions.tokens)
    if asked.moe is not None and start.moe is not None:
        kinds = tuple(dict.fromkeys((*start.moe.kinds, *asked.moe.kinds)))
        changes["moe"] = dataclasses.replace(asked.moe, kinds=kinds)
    return dataclasses.replace(
        start,
        regions=regions,
        sound=start.sound or asked.sound,
        tokenizers=tuple(dict.fromkeys((*start.tokenizers, *asked.tokenizers))),
        **changes,
    )


def added_note(recipe: Recipe, arch: Architecture, start: SavedModel | None) -> Iterator[str]:
    """A line where a start does not know tokens of some kind."""
    added = [] if start is None else _added(arch, start.arch)
    if added:
        yield (
            f"model.start {recipe.model.start}: its model has no tokenizer for {listed(added, 4)}, whose weights are "
            "newly drawn; all others are the start's"
        )


def with_added(
    drawn: Mapping[str, Tensor], weights: Mapping[str, Tensor], arch: Architecture, start: Architecture
) -> dict[str, Tensor]:
    """The weights of a start with what a freshly drawn model has beside them, for tokens that it does not know."""
    fitting, added = dict(weights), _added(arch, start)
    if added:
        names = ("temperatures.", *(f"tokenizer.{tokenizer}." for tokenizer in added))
        fitting = {name: value for name, value in drawn.items() if name.startswith(names)} | fitting
    if arch.moe is None or start.moe is None or arch.moe.kinds == start.moe.kinds:
        return fitting
    for name, wide in drawn.items():
        if name.endswith((".embed.weight", ".embed.table")) and wide.shape != fitting[name].shape:
            axis = 1 if name.endswith(".weight") else 0
            entries = fitting[name].shape[axis]
            rest = wide.narrow(axis, entries, wide.shape[axis] - entries)
            fitting[name] = torch.cat([fitting[name].to(wide), rest], dim=axis)
    return fitting


def _added(arch: Architecture, start: Architecture) -> list[str]:
    return [name for name in arch.tokenizers if name not in start.tokenizers]

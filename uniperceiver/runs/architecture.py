"""RECIPE -> ARCHITECTURE: what the `model` and `moe` sections ask for, resolved for the tasks of the run."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from uniperceiver.config import ModelConfig, MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.sizes import SIZES
from uniperceiver.moe.conditions import condition_of
from uniperceiver.moe.settings import KINDS, MoE, check
from uniperceiver.runs.checks import check_experts


def architecture(
    config: ModelConfig,
    moe: MoEConfig,
    *,
    tasks: int,
    vocabulary: int,
    end: int,
    answer: int,
    kinds: Iterable[str] = (),
) -> Architecture:
    """The architecture that a recipe's `model` and `moe` sections ask for.

    Args:
        tasks: how many tasks the run has.
        kinds: what its tokens may be; visual and text ones are always possible.

    Raises:
        UserError: the width cannot be split into the heads; settings of the experts that contradict each other.
    """
    size = SIZES[config.size]
    width, heads = config.width or size.width, config.heads or size.heads
    if width % heads or width % 4:
        raise UserError(f"model.width {width} must be a multiple of 4 and of model.heads {heads}")
    settings = moe_of(config, moe, tasks)
    return Architecture(
        width=width,
        layers=config.layers or size.layers,
        heads=heads,
        ffn=4 * width,
        patch=config.patch or size.patch,
        patch_frames=config.patch_frames,
        vocabulary=vocabulary,
        end=end,
        answer=answer,
        max_text=config.max_text,
        max_frames=config.max_frames,
        layer_scale=config.layer_scale,
        drop_path=config.drop_path,
        frame_offset=config.frame_offset,
        moe=settings and dataclasses.replace(settings, kinds=tuple(dict.fromkeys((*KINDS, *kinds)))),
    )


def moe_of(config: ModelConfig, moe: MoEConfig, tasks: int) -> MoE | None:
    """The experts that a recipe asks for; None for a dense model.

    Raises:
        UserError: as `experts`.
    """
    if moe.condition == "shared":
        return None
    return experts(moe, config.layers or SIZES[config.size].layers, tasks)


def experts(config: MoEConfig, layers: int, tasks: int) -> MoE:
    """The `moe` section, resolved for a model of that many layers and a run of that many tasks.

    Raises:
        UserError: an unknown condition, a layer that is not there, settings that contradict each other.
    """
    condition = condition_of(config.condition)
    chosen = list(range(0, layers, config.layers)) if isinstance(config.layers, int) else sorted(set(config.layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= layers:
        raise UserError(f"moe.layers {config.layers}: the model's layers are 0 to {layers - 1}; name some of them")
    check_experts(config)
    gates: Literal[1, 2] = 1 if config.gates == "half_block" else 2
    return check(
        MoE(
            condition=config.condition,
            layout=config.layout,
            experts=config.experts if condition.gated else tasks,
            k=config.k if condition.gated else 1,
            attention_layers=() if config.where == "ffn" else tuple(chosen),
            ffn_layers=() if config.where == "attention" else tuple(chosen),
            level=config.level,
            attention_gates=gates,
            ffn_gates=gates,
            noise=config.noise,
            renormalise=condition.gated and (config.k > 1 if config.renormalise is None else config.renormalise),
            training_capacity=None if config.capacity is None else config.capacity.training,
            evaluation_capacity=None if config.capacity is None else config.capacity.evaluation,
            selection_bias=config.balance.bias_rate > 0,
            tasks=tasks,
        )
    )

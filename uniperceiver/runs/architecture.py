"""RECIPE -> ARCHITECTURE: what the `model` and `moe` sections ask for, resolved for the tasks of the run."""

from collections.abc import Iterator
from typing import Literal

from uniperceiver.config import BalanceConfig, ModelConfig, MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.sizes import SIZES
from uniperceiver.moe.balance import LOSSES
from uniperceiver.moe.conditions import Condition, condition_of
from uniperceiver.moe.settings import MoE, check


def architecture(
    config: ModelConfig, moe: MoEConfig, *, tasks: int, vocabulary: int, end: int, answer: int
) -> Architecture:
    """The architecture that a recipe's `model` and `moe` sections ask for.

    Args:
        tasks: how many tasks the run has.

    Raises:
        UserError: the width cannot be split into the heads; settings of the experts that contradict each other.
    """
    size = SIZES[config.size]
    width, heads = config.width or size.width, config.heads or size.heads
    if width % heads or width % 4:
        raise UserError(f"model.width {width} must be a multiple of 4 and of model.heads {heads}")
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
        moe=moe_of(config, moe, tasks),
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
    for wrong in (*_wrong_for_segments(config, condition), *_wrong_for_values(config, condition)):
        raise UserError(wrong)
    if config.level == "ffn" and config.gates == "linear":
        raise UserError("moe.gates linear: a whole FFN is chosen by one gate; remove the key, or use moe.level=linear")
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


def _wrong_for_segments(config: MoEConfig, condition: Condition) -> Iterator[str]:
    """What has no meaning where a gate decides for whole segments."""
    if condition.by_token:
        return
    why = f"moe.condition={config.condition} decides for whole segments, whatever their tokens are"
    if config.capacity is not None:
        yield f"moe.capacity: {why}, so no expert is ever full; remove the key, or use moe.condition=token"
    usual = BalanceConfig()
    for name in (*LOSSES, "global_entropy", "bias_rate"):
        if getattr(config.balance, name) not in (0, getattr(usual, name)):
            yield f"moe.balance.{name}: {why}, so there is nothing to balance; remove the key"


def _wrong_for_values(config: MoEConfig, condition: Condition) -> Iterator[str]:
    """What has no meaning, or no effect, where tokens are routed one by one."""
    if not condition.by_token:
        return
    balance = config.balance
    if condition.experts_choose:
        why = f"with moe.condition={config.condition} all experts take equally many tokens"
        if config.capacity is not None:
            yield f"moe.capacity: {why} already; remove the key"
        for name in ("load", "bias_rate"):
            if getattr(balance, name):
                yield f"moe.balance.{name}: {why} already; remove the key"
        if config.renormalise:
            yield f"moe.renormalise: {why}, weighed by the probabilities themselves; remove the key"
    if balance.load and not config.noise:
        yield "moe.balance.load: a load has a gradient only under noise; set moe.noise=1, or use moe.balance.importance"
    if balance.global_entropy and balance.least_experts > config.experts:
        yield (
            f"moe.balance.least_experts: {balance.least_experts:g} is more than moe.experts {config.experts}; "
            "a modality cannot use more experts than there are"
        )

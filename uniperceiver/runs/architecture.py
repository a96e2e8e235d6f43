"""RECIPE -> ARCHITECTURE: what the `model` and `moe` sections ask for, resolved for the tasks of the run."""

import dataclasses
from collections.abc import Iterable
from dataclasses import fields
from typing import Literal

from uniperceiver.config import ModelConfig, MoEConfig, RegionsConfig
from uniperceiver.data.media.sound_view import sound_shape
from uniperceiver.errors import UserError
from uniperceiver.modalities import MODALITIES
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.sizes import size_of
from uniperceiver.moe.conditions import condition_of
from uniperceiver.moe.settings import KINDS, MoE, check
from uniperceiver.runs.checks.experts import check_experts
from uniperceiver.tokenizers.join import USUAL
from uniperceiver.tokenizers.regions.library import library_shape
from uniperceiver.tokenizers.regions.shape import RegionShape

# What a recipe and a model say of experts, in one place for both ways: `experts` reads it from the left to the right,
# `expert_words` from the right to the left. Fields of one name are the same in both, but for a `renormalise` left open.
_SAME = tuple(
    field.name for field in fields(MoE) if field.name in {key.name for key in fields(MoEConfig)} - {"renormalise"}
)
_HALVES: dict[str, tuple[bool, bool]] = {"both": (True, True), "attention": (True, False), "ffn": (False, True)}
_GATES: dict[str, Literal[1, 2]] = {"half_block": 1, "linear": 2}  # of each attention or FFN
_DERIVED = frozenset(
    {"backbone", "tokens", "mask_stride", "encoder"}
)  # keys of `model.regions` with a value that depends on others
_ENCODER = 6  # layers between the maps of a library's backbone, as Deformable DETR and Mask DINO have
_SMALL = 128  # pixels of a picture in which a mask's pixel is as small as it can be
# Fields of `model` that an architecture has under the same name and with the same meaning.
_OF_MODEL = ("patch_frames", "stem", "max_text", "max_frames", "layer_scale", "drop_path", "readout", "frame_offset")


def architecture(
    config: ModelConfig,
    moe: MoEConfig,
    *,
    tasks: int,
    vocabulary: int,
    end: int,
    answer: int,
    modalities: Iterable[str] = (),
    masks: bool = False,
    name_bias: bool = False,
    pixels: int = 0,
) -> Architecture:
    """The architecture that a recipe's `model` and `moe` sections ask for.

    Args:
        tasks: how many tasks the run has.
        modalities: of its tasks' inputs and candidates; images, clips and texts are always possible.
        masks: whether a task asks for masks of things.
        name_bias: whether in a task each name is a yes or no of its own (class_term=sigmoid).
        pixels: along the side of its largest pictures.

    Raises:
        UserError: the width cannot be split into the heads; settings of the experts that contradict each other.
    """
    size = size_of(config.size)
    width, heads = config.width or size.width, config.heads or size.heads
    if width % heads or width % 4:
        raise UserError(f"model.width {width} must be a multiple of 4 and of model.heads {heads}")
    patch = config.patch or size.patch
    if config.stem == "conv" and patch & (patch - 1):
        raise UserError(
            f"model.stem=conv: halves a picture until a pixel is a patch, and model.patch {patch} is no power of 2"
        )
    settings = moe_of(config, moe, tasks)
    rows = [MODALITIES[modality] for modality in modalities]
    kinds = tuple(dict.fromkeys((*KINDS, *(row.kind for row in rows))))
    return Architecture(
        width=width,
        layers=config.layers or size.layers,
        heads=heads,
        ffn=4 * width,
        patch=patch,
        vocabulary=vocabulary,
        end=end,
        answer=answer,
        **{name: getattr(config, name) for name in _OF_MODEL},
        tokenizers=(
            *dict.fromkeys((*USUAL, *(row.tokenizer for row in rows))),
            *(("regions",) if config.image == "regions" else ()),
        ),
        regions=region_shape(config, masks=masks, name_bias=name_bias, pixels=pixels),
        sound=sound_shape(config.sound) if any(row.tokenizer == "sound" for row in rows) else None,
        moe=settings and dataclasses.replace(settings, kinds=kinds),
    )


def region_shape(config: ModelConfig, *, masks: bool, pixels: int, name_bias: bool = False) -> RegionShape | None:
    """What makes the proposals of such a model; None: it reads pictures as patches.

    Args:
        masks: whether a task asks for masks of things.
        pixels: along the side of its largest pictures.
        name_bias: whether in a task each name is a yes or no of its own.

    Raises:
        UserError: keys of `model.regions` that contradict each other, or that nothing reads.
    """
    wish = config.regions
    if config.image == "patches":
        if wish != RegionsConfig():
            raise UserError("model.regions: has no effect with model.image=patches; set model.image=regions")
        return None
    if wish.tokens is not None and wish.tokens > wish.queries:
        raise UserError(f"model.regions.tokens: {wish.tokens} is more than model.regions.queries {wish.queries}")
    name = library_name(wish)
    library = library_shape(name, wish.levels) if name else None
    usual = _ENCODER if library is not None and len(library.strides) > 1 else 0
    encoder = usual if wish.encoder is None else wish.encoder
    if wish.attention != "deformable" and not encoder and wish.points != RegionsConfig().points:
        raise UserError(
            f"model.regions.points: has no effect with model.regions.attention={wish.attention}; remove one of them"
        )
    return RegionShape(
        **{field.name: getattr(wish, field.name) for field in fields(RegionsConfig) if field.name not in _DERIVED},
        library=library,
        encoder=encoder,
        tokens=wish.tokens or wish.queries,
        masks=masks,
        mask_stride=wish.mask_stride or (2 if pixels <= _SMALL else 4),
        name_bias=name_bias,
    )


def region_words(shape: RegionShape, instead_of: RegionShape | None = None) -> dict[str, object]:
    """What a recipe says to get these proposals instead of others, by key; a backbone of a library is left out.

    Args:
        instead_of: None: those of a recipe without `model.regions`.
    """
    usual = {name: value for name, value in vars(RegionsConfig()).items() if name != "backbone"}
    others = usual | {"tokens": usual["queries"], "encoder": 0} if instead_of is None else vars(instead_of)
    return {f"model.regions.{key}": value for key in usual if (value := getattr(shape, key)) != others[key]}


def library_name(wish: RegionsConfig) -> str | None:
    """What a recipe's backbone is called in the library transformers; None: it is a plain one.

    Raises:
        UserError: it is neither.
    """
    source, _, name = wish.backbone.partition(":")
    if wish.backbone != "plain" and (source != "transformers" or not name):
        raise UserError(f"model.regions.backbone: {wish.backbone!r} is unknown; write plain, or transformers:NAME")
    return name or None


def moe_of(config: ModelConfig, moe: MoEConfig, tasks: int) -> MoE | None:
    """The experts that a recipe asks for; None for a dense model.

    Raises:
        UserError: as `experts`.
    """
    if moe.condition == "shared":
        return None
    return experts(moe, config.layers or size_of(config.size).layers, tasks)


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
    same = {name: getattr(config, name) for name in _SAME}
    if not condition.gated:
        same |= {"experts": tasks, "k": 1}
    in_attention, in_ffn = _HALVES[config.where]
    return check(
        MoE(
            **same,
            attention_layers=tuple(chosen) if in_attention else (),
            ffn_layers=tuple(chosen) if in_ffn else (),
            attention_gates=_GATES[config.gates],
            ffn_gates=_GATES[config.gates],
            renormalise=condition.gated and (config.k > 1 if config.renormalise is None else config.renormalise),
            training_capacity=None if config.capacity is None else config.capacity.training,
            evaluation_capacity=None if config.capacity is None else config.capacity.evaluation,
            selection_bias=config.balance.bias_rate > 0,
            tasks=tasks,
        )
    )


def expert_words(moe: MoE, instead_of: MoE) -> dict[str, object]:
    """What a recipe says to get these experts instead of others, by key; empty where no recipe gets them.

    The way back from `experts`, over the same tables; what may differ (`initial_weights`) is left out, such as noise.
    """
    words, others = _words(moe), _words(instead_of)
    if None in words.values():
        return {}
    return {f"moe.{key}": value for key, value in words.items() if value != others[key]}


def _words(moe: MoE) -> dict[str, object]:
    """The keys of a recipe's `moe` section in their order; None where no word says it."""
    attention, ffn = moe.attention_layers, moe.ffn_layers
    where = next((word for word, halves in _HALVES.items() if halves == (bool(attention), bool(ffn))), None)
    gates = next((word for word, number in _GATES.items() if number == moe.attention_gates == moe.ffn_gates), None)
    words = {name: getattr(moe, name) for name in _SAME} | {
        "where": None if where == "both" and attention != ffn else where,
        "layers": str(list(attention or ffn)).replace(" ", ""),
        "gates": gates,
        "renormalise": str(moe.renormalise).lower(),
    }
    ordered = {
        field.name: words[field.name]
        for field in fields(MoEConfig)
        if field.name in words.keys() - {"noise", "group", "serve_answer"}
    }
    return ordered | {"balance.bias_rate": 0.001 if moe.selection_bias else 0}

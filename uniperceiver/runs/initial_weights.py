"""MODEL.START -> FIRST WEIGHTS: a run begins with another model's weights; its dense linears may become experts."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from uniperceiver.config import MoEConfig, Recipe
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.model.sizes import SIZES, ModelSize
from uniperceiver.model.upcycle import refuse_other_outputs, upcycled
from uniperceiver.model.weights import first_misfit
from uniperceiver.moe.settings import MoE
from uniperceiver.own_code import OwnCode, refuse_unknown
from uniperceiver.runs.architecture import expert_words, experts, library_name, region_words
from uniperceiver.runs.hearing.widening import widened, with_added
from uniperceiver.runs.steps import load_saved
from uniperceiver.runs.tuning import tuned_architecture
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.base_model import Base, base_at
from uniperceiver.serving.saved import SavedModel
from uniperceiver.serving.task_choice import refuse_other_classes
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers import bpe
from uniperceiver.tokenizers.regions.decoder import OF_QUERIES
from uniperceiver.tokenizers.regions.library import LibraryBackbone, load_library_weights
from uniperceiver.tokenizers.regions.shape import RegionShape
from uniperceiver.training.checkpoint import list_checkpoints

_SIZE = ("width", "layers", "heads", "patch")
_MUST_FIT = (*_SIZE, "patch_frames", "stem", "max_text", "max_frames", "readout")
_OF_RECIPE = ("moe", "drop_path", "frame_offset")  # what training may change without touching a weight
_MAY_DIFFER = frozenset(
    {"noise", "training_capacity", "evaluation_capacity", "tasks", "group", "serve_answer", "kinds"}
)


def read_start(recipe: Recipe, base: Path, folder: Path) -> SavedModel | None:
    """The model that a new run begins with; None where the recipe names none, or the run has a checkpoint already.

    A path starts at `base`, or else where the command is given.

    Raises:
        UserError: there is no such model; another vocabulary than its own is asked for; noise without copies.
    """
    start = recipe.model.start
    if start is None:
        if recipe.model.start_step is not None:
            raise UserError("model.start_step: has no meaning without model.start; remove the key, or name a run")
        if recipe.moe.copy_noise and recipe.moe.begin == "apart":
            raise UserError(
                "moe.copy_noise: without model.start nothing is copied; remove the key, name a model, or set "
                "moe.begin=equal"
            )
        return None
    if recipe.moe.begin == "equal":
        raise UserError("moe.begin=equal: model.start gives the first weights; remove one of the two keys")
    if list_checkpoints(folder / "checkpoints") and (folder / "model" / "config.json").is_file():
        return None
    try:
        saved = load_saved(place_of_start(start, base), recipe.model.start_step)
    except UserError as error:
        raise UserError(f"model.start: {error}") from None
    vocabulary = recipe.model.vocabulary
    if isinstance(vocabulary, str) and bpe.from_file(base / vocabulary) != saved.codec:
        raise UserError(
            f"model.vocabulary: {vocabulary} is not the vocabulary of model.start {start}; leave the key out: a run "
            "reads and writes with the vocabulary of its start"
        )
    return saved


def base_to_keep(recipe: Recipe, base: Path, folder: Path, start: SavedModel | None) -> Base | None:
    """The model beside which the run saves what it tunes; None where it saves all weights.

    Of a start that lies beside another model itself, that one: the same parameters are tuned again.
    """
    if recipe.tune.method != "prompt" or recipe.model.start is None:
        return None
    if start is None:  # the run goes on
        return saved_files.read_base(folder / "model")
    step = recipe.model.start_step
    if step is not None and start.base is None:
        raise UserError(
            "model.start_step: prompts are saved beside the model they are tuned on, and a checkpoint is none; save it "
            f"first, uniperceiver.load({recipe.model.start!r}, step={step!r}).save_pretrained(FOLDER)"
        )
    return start.base or base_at(place_of_start(recipe.model.start, base))


def code_of_start(recipe: Recipe, folder: Path, start: SavedModel | None) -> tuple[OwnCode, ...]:
    """The Python files that the start needs, or that the run in the folder needs beside those of its recipe.

    Raises:
        UserError: nobody has trusted them in this process.
    """
    if start is not None:
        return start.code
    if recipe.model.start is None or not (folder / "model" / "config.json").is_file():
        return ()
    named = {Path(file).name for file in recipe.imports}  # as they are now, which may not be as they were
    codes = [code for code in saved_files.read_own_code(folder / "model") if code.name not in named]
    refuse_unknown(codes)
    return tuple(codes)


def place_of_start(start: str, base: Path) -> str | Path:
    """Where a model that a recipe names lies: from the recipe's folder, or else where the command is given."""
    near = base / Path(start).expanduser()
    return near if near.exists() else start


def architecture_of_run(
    recipe: Recipe, tasks: Sequence[TaskData], asked: Architecture, start: SavedModel | None, folder: Path
) -> Architecture:
    """Settle the architecture of the run: what the recipe asks for, and the rest as `model.start` has it.

    Args:
        asked: what the recipe asks for.

    Raises:
        UserError: the start is of another size, its experts are others, or it has parameters for other classes.
    """
    if recipe.model.start is None:
        return asked
    if start is None:  # the run goes on
        return saved_files.read_architecture(folder / "model")
    for data in tasks:
        refuse_other_classes(start, data.task)
    if recipe.tune.method is not None:
        return tuned_architecture(recipe, tasks, start)
    where = f"model.start {recipe.model.start}"
    if start.arch.merged is not None:
        raise UserError(f"{where}: is merged, its experts are gone; begin with the model that it was merged from")
    _check_size(recipe, asked, start.arch, where)
    _check_regions(recipe, asked.regions, start.arch.regions, where)
    _check_experts(recipe, asked, start, where)
    return widened(recipe, start.arch, asked, {name: getattr(asked, name) for name in _OF_RECIPE})


def queries_note(recipe: Recipe, arch: Architecture, start: SavedModel | None) -> Iterator[str]:
    """A line where a run has another number of queries than its start, whose vectors are cut, or new ones drawn."""
    before = None if start is None else start.arch.regions
    if before is None or arch.regions is None or before.queries == arch.regions.queries:
        return
    old, new = before.queries, arch.regions.queries
    what = f"the first {new} keep their vectors" if new < old else f"the last {new - old} have newly drawn vectors"
    yield (
        f"model.start {recipe.model.start}: its model has {old} queries, the run {new}, so {what}; "
        f"model.regions.queries={old} keeps them all"
    )


def _with_queries(drawn: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose vectors of queries are as many as those of a freshly drawn model: the first are kept."""
    fitting = dict(weights)
    for name, drawn_QD in drawn.items():
        if name.endswith(OF_QUERIES) and name in weights and weights[name].shape != drawn_QD.shape:
            kept = min(len(drawn_QD), len(weights[name]))
            fitting[name] = torch.cat([weights[name][:kept].to(drawn_QD), drawn_QD[kept:]])
    return fitting


def load_start(model: Generalist, recipe: Recipe, arch: Architecture, start: SavedModel | None) -> None:
    """Give a freshly drawn model the weights of its start, if there is one."""
    if start is None:
        return
    weights: Mapping[str, Tensor] = start.model.state_dict()
    if start.arch.regions is not None:
        weights = _with_queries(model.state_dict(), weights)
    weights = with_added(model.state_dict(), weights, arch, start.arch)
    if start.arch.moe is None and arch.moe is not None:
        weights = _copied(model, weights, recipe)
    if recipe.tune.method == "prompt":
        prompts = {name: value for name, value in model.state_dict().items() if name.startswith("prompts.")}
        weights = {**prompts, **weights}
    misfit = first_misfit(model.state_dict(), weights)
    if misfit is not None:
        raise UserError(f"model.start {recipe.model.start}: its {misfit.name!r} does not fit the recipe's model")
    model.load_state_dict(weights)


def load_backbone(model: Generalist, recipe: Recipe) -> None:
    """Give the backbone of a freshly drawn model the weights that were published under its name, if it has one.

    Raises:
        UserError: they cannot be had.
    """
    name = library_name(recipe.model.regions)
    if recipe.model.image == "regions" and name is not None:
        backbone = model.get_submodule("tokenizer.regions.backbone")
        assert isinstance(backbone, LibraryBackbone)
        load_library_weights(backbone, name)


def begin_equal(model: Generalist, recipe: Recipe, arch: Architecture) -> None:
    """Let the experts of a freshly drawn model begin as copies of the linears of the dense model of the same seed."""
    if recipe.moe.begin == "equal" and arch.moe is not None:
        dense = build(
            dataclasses.replace(arch, moe=None), tuple(model.temperatures), torch_stream(recipe.seed, "weights")
        )
        model.load_state_dict(_copied(model, dense.state_dict(), recipe))


def _copied(model: Generalist, dense: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    return upcycled(model.state_dict(), dense, recipe.moe.copy_noise, torch_stream(recipe.seed, "upcycling"))


def _check_size(recipe: Recipe, asked: Architecture, start: Architecture, where: str) -> None:
    other = [key for key in _MUST_FIT if getattr(asked, key) != getattr(start, key)]
    if not other:
        return
    sizes, asked_sizes = (", ".join(f"{key} {getattr(arch, key)}" for key in other) for arch in (start, asked))
    words = {f"model.{key}": getattr(start, key) for key in other}
    size = ModelSize(**{key: getattr(start, key) for key in _SIZE})
    name = next((name for name, usual in SIZES.items() if usual == size), None)
    if name is not None and set(other) & {*_SIZE} and all(getattr(recipe.model, key) is None for key in _SIZE):
        words = {"model.size": name, **{key: value for key, value in words.items() if key[6:] not in _SIZE}}
    raise UserError(
        f"{where}: its weights are for {sizes}, the recipe asks for {asked_sizes}; write {_as_words(words)}"
    )


def _check_regions(recipe: Recipe, asked: RegionShape | None, start: RegionShape | None, where: str) -> None:
    """Proposals are made as the start makes them, but for how many; masks that no task asks for stay as they are."""
    if start is None or asked is None:
        if start is not asked:
            words: dict[str, object] = (
                {"model.image": "patches"} if start is None else {"model.image": "regions", **region_words(start)}
            )
            reads, asks = ("patches", "regions") if start is None else ("regions", "patches")
            raise UserError(
                f"{where}: its model reads pictures as {reads}, the recipe asks for {asks}; write {_as_words(words)}"
            )
        return
    if asked.masks and not start.masks:
        raise UserError(
            f"{where}: its model makes no masks; begin with one that was trained with a task of kind "
            "instance_segmentation, or leave such tasks out"
        )
    if asked.name_bias and not start.name_bias:
        raise UserError(
            f"{where}: its model has no bias of names, which class_term=sigmoid needs; begin with one that was trained "
            "with that, or write class_term: softmax"
        )
    stride = recipe.model.regions.mask_stride or start.mask_stride
    if asked.library != start.library:
        raise UserError(f"{where}: its model has another backbone; name that in model.regions.backbone")
    encoder = start.encoder if recipe.model.regions.encoder is None else asked.encoder
    of_start = dataclasses.replace(
        asked,
        masks=start.masks,
        mask_stride=stride,
        encoder=encoder,
        queries=start.queries,
        tokens=start.tokens,
    )
    words = region_words(start, of_start)
    if words:
        there = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in words.items())
        raise UserError(f"{where}: its model makes proposals with {there}; write {_as_words(words)}")


def _check_experts(recipe: Recipe, asked: Architecture, start: SavedModel, where: str) -> None:
    asked_moe, start_moe = asked.moe, start.arch.moe
    if start_moe is None:
        if asked_moe is not None:
            refuse_other_outputs(asked_moe)
        elif recipe.moe.copy_noise:
            raise UserError("moe.copy_noise: a dense model has no copies; remove the key, or set moe.condition")
        return
    if asked_moe is None:
        default = experts(MoEConfig(condition=start_moe.condition), asked.layers, len(recipe.tasks))
        words = {"moe.condition": start_moe.condition, **expert_words(start_moe, default)}
        raise UserError(f"{where}: its model has experts, the recipe asks for none; write {_as_words(words)}")
    if recipe.moe.copy_noise:
        raise UserError(f"moe.copy_noise: {where} has experts of its own, so nothing is copied; remove the key")
    if asked_moe.condition == start_moe.condition and start.arch.needs_task and list(start.tasks) != list(recipe.tasks):
        raise UserError(
            f"{where}: its experts were chosen by task, for {', '.join(start.tasks)}; the recipe must have these tasks "
            f"in this order, found {', '.join(recipe.tasks)}"
        )
    _check_same_experts(asked_moe, start_moe, where)


def _check_same_experts(asked: MoE, start: MoE, where: str) -> None:
    names = [field.name for field in dataclasses.fields(MoE) if field.name not in _MAY_DIFFER]
    other = next((name for name in names if getattr(asked, name) != getattr(start, name)), None)
    if other is None:
        return
    words = expert_words(start, asked)
    mend = f"write {_as_words(words)}" if words else "begin with another model: no recipe asks for these experts"
    values = f"{other} {getattr(start, other)}, the recipe asks for {getattr(asked, other)}"
    raise UserError(f"{where}: its experts have {values}; {mend}")


def _as_words(values: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())

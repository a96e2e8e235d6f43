"""MODEL + DATA -> TUNED MODEL: the recipe of `uniperceiver tune`, what is added to the model, and what is trained."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uniperceiver import strict
from uniperceiver.config import MoEConfig, Recipe, TuneConfig, parse_recipe
from uniperceiver.data.formats.files import is_of_system, listed_suffixes, suffix_of
from uniperceiver.data.formats.subset import random_part
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError
from uniperceiver.modalities import MODALITIES
from uniperceiver.model.architecture import Architecture, PromptShape
from uniperceiver.model.model import Generalist
from uniperceiver.model.prompts import is_tuned
from uniperceiver.moe.conditions import condition_of
from uniperceiver.runs.checks.experts import check_causal
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.locate import model_folder
from uniperceiver.serving.saved import SavedModel
from uniperceiver.serving.task_choice import preprocess_for
from uniperceiver.tasks.catalogue import CATALOGUE

_RECIPES = Path(__file__).parents[1] / "recipes"
_OF_METHOD = {"prompt": _RECIPES / "tune_prompt.yaml", "full": _RECIPES / "tune_full.yaml"}
_DEFAULT_METHOD = "prompt"
_SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
# Of a folder, as a few hundred pictures are soon learnt by heart. Not mirrored: left and right may be classes.
_FEW = {"label_smoothing": 0.1, "augment": {"crop": 0.5}}
_TRAINED, _HELD_OUT = [0.0, 0.8], [0.8, 1.0]  # of pictures without a split to evaluate on


def tune_recipe(
    model: str, data: str | Path, method: str | None = None, overrides: Mapping[str, str] | None = None
) -> Recipe:
    """Make the recipe that tunes a model on data.

    Args:
        model: a run, a saved model, or OWNER/NAME on the hub.
        data: a recipe; or a folder CLASS/FILE, or SPLIT/CLASS/FILE, of pictures or clips. For a folder, steps and
            learning rate are those of `recipes/tune_METHOD.yaml`, and pictures are cropped at random.
        method: prompt or full; None: as the recipe says, or else prompt.
        overrides: keys of the recipe, as on the command line: {"steps": "300"}.

    Raises:
        UserError: there is no such model or data, or a key is wrong.

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> import uniperceiver  # runs/tiny is the run that `uniperceiver.train` has as its example
        >>> for name in ("cat", "dog"):
        ...     Path("pictures", name).mkdir(parents=True)
        ...     Image.new("RGB", (32, 32)).save(f"pictures/{name}/one.png")
        >>> recipe = uniperceiver.tune_recipe("runs/tiny", "pictures", overrides={"steps": "1"})
        >>> recipe.tune.method, recipe.tasks["pictures"].kind
        ('prompt', 'image_classification')
    """
    data, overrides = Path(data), overrides or {}
    start = Path(model).expanduser()
    if not data.exists():
        raise UserError(f"{data}: no such file or folder; give a recipe (YAML), or a folder of pictures: CLASS/FILE")
    if data.is_dir():
        method = overrides.get("tune.method", method) or _DEFAULT_METHOD
        values = strict.read_yaml(_OF_METHOD.get(method, _OF_METHOD[_DEFAULT_METHOD]))
        values["tasks"] = {data.resolve().name: _task_of(data, model_folder(start if start.exists() else model))}
    else:
        values = strict.read_yaml(data)
    tune, kept = _section(values, "tune", data), _section(values, "model", data)
    values["tune"] = {**tune, "method": method or tune.get("method") or _DEFAULT_METHOD}
    values["model"] = {**kept, "start": str(start.resolve()) if start.exists() else model}
    return parse_recipe(values, overrides, str(data))


def _section(values: Mapping[str, Any], name: str, where: Path) -> Mapping[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: {name} must be a mapping of keys to values, found {section!r}")
    return section


def _task_of(folder: Path, model: Path) -> dict[str, Any]:
    """A classification task on a folder, seen as the model saw its own pictures or clips."""
    root = folder.resolve()
    modality = _modality_in(root)
    kind = next(
        (task.name for task in CATALOGUE.values() if task.inputs == (modality,) and task.answer.has_labels), None
    )
    if kind is None:
        raise UserError(f"{root}: no task of the catalogue classifies a {modality} alone; give a recipe")
    preprocess = preprocess_for(saved_files.read_tasks(model), CATALOGUE[kind])
    seen = ("size", "frames", "stride") if preprocess.sound is None else ("seconds", "hop")
    sight = {name: getattr(preprocess, name) for name in (*seen, "length")}
    if preprocess.fit != "crop":  # which is what such tasks do without the key
        sight["fit"] = preprocess.fit
    few = _FEW if preprocess.sound is None else {"label_smoothing": _FEW["label_smoothing"]}
    return {"kind": kind, "batch": 32, **sight, **few, **_sources(root)}


def _sources(root: Path) -> dict[str, Any]:
    """The folder's splits; without one to evaluate on, a part of the training pictures is held out."""
    names = (path.name for path in root.iterdir() if path.is_dir())
    inside = {name for name in names if not name.startswith(".") and not is_of_system(name)}
    named = {split: next((name for name in choice if name in inside), None) for split, choice in _SPLITS.items()}
    # "train" alone among others may be a class: a picture of a train.
    if not named["train"] or not (named["val"] or named["test"] or inside == {"train"}):
        named = {"train": ""}
    sources: dict[str, Any] = {
        split: {"format": "folder", "path": str(root / name)} for split, name in named.items() if name is not None
    }
    if "val" not in sources:
        sources["val"] = {**sources["train"], "part": _HELD_OUT}
        sources["train"] = {**sources["train"], "part": _TRAINED}
    return sources


def _modality_in(root: Path) -> str:
    """The modality of the files of a folder.

    Raises:
        UserError: there are none, or of several modalities.
    """
    modality_of = listed_suffixes()
    examples: dict[str, list[str]] = {}
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith(".") and not is_of_system(name))
        for name in sorted(files) if Path(folder) != root else ():  # files beside the class folders are not taken
            if not name.startswith(".") and (modality := modality_of.get(suffix_of(name))) is not None:
                examples.setdefault(modality, []).append(str((Path(folder) / name).relative_to(root)))
    if not examples:
        raise UserError(
            f"{root}: holds no pictures or clips; expected CLASS/FILE, or train/CLASS/FILE and val/CLASS/FILE"
        )
    if len(examples) > 1:
        rare, *others = sorted(examples.items(), key=lambda item: len(item[1]))
        counts = " and ".join(f"{len(names):,} {MODALITIES[name].noun}s" for name, names in (*others, rare))
        raise UserError(
            f"{root}: holds {counts}, such as {rare[1][0]}; move the {MODALITIES[rare[0]].noun}s to another folder, "
            "or give a recipe whose sources choose with `extensions`"
        )
    return next(iter(examples))


def with_fraction(recipe: Recipe, tasks: Sequence[TaskData]) -> list[TaskData]:
    """Reduce the training sets of tasks to the share that the recipe asks for (`tune.fraction`).

    Raises:
        UserError: no sample is left of a training set.
    """
    share = recipe.tune.fraction
    reduced = []
    for data in tasks:
        sources = dict(data.sources)
        if "train" in sources:
            where = f"tasks.{data.task.name}.train: tune.fraction"
            sources["train"] = random_part(sources["train"], 0.0, share, recipe.seed, where)
        reduced.append(dataclasses.replace(data, sources=sources))
    return reduced


def tuned_architecture(recipe: Recipe, tasks: Sequence[TaskData], start: SavedModel) -> Architecture:
    """The architecture of the start, with the prompts that the recipe asks for.

    Raises:
        UserError: the start is merged, has other prompts already, chose its experts by task, makes no such proposals as
            a task reads, does not hear as a task does, or cannot be balanced.
    """
    where = f"model.start {recipe.model.start}"
    if start.arch.merged is not None:
        raise UserError(f"{where}: is merged, its experts are gone; tune the model that it was merged from")
    names = [data.task.name for data in tasks]
    if start.arch.needs_task and list(start.tasks) != names:
        raise UserError(
            f"{where}: its experts were chosen by task, for {', '.join(start.tasks)}, and a new task has none; tune "
            f"just these, in this order, found {', '.join(names)}"
        )
    _refuse_things(tasks, start, where)
    if start.arch.sound is None and (hears := next((data.task.name for data in tasks if data.task.hears), None)):
        raise UserError(
            f"{where}: task {hears!r} hears, which its model does not, and tuning adds no tokenizer; train with "
            "model.start and without tune.method"
        )
    _refuse_balance(recipe, start, where)
    if start.arch.moe is not None:
        check_causal(start.arch.moe, [data.task for data in tasks])
    arch = dataclasses.replace(start.arch, drop_path=recipe.model.drop_path, frame_offset=recipe.model.frame_offset)
    if recipe.tune.method == "full":
        return arch
    shape = _shape(recipe.tune, tasks)
    if start.arch.prompts not in (None, shape):
        raise UserError(
            f"{where}: has prompts of its own, other than those asked for; tune the model that it was made from, or "
            "all its weights with tune.method=full"
        )
    return dataclasses.replace(arch, prompts=shape)


def freeze(recipe: Recipe, model: Generalist) -> None:
    """Leave only those parameters trainable that the method tunes."""
    if recipe.tune.method == "prompt":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_tuned(name))


def trains_gates(recipe: Recipe) -> bool:
    """Whether training may change what experts tokens go to by anything but their inputs."""
    return recipe.tune.method != "prompt"


def _shape(tune: TuneConfig, tasks: Sequence[TaskData]) -> PromptShape:
    classes = len(tasks[0].task.labels)
    return PromptShape(
        vectors=tune.vectors,
        candidates=0 if tune.shared else tune.vectors,
        classes=classes if tune.head else 0,
        labels=classes if tune.labels else 0,
    )


def _refuse_things(tasks: Sequence[TaskData], start: SavedModel, where: str) -> None:
    """Refuse tasks about things, or their masks, where the start says nothing of them."""
    shape = start.arch.regions
    for data in tasks:
        if data.task.answer.reads_objects and (shape is None or shape.kinds == "global"):
            raise UserError(
                f"{where}: task {data.task.name!r} reads proposals, which its model does not make; tune one that was "
                "trained with model.image=regions"
            )
        if data.task.class_term == "sigmoid" and shape is not None and not shape.name_bias:
            raise UserError(
                f"{where}: task {data.task.name!r} has class_term=sigmoid, for which its model has no bias of names; "
                "tune one that was trained with that, or remove the key"
            )
        if data.task.masks and shape is not None and not shape.masks:
            raise UserError(
                f"{where}: task {data.task.name!r} has masks, which its model does not make; tune one that was trained "
                "with a task of kind instance_segmentation, or make this one object_detection"
            )


def _refuse_balance(recipe: Recipe, start: SavedModel, where: str) -> None:
    """Refuse balancing where there is nothing to balance."""
    balance, moe = recipe.moe.balance, start.arch.moe
    if balance == MoEConfig().balance:
        return
    if moe is None or not condition_of(moe.condition).by_token:
        raise UserError(
            f"moe.balance: {where} routes nothing token by token, so there is nothing to balance; remove it"
        )
    if balance.bias_rate and not moe.selection_bias:
        raise UserError(f"moe.balance.bias_rate: {where} has no biases for selection; use moe.balance.switch")

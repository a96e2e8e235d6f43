"""RECIPE -> TASKS AND DATA: a YAML file becomes checked settings, opened sources and a text encoder."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from uniperceiver import strict
from uniperceiver.commands.checks import check_section
from uniperceiver.config import Recipe, TaskConfig
from uniperceiver.data.sources import Source, class_names, classes_of, open_source
from uniperceiver.data.view import View
from uniperceiver.errors import UserError, nearest
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import Task
from uniperceiver.tokenizers import bpe

SPLITS = ("train", "val", "test")
_TOKENIZER_TEXTS = 200_000  # most texts per source that the tokenizer is trained on
_COUNTED_TEXTS = 5_000  # texts per source whose tokens are counted for sampling candidates
_VARIABLE = re.compile(r"\$\{(\w+)\}")
# What a resumed run's recipe may say anew; everything else decides what is computed.
_MAY_CHANGE = ("steps", "device", "threads", "data.", "evaluation.", "checkpoint.", "log.")


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task of the run with its opened sources."""

    task: Task
    index: int | None  # among the tasks of the run; None: a task that the model was not trained on
    config: TaskConfig
    sources: Mapping[str, Source]  # by split
    view: View  # at the end of training


def read_overrides(words: Sequence[str]) -> dict[str, str]:
    """The `key.sub=value` words of a command line.

    Raises:
        UserError: a word without "=".
    """
    for word in words:
        if "=" not in word:
            raise UserError(f"{word!r}: expected key=value, such as optimiser.lr=3e-4")
    return dict(word.split("=", 1) for word in words)


def read_recipe(path: str | Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """A recipe from YAML, with dotted `key=value` overrides whose values are YAML too.

    Raises:
        UserError: the file or a key is wrong.
    """
    values = strict.read_yaml(path)
    for key, text in (overrides or {}).items():
        _set(values, key.split("."), _value(text, f"{key}={text}"), f"{key}={text}")
    check_section(values, str(path))
    return strict.parse(Recipe, _expanded(values, str(path)), str(path))


def _expanded(value: Any, where: str) -> Any:
    """The value with `${NAME}` in its strings replaced by that environment variable, relative paths made absolute."""
    if isinstance(value, dict):
        return {key: _expanded(each, where) for key, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each, where) for each in value]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if not os.environ.get(name):
            raise UserError(f"{where}: {value!r} needs the environment variable {name}; set it to a folder")
        value = value.replace(f"${{{name}}}", str(Path(os.environ[name]).resolve()))
    return value


def _value(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{what}: not valid YAML ({' '.join(str(error).split())})") from None


def _set(values: dict[str, Any], key: list[str], value: Any, what: str) -> None:
    for part in key[:-1]:
        section = values.get(part, {})
        if not isinstance(section, dict):
            raise UserError(f"{what}: {part!r} is not a section of the recipe")
        values[part] = dict(section)  # a copy: the aliases of a YAML anchor are one mapping
        values = values[part]
    values[key[-1]] = value


def open_tasks(recipe: Recipe, base: Path, splits: tuple[str, ...] = SPLITS) -> list[TaskData]:
    """The recipe's tasks with their data opened; relative paths start at `base`.

    Raises:
        UserError: unknown kind, data that are not there, classes that do not match, sizes that do not fit.
    """
    return [
        _open_task(name, index, config, recipe, base, splits)
        for index, (name, config) in enumerate(recipe.tasks.items())
    ]


def _open_task(
    name: str, index: int, config: TaskConfig, recipe: Recipe, base: Path, splits: tuple[str, ...]
) -> TaskData:
    where = f"tasks.{name}"
    if config.kind not in CATALOGUE:
        raise UserError(f"{where}.kind: unknown kind {config.kind!r}; {nearest(config.kind, CATALOGUE)}")
    sources = {}
    specs = {"train": config.train, "val": config.val, "test": config.test}
    for split in splits:
        if (spec := specs[split]) is not None:
            sources[split] = open_source(spec, f"{where}.{split}", base)
    if not sources:
        raise UserError(f"{where}: has no data; give train: {{format: ..., path: ...}}")
    task = dataclasses.replace(CATALOGUE[config.kind], name=name)
    if task.candidates == "labels":
        task = dataclasses.replace(task, labels=_labels(config, sources, where))
    elif config.labels is not None:
        raise UserError(f"{where}.labels: a task of kind {config.kind!r} has no labels; remove the key")
    mixes = config.augment.mixup or config.augment.cutmix
    if mixes and (task.candidates != "labels" or task.inputs != (task.visual,)):
        raise UserError(f"{where}.augment: mixup and cutmix need pictures alone as input and labels as candidates")
    if config.template is not None:
        try:
            task = dataclasses.replace(task, template=config.template)
        except ValueError as error:
            raise UserError(f"{where}.template: {error}") from None
    view = View(
        size=config.late.size or config.size,
        frames=config.late.frames or config.frames,
        stride=config.stride,
        length=config.length,
    )
    return TaskData(task=task, index=index, config=config, sources=sources, view=view)


def _labels(config: TaskConfig, sources: Mapping[str, Source], where: str) -> tuple[tuple[str, ...], ...]:
    """The texts of every class, which must be the same classes in all splits."""
    first, *others = sources
    texts, names = classes_of(sources[first], f"{where}.{first}"), class_names(sources[first])
    for split in others:
        if class_names(sources[split]) != names:
            raise UserError(
                f"{where}.{split}: its classes {class_names(sources[split])} are not those of {first}: {names}; "
                "give every split a folder (or entry) for each class"
            )
    if config.labels is None:
        return texts
    assert names is not None
    for name in config.labels:
        if name not in names:
            raise UserError(f"{where}.labels: no class {name!r} in the data; {nearest(name, names)}")
    given = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in config.labels.items()}
    return tuple(given.get(name, default) for name, default in zip(names, texts, strict=True))


def text_encoder(recipe: Recipe, tasks: list[TaskData], base: Path) -> bpe.TextEncoder:
    """The recipe's tokenizer: an existing file, or a BPE trained on the texts of the training sources."""
    if isinstance(recipe.model.vocabulary, str):
        return bpe.from_file(base / recipe.model.vocabulary)
    texts = chain.from_iterable(_some_texts(data, _TOKENIZER_TEXTS) for data in tasks)
    return bpe.train(texts, size=recipe.model.vocabulary, lowercase=recipe.model.lowercase)


def _some_texts(data: TaskData, most: int) -> Iterator[str]:
    source = data.sources.get("train") or next(iter(data.sources.values()))
    yield from (text for texts in data.task.labels for text in texts)
    if data.task.template:
        yield data.task.template.replace("{text}", "").replace("{answer}", "")
    yield from islice(source.texts(), most)


def proposal(codec: bpe.TextEncoder, tasks: list[TaskData]) -> Tensor:
    """Weights of vocabulary entries as sampled candidates: (1 + occurrences) ** 0.75 in some of the texts."""
    counts = torch.ones(codec.size, dtype=torch.float64)
    for data in tasks:
        if data.task.candidates == "vocabulary":
            for text in _some_texts(data, _COUNTED_TEXTS):
                ids = torch.tensor(codec.encode(text), dtype=torch.int64)
                counts += torch.bincount(ids, minlength=codec.size)
    return counts**0.75


def save_recipe(recipe: Recipe, base: Path, folder: Path) -> None:
    """The resolved recipe, with the folder that its relative paths start at."""
    values = dataclasses.asdict(recipe)
    text = f"# relative paths start at: {base.resolve()}\n" + yaml.safe_dump(_plain(values), sort_keys=False)
    temporary = folder / "recipe.yaml.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / "recipe.yaml")


def saved_recipe(folder: Path) -> tuple[Recipe, Path]:
    """The recipe of a run, and the folder that its relative paths start at.

    Raises:
        UserError: the folder holds no run.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise UserError(
            f"{folder}: not a run (it has no recipe.yaml); give the folder that train wrote, or --data RECIPE.yaml"
        )
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    base = Path(first.partition(": ")[2]) if first.startswith("# relative paths") else folder
    return strict.parse(Recipe, strict.read_yaml(path), str(path)), base


def check_same_run(recipe: Recipe, folder: Path) -> None:
    """A run is resumed with the recipe it was started with, except for what does not change what is computed."""
    if not (folder / "recipe.yaml").is_file():
        return
    before, _ = saved_recipe(folder)
    old, new = _flat(dataclasses.asdict(before)), _flat(dataclasses.asdict(recipe))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key) and not key.startswith(_MAY_CHANGE):
            raise UserError(
                f"{folder}: holds a run with {key}={old.get(key)!r}, the recipe says {new.get(key)!r}; "
                "use another --out, or the recipe of that run"
            )
    if list(before.tasks) != list(recipe.tasks):
        raise UserError(f"{folder}: holds a run with the tasks in the order {', '.join(before.tasks)}; keep that order")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML can write without tags."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value

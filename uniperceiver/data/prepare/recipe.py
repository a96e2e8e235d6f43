"""A recipe on data that were prepared: the same, but for where its samples lie."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from uniperceiver.atomic import write_text
from uniperceiver.config import Recipe
from uniperceiver.data.formats import class_names
from uniperceiver.data.formats.files import class_texts
from uniperceiver.data.prepare.sets import RecipeSet
from uniperceiver.data.prepare.shard_writer import SetPlan

_CLASSES = "classes.txt"


def prepared_recipe(
    values: Mapping[str, Any], recipe: Recipe, path: Path, sets: Sequence[tuple[RecipeSet, SetPlan]]
) -> str:
    """The YAML of a recipe on prepared sets.

    Args:
        values: the recipe as it was written, with what the command line changed.
        path: its file, whose folder relative paths start at.
    """
    tasks = {name: dict(task) for name, task in values["tasks"].items()}
    for data_set, plan in sets:
        for reader in data_set.readers:
            name = reader.data.task.name
            tasks[name][reader.split] = _source(plan, pairs=data_set.spec.get("text_pair") is not None)
            # Beside what the recipe says of the classes, what their files said of them.
            labels, names = reader.data.task.labels, class_names(reader.source)
            if names is not None and labels and labels != class_texts(names):
                tasks[name]["labels"] = {name: list(texts) for name, texts in zip(names, labels, strict=True)}
    prepared = {**values, "tasks": tasks}
    if recipe.model.start is not None or isinstance(recipe.model.vocabulary, str):
        prepared["model"] = {**values["model"], **_absolute_paths(recipe, path.parent)}
    if recipe.imports:
        files = [str((path.parent / Path(file).expanduser()).resolve()) for file in recipe.imports]
        prepared = {
            "import": files,
            **{key: value for key, value in prepared.items() if key not in ("import", "imports")},
        }
    head = "# Written by `uniperceiver data prepare`; paths start at this folder.\n"
    return head + yaml.dump(prepared, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=120)


def write_classes(out: Path, plans: Sequence[SetPlan]) -> None:
    """The class names of each set that has classes, one per line."""
    for plan in plans:
        names = class_names(plan.data.source)
        if names is not None and _fit_in_lines(names):
            write_text(out / plan.name / _CLASSES, "".join(f"{name}\n" for name in names))


def _source(plan: SetPlan, *, pairs: bool) -> dict[str, Any]:
    text = "json.captions" if plan.media else "json.text"
    source: dict[str, Any] = {"format": "webdataset", "path": plan.name, "id": "json.id", "text": text}
    if pairs and not plan.media:
        source["text_pair"] = "json.text_pair"
    names = class_names(plan.data.source)
    if names is None:
        return source
    classes = f"{plan.name}/{_CLASSES}" if _fit_in_lines(names) else list(names)
    objects = {"objects": "json.objects"} if plan.has_things else {}
    return {**source, "label": "json.label", "classes": classes, **objects}


def _fit_in_lines(names: Sequence[str]) -> bool:
    return all(name == name.strip() and "\n" not in name for name in names)


def _absolute_paths(recipe: Recipe, base: Path) -> dict[str, str]:
    """The files that the section `model` names, wherever the recipe lies."""
    named = {"start": recipe.model.start, "vocabulary": recipe.model.vocabulary}
    paths = {key: base / Path(path).expanduser() for key, path in named.items() if isinstance(path, str)}
    # What is not there is looked for where the command is given, or on the hub.
    return {key: str(path.resolve()) for key, path in paths.items() if path.exists()}


class _WithoutAliases(yaml.SafeDumper):
    """Writes a mapping that occurs twice two times."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True

"""MODEL + DATA -> RECIPE: what `uniperceiver tune` trains, from a recipe or from a folder of pictures."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uniperceiver import strict
from uniperceiver.config import Recipe, parse_recipe
from uniperceiver.data.formats.files import CLIP_SUFFIXES, IMAGE_SUFFIXES
from uniperceiver.errors import UserError
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.locate import model_folder
from uniperceiver.serving.task_choice import view_for
from uniperceiver.tasks.catalogue import CATALOGUE

_RECIPES = Path(__file__).parents[1] / "recipes"
_OF_METHOD = {"prompt": _RECIPES / "tune_prompt.yaml", "full": _RECIPES / "tune_full.yaml"}
_DEFAULT_METHOD = "prompt"
_SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
_TRAINED, _HELD_OUT = [0.0, 0.8], [0.8, 1.0]  # of pictures without a split to evaluate on


def tune_recipe(
    model: str, data: str | Path, method: str | None = None, overrides: Mapping[str, str] | None = None
) -> Recipe:
    """Make the recipe that tunes a model on data.

    Args:
        model: a run, a saved model, or OWNER/NAME on the hub.
        data: a recipe; or a folder CLASS/FILE, or SPLIT/CLASS/FILE, of pictures or clips. For a folder, steps and
            learning rate are those of `recipes/tune_METHOD.yaml`.
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
        wanted = overrides.get("tune.method", method) or _DEFAULT_METHOD
        values = strict.read_yaml(_OF_METHOD.get(wanted, _OF_METHOD[_DEFAULT_METHOD]))
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
    kind = "video_classification" if _has_clips(root) else "image_classification"
    view = view_for(saved_files.read_tasks(model), CATALOGUE[kind])
    sight = {"size": view.size, "frames": view.frames, "stride": view.stride, "length": view.length}
    return {"kind": kind, "batch": 32, **sight, **_sources(root)}


def _sources(root: Path) -> dict[str, Any]:
    """The folder's splits; without one to evaluate on, a part of the training pictures is held out."""
    inside = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    named = {split: next((name for name in names if name in inside), None) for split, names in _SPLITS.items()}
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


def _has_clips(root: Path) -> bool:
    """Whether the first picture or clip is a clip; a folder that mixes both is refused when it is opened."""
    for _, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        suffixes = [Path(name).suffix.lower().lstrip(".") for name in sorted(files) if not name.startswith(".")]
        known = [suffix for suffix in suffixes if suffix in (*IMAGE_SUFFIXES, *CLIP_SUFFIXES)]
        if known:
            return known[0] in CLIP_SUFFIXES
    raise UserError(f"{root}: holds no pictures or clips; expected CLASS/FILE, or train/CLASS/FILE and val/CLASS/FILE")

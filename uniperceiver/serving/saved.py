"""A saved model: config.json + model.safetensors + tokenizer.json + preprocess.json + README.md in one directory.

Of a model whose prompts were tuned, the tuned parameters are saved alone: tuned.safetensors instead of
model.safetensors, and in config.json the place and the SHA-256 of the model that they were tuned on.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uniperceiver import strict
from uniperceiver.atomic import whole_folder
from uniperceiver.data.view import View
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.model.prompts import is_tuned
from uniperceiver.model.weights import first_misfit, with_own_storage
from uniperceiver.serving.base import Base, base_of, to_json
from uniperceiver.serving.card import model_card
from uniperceiver.tasks.task import TEMPERATURES, Task
from uniperceiver.tokenizers import bpe

FORMAT = 1
WEIGHTS, TUNED = "model.safetensors", "tuned.safetensors"
_FILES = frozenset({"config.json", WEIGHTS, TUNED, "tokenizer.json", "preprocess.json", "README.md"})


@dataclass(frozen=True, kw_only=True)
class KnownTask:
    """A task that the model was trained on, with its preprocessing."""

    task: Task
    index: int | None  # among the tasks of the run; None for a task that was not trained
    view: View


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """Everything needed to ask a model questions."""

    model: Generalist
    arch: Architecture
    codec: bpe.TextEncoder
    tasks: Mapping[str, KnownTask]
    trained: str = ""  # one line for the model card: on what, how long
    base: Base | None = None  # the model whose prompts were tuned; None: this is a whole model


def refuse_foreign(folder: Path) -> None:
    """Refuse a file, or a folder that holds anything but a saved model: it would be lost.

    Raises:
        UserError: it does.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder that is new or of a saved model")
    others = sorted({path.name for path in folder.iterdir()} - _FILES) if folder.is_dir() else []
    if others:
        raise UserError(
            f"{folder}: holds other files, such as {others[0]}; give a folder that is new or of a saved model"
        )


def save(folder: Path, saved: SavedModel, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the directory, whole or not at all; the same model gives the same bytes.

    Args:
        weights: other weights than the model's own, such as their moving average.

    Raises:
        UserError: it could not be written; what was there is as it was.
    """
    try:
        _write(folder, saved, weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: could not be saved ({error}); repair the disk, or use another folder") from None


def _write(folder: Path, saved: SavedModel, weights: Mapping[str, Tensor] | None) -> None:
    state = saved.model.state_dict() | dict(weights or {})
    if saved.base is not None:
        state = {name: value for name, value in state.items() if is_tuned(name)}
    config = {
        "format": FORMAT,
        "architecture": dataclasses.asdict(saved.arch),
        "tokenizer": saved.codec.fingerprint(),
        "trained": saved.trained,
        "base": None if saved.base is None else to_json(saved.base, folder),
        "tasks": [dataclasses.asdict(known.task) for known in saved.tasks.values()],
    }
    views = {name: known.view.to_json() for name, known in saved.tasks.items()}
    with whole_folder(folder) as temporary:
        file = temporary / (WEIGHTS if saved.base is None else TUNED)
        save_file(with_own_storage(state), file, metadata={"format": "pt"})
        _write_json(temporary / "config.json", config)
        _write_json(temporary / "preprocess.json", views)
        saved.codec.save(temporary / "tokenizer.json")
        card = model_card(saved.arch, [known.task for known in saved.tasks.values()], saved.trained)
        (temporary / "README.md").write_text(card, encoding="utf-8")


def load(folder: Path) -> SavedModel:
    """Read a directory that `save` wrote.

    Raises:
        UserError: a file is missing, damaged, of another size, or written by a newer version; a tokenizer that does
            not belong to the weights.
    """
    try:
        return _load(folder)
    except (KeyError, TypeError) as error:  # valid JSON, but not what `save` writes
        raise UserError(f"{folder}: config.json or preprocess.json is damaged ({error!r}); copy it again") from None


def read_architecture(folder: Path) -> Architecture:
    """The architecture of a saved model, without its weights.

    Raises:
        UserError: config.json is missing, damaged, or written by a newer version.
    """
    config = _read_json(folder / "config.json")
    if "format" not in config:
        raise UserError(f"{folder / 'config.json'}: not of a model that uniperceiver saved; it has no key 'format'")
    if config["format"] > FORMAT:
        raise UserError(f"{folder}: was written by a newer version of uniperceiver; upgrade to read it")
    return strict.parse(Architecture, config.get("architecture"), f"{folder / 'config.json'}: architecture")


def read_base(folder: Path) -> Base | None:
    """The model that a saved one was tuned on; None for a whole model.

    Raises:
        UserError: config.json is missing or damaged, or that model is not there.
    """
    return base_of(_read_json(folder / "config.json").get("base"), folder)


def _load(folder: Path) -> SavedModel:
    arch = read_architecture(folder)
    config = _read_json(folder / "config.json")
    codec = bpe.load(folder / "tokenizer.json")
    if codec.fingerprint() != config["tokenizer"]:
        raise UserError(f"{folder}: tokenizer.json does not belong to these weights; restore the one saved with them")
    if arch.literal_specials != bool(codec.atoms):
        raise UserError(
            f"{folder}: config.json says literal_specials: {str(arch.literal_specials).lower()}, tokenizer.json was "
            "made otherwise; restore the one saved with these weights"
        )
    model = build(arch, TEMPERATURES)
    base = base_of(config.get("base"), folder)
    if base is None:
        _load_weights(model, folder / WEIGHTS)
    else:
        _load_weights(model, folder / TUNED, beside=load(base.folder).model.state_dict())
    views = _read_json(folder / "preprocess.json")
    tasks = {}
    for index, fields in enumerate(config["tasks"]):
        task = _task(fields, folder)
        view = strict.parse(View, views.get(task.name), f"{folder / 'preprocess.json'}: {task.name}")
        tasks[task.name] = KnownTask(task=task, index=index, view=view)
    return SavedModel(
        model=model.eval(), arch=arch, codec=codec, tasks=tasks, trained=config.get("trained", ""), base=base
    )


def _task(fields: Mapping[str, Any], folder: Path) -> Task:
    labels = tuple(tuple(texts) for texts in fields["labels"])
    try:
        return Task(**{**fields, "inputs": tuple(fields["inputs"]), "labels": labels})
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


def _load_weights(model: torch.nn.Module, path: Path, beside: Mapping[str, Tensor] | None = None) -> None:
    """Put a file's weights into the model, and those of `beside` that the file does not have."""
    try:
        weights = {**(beside or {}), **load_file(path)}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: missing, truncated or damaged ({error}); copy it again") from None
    misfit = first_misfit(model.state_dict(), weights)
    if misfit is not None and not misfit.in_both:
        raise UserError(f"{path}: does not fit config.json beside it: {misfit.name!r} is in only one of them")
    if misfit is not None:
        raise UserError(
            f"{path}: is of another size than config.json beside it: {misfit.name!r} is {misfit.saved}, "
            f"expected {misfit.ours}"
        )
    # Cloned by copying: tensors in a mapped file may lie at odd addresses, where some kernels round differently.
    model.load_state_dict(weights)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; a saved model holds config.json, model.safetensors, tokenizer.json, preprocess.json"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged or not JSON ({error}); copy it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object")
    return values


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

"""A saved model: config.json + model.safetensors + tokenizer.json + preprocess.json + README.md in one directory.

Of a model whose prompts were tuned, the tuned parameters are saved alone: tuned.safetensors instead of
model.safetensors, and in config.json the place and the SHA-256 of the model that they were tuned on.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from uniperceiver import strict
from uniperceiver.atomic import whole_folder
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import UserError, warn
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.model.official.origin import Origin, check_origin
from uniperceiver.model.prompts import is_tuned
from uniperceiver.model.weights import with_own_storage
from uniperceiver.own_code import OwnCode, execute, read_code, refuse_unknown
from uniperceiver.records.exported import EXPORT_FILE
from uniperceiver.serving.base_model import WEIGHTS, Base, base_of, to_json
from uniperceiver.serving.card import model_card
from uniperceiver.serving.files import check_fit, read_json, read_weights, write_json
from uniperceiver.tasks.task import Task, temperatures_of
from uniperceiver.tokenizers import bpe

FORMAT = 2  # the newest that is read; 2: a model that hears, which older versions would not understand
TUNED = "tuned.safetensors"
# The vocabulary, encoded with these weights (`engine/vocabulary.py`), which goes when they are replaced.
ENCODED = "vocabulary-{}.safetensors"
_FILES = frozenset({"config.json", WEIGHTS, TUNED, "tokenizer.json", "preprocess.json", "README.md"})


@dataclass(frozen=True, kw_only=True)
class KnownTask:
    """A task that the model was trained on, with its preprocessing."""

    task: Task
    index: int | None  # among the tasks of the run; None for a task that was not trained
    preprocess: Preprocess


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """Everything needed to ask a model questions."""

    model: Generalist
    arch: Architecture
    codec: bpe.TextEncoder
    tasks: Mapping[str, KnownTask]
    trained: str = ""  # one line for the model card: on what, how long
    base: Base | None = None  # the model whose prompts were tuned; None: this is a whole model
    origin: Origin | None = None  # the checkpoint of the original release that the weights come from, if they do
    code: tuple[OwnCode, ...] = ()  # Python files of somebody's own that it needs, which are saved beside it


def refuse_foreign(folder: Path) -> None:
    """Refuse a file, or a folder that holds anything but a saved model: it would be lost.

    Raises:
        UserError: it does.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder that is new or of a saved model")
    others = foreign_files(folder)
    if others:
        raise UserError(
            f"{folder}: holds other files, such as {others[0]}; give a folder that is new or of a saved model"
        )


def foreign_files(folder: Path) -> list[str]:
    """What lies in a folder beside a saved model, and would be lost when one is saved there."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    own = _code_names(folder) if "config.json" in names else {}
    return sorted(name for name in names - _FILES - own.keys() if not fnmatch(name, ENCODED.format("*")))


@contextmanager
def replacing(folder: Path, saved: SavedModel, *, replace: bool) -> Iterator[None]:
    """A time in which the model is saved: a folder with another one than an earlier writing of it is refused, or
    said to be replaced, once it is.

    Raises:
        UserError: there is one, and it is not to be replaced.
    """
    other = _other_model(folder, saved)
    if other and not replace:
        raise UserError(f"{folder}: holds {other}, which would be lost; give another folder, or --replace")
    yield
    if other:
        warn(f"{folder}: {other} was there, and is replaced")


def _other_model(folder: Path, saved: SavedModel) -> str:
    """What is in a folder that is another model; empty where there is none."""
    if not (folder / "config.json").exists():
        return ""
    try:
        there = read_json(folder / "config.json")
    except UserError:
        there = {"trained": "its config.json is damaged"}
    if there == json.loads(json.dumps(_config(folder, saved))):
        return ""
    merged = (there.get("architecture") or {}).get("merged")
    tasks = f", merged for {', '.join(merged.get('tasks', ()))}" if isinstance(merged, Mapping) else ""
    return f"another model ({there.get('trained') or 'not trained'}{tasks})"


def save(folder: Path, saved: SavedModel, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write the directory, whole or not at all; the same model gives the same bytes.

    Args:
        weights: other weights than the model's own, such as their moving average.

    Raises:
        UserError: it could not be written; what was there is as it was.
    """
    if saved.base is not None and saved.base.folder == folder.resolve():
        raise UserError(
            f"{folder}: is the model that this one was tuned on, and which it needs; give another folder, or write all "
            "weights (whole=True)"
        )
    try:
        _write(folder, saved, weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: could not be saved ({error}); repair the disk, or use another folder") from None


def _write(folder: Path, saved: SavedModel, weights: Mapping[str, Tensor] | None) -> None:
    state = saved.model.state_dict() | dict(weights or {})
    if saved.base is not None:
        state = _tuned(state)
    views = {name: trained.preprocess.to_json() for name, trained in saved.tasks.items()}
    with whole_folder(folder) as temporary:
        file = temporary / (WEIGHTS if saved.base is None else TUNED)
        save_file(with_own_storage(state), file, metadata={"format": "pt"})
        write_json(temporary / "config.json", _config(folder, saved))
        write_json(temporary / "preprocess.json", views)
        saved.codec.save(temporary / "tokenizer.json")
        for code in saved.code:
            (temporary / code.name).write_bytes(code.text.encode())
        card = model_card(
            saved.arch,
            [trained.task for trained in saved.tasks.values()],
            saved.trained,
            alone=saved.base is None,
            code=[code.name for code in saved.code],
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")


def _config(folder: Path, saved: SavedModel) -> dict[str, Any]:
    return {
        "format": 1 if saved.arch.sound is None else 2,
        "architecture": saved.arch.to_json(),
        "tokenizer": saved.codec.fingerprint(),
        "trained": saved.trained,
        "base": None if saved.base is None else to_json(saved.base, folder),
        "origin": None if saved.origin is None else dataclasses.asdict(saved.origin),
        "tasks": [trained.task.to_json() for trained in saved.tasks.values()],
    } | ({"code": {code.name: code.sha256 for code in saved.code}} if saved.code else {})


def load(folder: Path) -> SavedModel:
    """Read a directory that `save` wrote.

    Raises:
        UserError: a file is missing, damaged, of another size, or written by a newer version; a tokenizer that does
            not belong to the weights; code of its own that nobody has trusted in this process (`trust`).
    """
    try:
        return _load(folder)
    except (KeyError, TypeError) as error:  # valid JSON, but not what `save` writes
        raise _damaged(folder, error) from None


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder}: config.json or preprocess.json is damaged ({error!r}); copy it again")


def read_architecture(folder: Path) -> Architecture:
    """The architecture of a saved model, without its weights.

    Raises:
        UserError: config.json is missing, damaged, or written by a newer version; it contradicts the weights' origin.
    """
    config = read_json(folder / "config.json")
    if (folder / EXPORT_FILE).is_file():
        raise UserError(
            f"{folder}: is an export, which uniperceiver.runner.Runner answers for; give the model that it is of"
        )
    if "format" not in config:
        raise UserError(f"{folder / 'config.json'}: not of a model that uniperceiver saved; it has no key 'format'")
    if config["format"] > FORMAT:
        raise UserError(f"{folder}: was written by a newer version of uniperceiver; upgrade to read it")
    arch = strict.parse(Architecture, config.get("architecture"), f"{folder / 'config.json'}: architecture")
    check_origin(_origin(config, folder), arch, f"{folder / 'config.json'}")
    return arch


def read_tasks(folder: Path) -> dict[str, KnownTask]:
    """The tasks of a saved model, without its weights.

    Raises:
        UserError: config.json or preprocess.json is missing or damaged.
    """
    try:
        read_architecture(folder)
        refuse_unknown(read_own_code(folder))
        return _tasks(read_json(folder / "config.json")["tasks"], folder)
    except (KeyError, TypeError) as error:
        raise _damaged(folder, error) from None


def read_own_code(folder: Path) -> tuple[OwnCode, ...]:
    """Read the Python files that lie beside a saved model and that it needs; nothing is executed.

    Raises:
        UserError: a file is missing, or is another one than was saved.
    """
    names = _code_names(folder)
    codes = read_code(names, folder)
    for code in codes:
        if code.sha256 != names[code.name]:
            raise UserError(f"{folder / code.name}: is not the file that was saved with the model; copy it again")
    return codes


def trust(folder: Path) -> None:
    """Execute the Python files that a saved model needs: afterwards it can be loaded in this process.

    Raises:
        UserError: a file is missing, or raises an error.
    """
    execute(read_own_code(folder))


def _code_names(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of code, by name."""
    names = read_json(folder / "config.json").get("code") or {}
    if not isinstance(names, dict) or any(Path(name).name != name or not name.endswith(".py") for name in names):
        raise _damaged(folder, ValueError("code"))
    return names


def read_base(folder: Path) -> Base | None:
    """The model that a saved one was tuned on; None for a whole model.

    Raises:
        UserError: config.json is missing or damaged, or that model is not there.
    """
    return base_of(read_json(folder / "config.json").get("base"), folder)


def _origin(config: Mapping[str, Any], folder: Path) -> Origin | None:
    values = config.get("origin")
    return None if values is None else strict.parse(Origin, values, f"{folder / 'config.json'}: origin")


def _load(folder: Path) -> SavedModel:
    arch, own = read_architecture(folder), read_own_code(folder)
    refuse_unknown(own)
    config = read_json(folder / "config.json")
    codec = bpe.load(folder / "tokenizer.json")
    if codec.fingerprint() != config["tokenizer"]:
        raise UserError(f"{folder}: tokenizer.json does not belong to these weights; restore the one saved with them")
    if arch.literal_specials != bool(codec.atoms):
        raise UserError(
            f"{folder}: config.json says literal_specials: {str(arch.literal_specials).lower()}, tokenizer.json was "
            "made otherwise; restore the one saved with these weights"
        )
    model = build(arch, temperatures_of(arch.tokenizers))
    base = base_of(config.get("base"), folder)
    if base is not None:
        of_base = _origin(read_json(base.folder / "config.json"), base.folder)
        check_origin(of_base, arch, f"{folder / 'config.json'}")
    _load_weights(model, folder, base)
    return SavedModel(
        model=model.eval(),
        arch=arch,
        codec=codec,
        tasks=_tasks(config["tasks"], folder),
        trained=config.get("trained", ""),
        base=base,
        origin=_origin(config, folder),
        code=own,
    )


def _tasks(declarations: Iterable[Mapping[str, Any]], folder: Path) -> dict[str, KnownTask]:
    views = read_json(folder / "preprocess.json")
    tasks = {}
    for index, fields in enumerate(declarations):
        task = _task(fields, folder)
        preprocess = strict.parse(Preprocess, views.get(task.name), f"{folder / 'preprocess.json'}: {task.name}")
        tasks[task.name] = KnownTask(task=task, index=index, preprocess=preprocess)
    return tasks


def _task(fields: Mapping[str, Any], folder: Path) -> Task:
    labels = tuple(tuple(texts) for texts in fields["labels"])
    try:
        listed = ("inputs", "prompts", "evaluation_prompts")
        return Task(**{**fields, **{name: tuple(fields.get(name, ())) for name in listed}, "labels": labels})
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


def _load_weights(model: torch.nn.Module, folder: Path, base: Base | None) -> None:
    """Put the weights of a folder into the model; of a tuned one, all others are those of its base."""
    path, expected = folder / (WEIGHTS if base is None else TUNED), model.state_dict()
    weights = read_weights(path)
    check_fit(expected if base is None else _tuned(expected), weights, path)
    if base is not None:
        weights = {**read_weights(base.folder / WEIGHTS), **weights}
        check_fit(expected, weights, path)
    # Cloned by copying: tensors in a mapped file may lie at odd addresses, where some kernels round differently.
    model.load_state_dict(weights)


def _tuned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if is_tuned(name)}

"""The model that a prompt-tuned one was made from: it lies elsewhere, and is named in config.json."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.errors import UserError
from uniperceiver.serving.places import model_folder

_WEIGHTS = ("model.safetensors", "tuned.safetensors")


@dataclass(frozen=True, kw_only=True)
class Base:
    """Where the model lies, and which one it is."""

    folder: Path
    sha256: str  # of its file of weights
    hub: str | None = None  # OWNER/NAME, where it is on the hub


def base_at(path: str | Path) -> Base:
    """The model in a run, in a folder, or on the hub, as what another model is tuned on."""
    folder = model_folder(path)
    return Base(folder=folder.resolve(), sha256=_sha256(folder), hub=None if Path(path).exists() else str(path))


def to_json(base: Base, folder: Path) -> dict[str, str]:
    """What config.json in `folder` says of it; a path leads there from `folder`, so that both can be moved together."""
    path = base.hub or os.path.relpath(base.folder, folder.resolve())
    return {"model": path, "sha256": base.sha256}


def base_of(values: Mapping[str, Any] | None, folder: Path) -> Base | None:
    """The model that config.json in `folder` names; None for a whole model.

    Raises:
        UserError: it is not there, or is another one by now.
    """
    if values is None:
        return None
    near = folder.resolve() / values["model"]
    try:
        base = base_at(near if near.exists() else values["model"])
    except UserError as error:
        raise UserError(
            f"{folder}: holds tuned parameters of the model {values['model']}, which is not there ({error}); bring it "
            "back, or write in config.json where it is: base.model"
        ) from None
    if base.sha256 != values["sha256"]:
        raise UserError(
            f"{folder}: was tuned on another model than the one that is now at {base.folder}; bring that one back, or "
            "tune anew"
        )
    return base


def _sha256(folder: Path) -> str:
    path = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), folder / _WEIGHTS[0])
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); copy it again") from None

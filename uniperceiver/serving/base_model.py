"""The model that a prompt-tuned one was made from: it lies elsewhere, and is named in config.json."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver import strict
from uniperceiver.atomic import sha256_of
from uniperceiver.errors import UserError
from uniperceiver.serving.locate import may_be_on_hub, model_folder
from uniperceiver.strict import record

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Base:
    """Where the model lies, and which one it is."""

    folder: Path  # absolute; that of its config.json
    sha256: str  # of its file of weights
    hub: str | None = None  # OWNER/NAME, where it is on the hub


@record
class _Named:
    """What config.json says of it."""

    model: str
    """A path, relative to the folder of this config.json, or OWNER/NAME on the hub."""
    sha256: str
    """Of its file of weights."""


def base_at(path: str | Path) -> Base:
    """The whole model in a run, in a folder, or on the hub, as what another model is tuned on.

    Raises:
        UserError: there is no such model, or it is itself one beside another.
    """
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
    named = strict.parse(_Named, values, f"{folder / 'config.json'}: base")
    near = folder.resolve() / named.model
    try:
        base = base_at(named.model if may_be_on_hub(named.model) and not near.exists() else near)
    except UserError as error:
        raise UserError(
            f"{folder}: holds tuned parameters of the model {named.model}, which is not there ({error}); bring it "
            "back, or write in config.json where it is: base.model"
        ) from None
    if base.sha256 != named.sha256:
        raise UserError(
            f"{folder}: was tuned on another model than the one that is now at {base.folder}; bring that one back, or "
            "tune anew"
        )
    return base


def _sha256(folder: Path) -> str:
    path = folder / WEIGHTS
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); copy it again") from None

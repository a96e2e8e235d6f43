"""The files of a saved model: JSON and weights, and one line about whatever is wrong with one of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from uniperceiver.errors import UserError, refuse_pointer
from uniperceiver.model.weights import first_misfit


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped from it.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        refuse_pointer(path)
        raise UserError(f"{path}: missing, truncated or damaged ({error}); copy it again") from None


def check_fit(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are not exactly those of the model.

    Raises:
        UserError: a tensor is missing, too many, or of another size.
    """
    misfit = first_misfit(expected, weights)
    if misfit is None:
        return
    if not misfit.in_both:
        raise UserError(f"{path}: does not fit config.json beside it: {misfit.name!r} is in only one of them")
    raise UserError(
        f"{path}: is of another size than config.json beside it: {misfit.name!r} is {misfit.saved}, "
        f"expected {misfit.expected}"
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; a saved model holds config.json, model.safetensors, tokenizer.json, preprocess.json"
        ) from None
    except (OSError, ValueError) as error:
        refuse_pointer(path)
        raise UserError(f"{path}: damaged or not JSON ({error}); copy it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file for people and programs."""
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

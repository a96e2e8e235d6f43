"""One thing that a user hands over as an image, a clip or sound: told apart from many, and read as bytes or arrays."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from io import UnsupportedOperation
from typing import IO, TYPE_CHECKING, Any, TypeGuard

import numpy as np
from PIL import Image

from uniperceiver.data.media.decode import upright_rgb
from uniperceiver.errors import BrokenSample, UserError, shortened
from uniperceiver.records.sounds import Sound

if TYPE_CHECKING:
    from torch import Tensor

# A path, encoded bytes, an opened file, a PIL image, an (H, W, 3) or (3, H, W) array or tensor; clips have a leading
# frame axis; a Sound is an array with its rate.
if TYPE_CHECKING:
    Media = (
        str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray | Tensor | Sound
    )
else:
    Media = Any

_BYTES = bytes | bytearray | memoryview
_SHAPES = {3: "(H, W, 3) or (3, H, W)", 4: "(F, H, W, 3) or (F, 3, H, W)"}
_LONGEST = 60  # characters of a value in a message
_TAKEN = "give a path, bytes, an opened file, a PIL image, an array or a tensor, or a list of these"


def is_tensor(item: Any) -> TypeGuard["Tensor"]:
    """Whether it is a tensor of torch, which need not be here: nobody has a tensor who has not imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(item, torch.Tensor)


def is_array(item: Any) -> TypeGuard["np.ndarray | Tensor"]:
    """Whether it is an array of NumPy or a tensor."""
    return isinstance(item, np.ndarray) or is_tensor(item)


def is_single(item: Any) -> bool:
    """Whether it is one thing, and not many; an array is one, unless it holds texts or objects."""
    if isinstance(item, np.ndarray):
        return item.dtype.kind not in "USO"
    kinds = str | os.PathLike | Image.Image | Sound | _BYTES
    return isinstance(item, kinds) or is_tensor(item) or hasattr(item, "read")


def as_list(items: Any) -> list[Any]:
    """One thing or many as a list; a batch (an array or tensor with one axis too many) is taken apart by callers.

    Raises:
        UserError: nothing that could be an input, or many without an order.
    """
    if is_single(items):
        return [items]
    if isinstance(items, set | frozenset):
        raise UserError("inputs: a set has no order, so answers could not be told apart; give a list")
    if hasattr(items, "columns"):
        raise UserError(f"inputs: a {type(items).__name__} is a table; give one of its columns, such as table['file']")
    try:
        return items.tolist() if isinstance(items, np.ndarray) and items.ndim else list(items)
    except TypeError:
        raise UserError(f"inputs: a {type(items).__name__} is no input; {_TAKEN}") from None


def is_iterable(items: Any) -> bool:
    """Whether there are things in it: arrays and tensors of one number are iterable by their type alone."""
    return isinstance(items, Iterable) and getattr(items, "ndim", 1) != 0


def at_hand(items: Any) -> Any:
    """What was handed over; an iterator as a list, so that it can be looked at twice."""
    return list(items) if isinstance(items, Iterator) and not is_single(items) else items


def name_of(item: Any, otherwise: str) -> str:
    """What messages call it: its path, or its place among all."""
    path = item if isinstance(item, str | os.PathLike) else getattr(item, "name", "") if hasattr(item, "read") else ""
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    return "".join(letter if letter.isprintable() else "?" for letter in name) or otherwise


def shown(value: Any) -> str:
    """A value in a message: on one line, and not long."""
    return shortened(" ".join(repr(value).split()), _LONGEST)


def encoded(item: Any, name: str) -> bytes | None:
    """The bytes of a path, an opened file or of bytes themselves; None: it is none of these.

    An opened file is read from its beginning, wherever it stands.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(item, _BYTES):
        return bytes(item)
    try:
        if isinstance(item, str | os.PathLike):
            with open(item, "rb", opener=_opened_at_once) as file:
                return file.read()
        if not hasattr(item, "read") or isinstance(item, Image.Image):
            return None
        if hasattr(item, "seekable") and item.seekable():
            item.seek(0)
        data = item.read()
    except UnsupportedOperation as error:
        raise UserError(f"{name}: cannot be read ({error}); open it with mode 'rb'") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error}); give the path of a file") from None
    except ValueError as error:  # a zero byte in a path, a closed file
        raise UserError(f"{name}: cannot be read ({error}); give the path of a file") from None
    if not isinstance(data, _BYTES):
        raise UserError(f"{name}: opened as text; open it with mode 'rb'")
    return bytes(data)


def _opened_at_once(path: str, flags: int) -> int:
    """A file's descriptor; of a pipe too, which a plain `open` waits for until somebody writes into it."""
    at_once = getattr(os, "O_NONBLOCK", 0)  # 0: a system whose files have no such thing
    descriptor = os.open(path, flags | at_once)
    if at_once:
        os.set_blocking(descriptor, True)  # what is being written into it is waited for
    return descriptor


def refuse_unreadable(path: str | os.PathLike[str], name: str) -> None:
    """Refuse a file that is not there, before those in front of it are read.

    Raises:
        UserError: as `encoded`.
    """
    if not os.path.exists(path) or os.path.isdir(path):
        encoded(path, name)


def picture_pixels(image: Image.Image, name: str) -> np.ndarray:
    """The upright pixels of a PIL image, (H, W, 3) uint8.

    Raises:
        UserError: it cannot be read, or its values have no range.
    """
    try:
        return upright_rgb(image, name)
    except BrokenSample as error:
        raise UserError(f"{error}; give another one") from None
    except (OSError, SyntaxError, ValueError) as error:  # opened, but read only now
        raise UserError(f"{name}: damaged image ({error}); give another one") from None


def array_pixels(item: Any, name: str, axes: int) -> np.ndarray:
    """(..., H, W, 3) uint8 from bytes or floats in 0..1, channels first or last.

    Raises:
        UserError: another shape, type or range; or both ends could be the channels.
    """
    array = _numpy(item, name)
    shape = array.shape
    if array.ndim != axes or 3 not in (shape[-1], shape[-3]) or 0 in shape:
        many = f"; of {shape[0]} of them give list(batch)" if array.ndim == axes + 1 else ""
        raise UserError(f"{name}: an array of shape {shape}; expected {_SHAPES[axes]}{many}")
    if shape[-1] == shape[-3]:
        raise UserError(
            f"{name}: an array of shape {shape} may have its channels first or last; give a PIL image, or a larger one"
        )
    if shape[-1] != 3:
        array = np.moveaxis(array, -3, -1)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating) or not (array.min() >= 0.0 and array.max() <= 1.0):
        raise UserError(f"{name}: values must be uint8, or floats from 0 to 1 (not normalised); found {array.dtype}")
    return np.ascontiguousarray((array * 255).round().astype(np.uint8))


def sound_value(item: Any, name: str) -> bytes | Sound:
    """The bytes of a file that holds a sound, or a Sound whose samples are an array.

    Raises:
        UserError: an array without a rate, or a rate that is no number.
    """
    data = encoded(item, name)
    if data is not None:
        return data
    if not isinstance(item, Sound):
        kind = "array" if is_array(item) else type(item).__name__
        raise UserError(
            f"{name}: a sound that is an {kind} has no rate; write Sound(array, 44100), with its samples a second "
            "(from uniperceiver import Sound)"
        )
    if not isinstance(item.rate, int | float | np.number) or isinstance(item.rate, bool) or item.rate != int(item.rate):
        raise UserError(f"{name}: Sound: rate must be a number of samples a second, found {shown(item.rate)}")
    return Sound(_numpy(item.array, name), int(item.rate))


def other_value(item: Any, name: str) -> Any:
    """What a modality without a way of its own takes: bytes of a file, or an array."""
    data = encoded(item, name)
    if data is not None:
        return data
    return _numpy(item, name) if is_tensor(item) else item


def _numpy(item: Any, name: str) -> np.ndarray:
    if not is_tensor(item):
        if not isinstance(item, np.ndarray | np.generic | Sequence) and not hasattr(item, "__array__"):
            raise UserError(f"{name}: a {type(item).__name__} is no input; {_TAKEN}")
        try:
            return np.asarray(item)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: no array can be made of this {type(item).__name__} ({error}); {_TAKEN}") from None
    import torch  # of which there is a tensor, so that it is there

    try:
        numpy_floats = (torch.float16, torch.float32, torch.float64)
        dense = item.detach().to_dense() if item.layout is not torch.strided else item.detach()
        # NumPy has no bfloat16, nor the types of 8 bits.
        wide = dense.float() if dense.is_floating_point() and dense.dtype not in numpy_floats else dense
        return wide.cpu().numpy()
    except (NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{name}: a tensor whose values cannot be had ({reason}); give a plain one") from None

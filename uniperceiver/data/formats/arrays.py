"""ARRAYS OF PICTURES: MNIST's idx files, npz and npy of NumPy, CIFAR's binary batches. No pickles.

Shape suffixes: I pictures, H W pixels, C colours.
"""

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uniperceiver.data.formats.class_list import ClassList, read_classes
from uniperceiver.data.formats.files import class_texts, existing_file
from uniperceiver.errors import UserError, listed, nearest, refuse_pointer
from uniperceiver.records import Sample
from uniperceiver.strict import record

_CIFAR = 32 * 32 * 3  # bytes of a picture, behind one label, or two in CIFAR-100
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_CONVERSION = (
    "python -c \"import pickle, numpy as np; d = pickle.load(open('{name}', 'rb'), encoding='bytes'); "
    "np.savez('{name}.npz', images=d[b'data'].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), "
    "labels=d.get(b'labels', d.get(b'fine_labels')))\""
)


@record
class ArraysSource:
    """A sample per picture of an array, (I, H, W) or (I, H, W, 1 or 3) uint8, with its number in an array of labels."""

    path: str
    """An .npz or .npy file, an idx file (perhaps .gz), or a .bin batch of CIFAR."""
    images: str = "images"
    """Name of the pictures in an .npz, such as train_images."""
    labels: str | None = None
    """Name of the labels in an .npz, such as train_labels; beside an .npy or idx file, the path of theirs."""
    classes: str | tuple[str, ...] | None = None
    """Class names in label order, or a file that lists them; None: the numbers that occur."""

    def open(self, base: Path, where: str) -> "ArraysData":
        """Read the arrays."""
        path = existing_file(base, self.path, where)
        images, labels = _read(path, self.images, self.labels, base, where)
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or (images.ndim == 4 and images.shape[3] not in (1, 3))
        ):
            raise UserError(
                f"{where}: {path}: pictures of shape {images.shape} and type {images.dtype}; expected "
                "(pictures, height, width) or (pictures, height, width, 3), uint8"
            )
        if not len(images):
            raise UserError(f"{where}: {path}: no pictures; is it complete?")
        label_I, classes = self._labels(labels, len(images), path, base, where)
        return ArraysData(path=path, images=images, label_I=label_I, class_list=classes)

    def _labels(
        self, labels: np.ndarray | None, count: int, path: Path, base: Path, where: str
    ) -> tuple[np.ndarray | None, ClassList | None]:
        """The label of each picture, (I,) int64, and the classes."""
        if labels is None:
            if self.classes is not None:
                raise UserError(f"{where}: {path}: key 'classes' needs labels; set key labels to where they are")
            return None, None
        label_I = labels.reshape(len(labels), -1)
        if label_I.shape[1] > 1 and len(label_I) == count and np.isin(label_I, (0, 1)).all():
            return self._one_hot(label_I, path, base, where)
        if label_I.shape != (count, 1) or label_I.dtype.kind not in "iu":
            raise UserError(
                f"{where}: {path}: labels of shape {labels.shape} and type {labels.dtype} for {count:,} pictures; "
                "expected a whole number for each"
            )
        label_I = label_I[:, 0].astype(np.int64)
        if self.classes is not None:
            classes = read_classes(base, self.classes, where)
            if not 0 <= label_I.min() <= label_I.max() < len(classes.names):
                raise UserError(
                    f"{where}: {path}: labels {label_I.min()} to {label_I.max()} for {len(classes.names)} classes; "
                    "list all classes, from that of label 0 on"
                )
            return label_I, classes
        numbers, index_I = np.unique(label_I, return_inverse=True)
        names = tuple(map(str, numbers.tolist()))
        return index_I, ClassList(names=names, texts=class_texts(names))

    def _one_hot(self, right_IK: np.ndarray, path: Path, base: Path, where: str) -> tuple[np.ndarray, ClassList]:
        """The labels as they are, 1 where a class is right, (I, K), and the classes."""
        names = tuple(map(str, range(right_IK.shape[1])))
        classes = ClassList(names=names, texts=class_texts(names))
        if self.classes is not None:
            classes = read_classes(base, self.classes, where)
        if len(classes.names) != right_IK.shape[1]:
            raise UserError(
                f"{where}: {path}: labels for {right_IK.shape[1]} classes, but {len(classes.names)} are named; list all"
            )
        return right_IK.astype(bool), classes


@dataclass(frozen=True, kw_only=True)
class ArraysData:
    """The opened arrays, in memory."""

    path: Path
    images: np.ndarray  # (I, H, W) or (I, H, W, C) uint8
    label_I: np.ndarray | None  # (I,) int64; or (I, K) bool, where several classes may be right
    class_list: ClassList | None

    @property
    def classes(self) -> tuple[tuple[str, ...], ...] | None:
        """Texts per class."""
        return None if self.class_list is None else self.class_list.texts

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name per class."""
        return None if self.class_list is None else self.class_list.names

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Sample:
        """The picture, (H, W, 3), and its class."""
        x_HWC = self.images[index].reshape(*self.images.shape[1:3], -1)
        image = np.ascontiguousarray(np.broadcast_to(x_HWC, (*x_HWC.shape[:2], 3)))
        sample = Sample(id=f"{self.path.name}:{index}", image=image)
        if self.label_I is None:
            return sample
        right = np.flatnonzero(self.label_I[index]).tolist() if self.label_I.ndim == 2 else [int(self.label_I[index])]
        return replace(sample, label=right[0]) if len(right) == 1 else replace(sample, labels=tuple(right))

    def names(self) -> Iterator[tuple[str, ...]]:
        """File and number of each picture."""
        return ((f"{self.path.name}:{index}",) for index in range(len(self)))

    def labels_of(self, index_I: np.ndarray) -> frozenset[int] | None:
        """The classes that some of these pictures have; None without labels."""
        if self.label_I is None:
            return None
        labels = self.label_I[index_I]
        return frozenset((np.flatnonzero(labels.any(axis=0)) if labels.ndim == 2 else np.unique(labels)).tolist())

    def texts(self) -> Iterator[str]:
        """The class texts."""
        return (text for texts in self.classes or () for text in texts)


def _read(path: Path, images: str, labels: str | None, base: Path, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The pictures, and their labels where there are some."""
    refuse_pointer(path, f"{where}: ")
    if path.suffix == ".npz":
        with _npz(path, where) as arrays:
            for name in (images, labels):
                if name is not None and name not in arrays.files:
                    raise UserError(f"{where}: {path}: no array {name!r}; {nearest(name, arrays.files)}")
            try:
                return arrays[images], None if labels is None else arrays[labels]
            except (ValueError, OSError, zlib.error, zipfile.BadZipFile) as error:
                raise UserError(
                    f"{where}: {path}: cannot be read ({error}); arrays of objects are never read"
                ) from None
    if path.suffix == ".bin":
        return _cifar(path, where)
    beside = None if labels is None else _array(existing_file(base, labels, f"{where}: labels"), where)
    return _array(path, where), beside


def _npz(path: Path, where: str) -> "np.lib.npyio.NpzFile":
    try:
        opened = np.load(path, allow_pickle=False)
    except ValueError:  # whose reason is the one of a pickle, whatever the file is
        raise UserError(f"{where}: {path}: not an .npz file; is it complete?") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{where}: {path}: not an .npz file ({error}); is it complete?") from None
    if not isinstance(opened, np.lib.npyio.NpzFile):
        raise UserError(f"{where}: {path}: an .npy file by the name of .npz; rename it")
    return opened


def _array(path: Path, where: str) -> np.ndarray:
    """The array of an .npy or idx file."""
    refuse_pointer(path, f"{where}: ")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if data[:6] == b"\x93NUMPY":
            array: np.ndarray = np.load(path, allow_pickle=False)
            return array
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{where}: {path}: cannot be read ({error}); is it complete?") from None
    if data[:1] == b"\x80":
        raise UserError(
            f"{where}: {path}: a pickle, which is never read, as it can execute anything. If you trust it, convert it "
            f"in its folder: {_CONVERSION.format(name=path.name)}"
        )
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
        raise UserError(f"{where}: {path}: not an idx, .npy, .npz or CIFAR .bin file; choose another format")
    axes = data[3]
    shape = np.frombuffer(data, ">u4", count=axes, offset=4).tolist() if len(data) >= 4 + 4 * axes else []
    type_ = np.dtype(_IDX_TYPES[data[2]])
    if not shape or len(data) != 4 + 4 * axes + math.prod(shape) * type_.itemsize:
        raise UserError(f"{where}: {path}: is not as long as its header says; copy or unpack it again")
    values = np.frombuffer(data, type_, offset=4 + 4 * axes)
    return values.reshape(shape).astype(values.dtype.newbyteorder("="))


def _cifar(path: Path, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and the last of their labels: those of CIFAR-100 have a coarse one before."""
    data = np.fromfile(path, dtype=np.uint8)
    labels = next((labels for labels in (1, 2) if len(data) and len(data) % (labels + _CIFAR) == 0), None)
    if labels is None:
        raise UserError(
            f"{where}: {path}: {len(data):,} bytes are no CIFAR batch ({listed((1 + _CIFAR, 2 + _CIFAR))} a picture)"
        )
    rows = data.reshape(-1, labels + _CIFAR)
    return rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, labels - 1]

"""MASKS AS PICTURES: a PNG file per thing, or one with a colour per thing; holes survive, which polygons lose.

Shape suffixes: I pictures, O things of a picture, H W pixels.
"""

import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from uniperceiver.data.formats.class_list import read_classes
from uniperceiver.data.formats.files import (
    Strings,
    class_texts,
    existing_folder,
    first_frames,
    listed_suffixes,
    printable,
    read_bytes,
    seen,
    suffix_of,
)
from uniperceiver.data.media.decode import stored_size
from uniperceiver.data.media.geometry import upright_mask
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample
from uniperceiver.strict import record

_SUFFIXES = ("png", "bmp", "tif", "tiff")  # of masks: formats that keep every value
_HALF = 128  # from which on a pixel of a thing's own file belongs to it, where the file has values up to 255


@record
class MaskFolderSource:
    """A sample per picture; what its masks show are the things in it.

    Of images/a.jpg, path/a.png has a colour for each thing (0 or black: nothing), and the files path/a/*.png or
    path/a_*.png have a thing each, bright on black. Where there are classes, each has a folder of these.
    """

    path: str
    """The folder of the masks."""
    images: str
    """The folder of the pictures."""
    classes: str | tuple[str, ...] | None = None
    """Names in label order, or a file that lists them: `path` then has a folder of masks for each; None: all things
    are of one class, `thing`, which key `labels` of the task can rename."""
    void: int | None = None
    """A value in files with several colours that belongs to no thing, such as 255 for the borders of Pascal VOC."""

    def open(self, base: Path, where: str) -> "MaskFolderData":
        """Find the pictures and their masks; masks are decoded when a sample is read."""
        root, images = existing_folder(base, self.path, where), existing_folder(base, self.images, f"{where}: images")
        kinds = listed_suffixes()
        files = sorted(name for name in seen(os.listdir(images), Counter()) if kinds.get(suffix_of(name)) == "image")
        if not files:
            raise UserError(f"{where}: images: {images}: no picture in this folder")
        classes = None if self.classes is None else read_classes(base, self.classes, where)
        names = ("thing",) if classes is None else classes.names
        folders = [root if classes is None else existing_folder(root, name, f"{where}: classes") for name in names]
        stems = {Path(name).stem: index for index, name in enumerate(files)}
        masks: list[list[tuple[str, int, bool]]] = [[] for _ in files]
        strangers = 0
        for label, folder in enumerate(folders):
            for file, stem, alone in _masks_below(folder, stems):
                strangers += stem is None
                if stem is not None:
                    masks[stems[stem]].append(((folder / file).relative_to(root).as_posix(), label, alone))
        without = sum(not entries for entries in masks)
        if without == len(files):
            stem = Path(files[0]).stem
            raise UserError(
                f"{where}: {root}: no mask belongs to a picture; that of {files[0]} would be {stem}.png, or files in "
                f"{stem}/, or {stem}_1.png"
            )
        nothing = f"of {len(files):,} pictures have no mask and are taken for pictures of nothing"
        notes = {f"{root}: {strangers:,} masks have no picture": strangers, f"{images}: {without:,} {nothing}": without}
        entries = [entry for of_picture in masks for entry in of_picture]
        return MaskFolderData(
            root=root,
            images=images,
            files=Strings.of(files),
            masks=Strings.of(file for file, _, _ in entries),
            label_M=np.array([label for _, label, _ in entries], dtype=np.int32),
            alone_M=np.array([alone for _, _, alone in entries], dtype=bool),
            stop_I=np.cumsum([len(of_picture) for of_picture in masks], dtype=np.int64),
            void=self.void,
            class_names=names,
            classes=class_texts(names) if classes is None else classes.texts,
            notes=(*(note for note, count in notes.items() if count), *first_frames(images, files)),
        )


def _masks_below(folder: Path, stems: dict[str, int]) -> Iterator[tuple[str, str | None, bool]]:
    """The masks in a folder: path, the picture's name without suffix (None: there is none), whether of one thing."""
    for name in sorted(seen(os.listdir(folder), Counter())):
        if (folder / name).is_dir():
            if name in stems:
                inside = sorted(seen(os.listdir(folder / name), Counter()))
                yield from ((f"{name}/{file}", name, True) for file in inside if suffix_of(file) in _SUFFIXES)
        elif suffix_of(name) in _SUFFIXES:
            stem = Path(name).stem
            if stem in stems:
                yield name, stem, False
                continue
            parts = stem.split("_")
            joined = ("_".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
            yield name, next((part for part in joined if part in stems), None), True


@dataclass(frozen=True, kw_only=True)
class MaskFolderData:
    """The files that were found."""

    root: Path
    images: Path
    files: Strings  # of the pictures
    masks: Strings  # of all pictures, below `root`
    label_M: np.ndarray  # int32, the class of what each mask shows
    alone_M: np.ndarray  # bool, whether it shows one thing
    stop_I: np.ndarray  # int64, end of each picture's masks
    void: int | None
    class_names: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    has_masks: bool = True

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Sample:
        """The encoded picture, and the things that its masks show.

        Raises:
            BrokenSample: a mask cannot be read, or has another size than the picture.
        """
        name = printable(self.files[index])
        image = read_bytes(self.images / self.files[index], name)
        stored = stored_size(image, name)
        masks: list[np.ndarray] = []
        labels: list[int] = []
        for place in range(int(self.stop_I[index - 1]) if index else 0, int(self.stop_I[index])):
            values_HW = _values(read_bytes(self.root / self.masks[place], name), self.masks[place], name)
            if values_HW.shape == (stored.height, stored.width) != stored.upright:
                values_HW = upright_mask(values_HW, stored.orientation)
            if values_HW.shape != stored.upright:
                height, width = stored.upright
                own = f"{values_HW.shape[1]} x {values_HW.shape[0]}"
                raise BrokenSample(name, f"mask {self.masks[place]} has {own} pixels, the picture {width} x {height}")
            shown = list(self._shown(values_HW, alone=bool(self.alone_M[place])))
            masks += shown
            labels += [int(self.label_M[place])] * len(shown)
        boxes = [tight_box(mask_HW) for mask_HW in masks]
        areas = np.array([mask_HW.sum() for mask_HW in masks], dtype=np.float64)
        sample = Sample(
            id=name,
            image=image,
            boxes=np.array(boxes).reshape(-1, 4),
            classes=np.array(labels, dtype=np.int64),
            areas=areas,
        )
        return replace(sample, crowd=np.zeros(len(masks), dtype=bool), masks=PackedMasks.of(masks))

    def _shown(self, values_HW: np.ndarray, *, alone: bool) -> Iterator[np.ndarray]:
        """The things in a mask, (H, W) bool each; none that is empty."""
        if alone:
            mask_HW = values_HW >= (_HALF if _HALF <= values_HW.max() <= 255 else 1)
            if mask_HW.any():
                yield mask_HW
            return
        for value in np.unique(values_HW).tolist():
            if value not in (0, self.void):
                yield values_HW == value

    def names(self) -> Iterator[tuple[str, ...]]:
        """The file name of each picture."""
        return ((printable(file),) for file in self.files)

    def counts_of(self, index_I: np.ndarray) -> np.ndarray:
        """How many masks each of these pictures has."""
        counts_I: np.ndarray = np.diff(self.stop_I, prepend=0)[index_I]
        return counts_I

    def labels_of(self, index_I: np.ndarray) -> frozenset[int]:
        """The classes that masks of these pictures have."""
        start_I = np.concatenate([[0], self.stop_I[:-1]])
        spans = zip(start_I[index_I].tolist(), self.stop_I[index_I].tolist(), strict=True)
        return frozenset(label for start, stop in spans for label in self.label_M[start:stop].tolist())

    def texts(self) -> Iterator[str]:
        """The class texts."""
        return (text for texts in self.classes for text in texts)


@dataclass(frozen=True, kw_only=True)
class PackedMasks:
    """Masks as bits, an eighth of their pixels, unpacked one at a time."""

    packed: tuple[bytes, ...]
    size: tuple[int, int]

    @staticmethod
    def of(masks: list[np.ndarray]) -> "PackedMasks":
        """Pack masks of one size."""
        size = masks[0].shape if masks else (0, 0)
        return PackedMasks(packed=tuple(np.packbits(mask_HW).tobytes() for mask_HW in masks), size=(size[0], size[1]))

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> np.ndarray:
        bits = np.unpackbits(np.frombuffer(self.packed[index], dtype=np.uint8), count=self.size[0] * self.size[1])
        return bits.reshape(self.size).astype(bool)


def tight_box(mask_HW: np.ndarray) -> tuple[float, float, float, float]:
    """The box of a mask that is not empty: x1 and y1 just outside."""
    columns, rows = np.flatnonzero(mask_HW.any(axis=0)), np.flatnonzero(mask_HW.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _values(data: bytes, file: str, sample: str) -> np.ndarray:
    """The values of a mask, (H, W) int64: palette indices and greys as they are, colours as one number.

    Raises:
        BrokenSample: it is no picture.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "BMP", "TIFF")) as image:
            # Of what has transparency too, the colours alone count.
            values = np.asarray(image.convert("L") if image.mode in ("LA", "PA") else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BrokenSample(sample, f"mask {file}: damaged, or no PNG, BMP or TIFF ({error})") from None
    if values.ndim == 3:
        wide_HWC = values[..., :3].astype(np.int64)
        # A grey picture that was saved in colours keeps its greys.
        grey = (wide_HWC == wide_HWC[..., :1]).all()
        return wide_HWC[..., 0] if grey else wide_HWC @ np.array([1 << 16, 1 << 8, 1])
    return values.astype(np.int64)

"""From files to batches, per format: our reader against a bare loop of the same decoder and resize, in one process.

Shape suffixes: B samples, T frames, C colours, H W pixels, N tokens.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.data_files import FORMATS, Files, make_files, written
from benchmarks.data_sounds import sound_rows
from benchmarks.harness import BenchmarkRow, figure, main, ratio
from benchmarks.parts import flat
from uniperceiver import AugmentConfig
from uniperceiver.data.formats import open_source
from uniperceiver.data.loader import load
from uniperceiver.data.media.preprocess import CLIP_MEAN, CLIP_STD, IMAGE_MEAN, IMAGE_STD, Preprocess, image_pixels
from uniperceiver.data.media.transforms import choose_frames
from uniperceiver.data.mix import BatchMaker, Mixture, Plan, Stage, TrainingSet
from uniperceiver.records import Sample
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tokenizers import bpe

Item = TypeVar("Item")
GOALS = {"image": 0.8, "clip": 0.7}  # of the speed of the bare loop
DRAFT_GOAL = 0.2  # of the time of a whole photograph
PHOTOGRAPH = (4000, 3000)  # pixels of a camera's picture
AUGMENT = AugmentConfig(crop=0.5, flip=0.5, randaugment=2, erasing=0.25)


@dataclass(frozen=True, kw_only=True)
class Medium:
    """The samples of one kind of media, and what is made of them."""

    count: int  # samples in a run
    batch: int
    size: tuple[int, int] = (0, 0)  # width and height of the files
    preprocess: Preprocess


Scale = dict[str, Medium]
FULL: Scale = {
    "image": Medium(count=64, batch=32, size=(500, 375), preprocess=Preprocess(size=224)),
    "clip": Medium(count=16, batch=8, size=(160, 120), preprocess=Preprocess(size=112, frames=8, stride=2)),
    "text": Medium(count=1024, batch=32, preprocess=Preprocess(length=64)),
}


def measure(
    pairs: int,
    scale: Scale = FULL,
    photograph: tuple[int, int] = PHOTOGRAPH,
    sounds: tuple[int, float] = (40, 5.0),
) -> list[BenchmarkRow]:
    """Speed of every format over that of the bare loop, without augmentation and with it, and through a worker.

    Args:
        photograph: width and height of the picture that is also read as a draft.
        sounds: how many short ones, and of how many seconds.
    """
    threads, rows = torch.get_num_threads(), list[BenchmarkRow]()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for media, medium in scale.items():
            files = make_files(Path(folder) / media, media, medium.count, medium.size)
            for name, kind in FORMATS.items():
                if kind.media == media and kind.usable:
                    mixture = mixture_of(name, Path(folder), files, medium)
                    rows += _rows(name, media, mixture, files, medium, pairs)
        rows.append(draft_row(make_files(Path(folder) / "photograph", "image", 1, photograph), pairs))
    rows += sound_rows(pairs, *sounds)
    torch.set_num_threads(threads)
    return rows


def draft_row(files: Files, pairs: int) -> BenchmarkRow:
    """Time of a picture of a camera as its draft (`data.decode`) over that of the whole picture."""
    sample, whole = Sample(id="a", image=files.paths[0].read_bytes()), Preprocess(size=224)
    draft = replace(whole, decode="draft")
    views = (partial(image_pixels, sample, preprocess, None, None) for preprocess in (draft, whole))
    with Image.open(files.paths[0]) as image:
        name = f"data/draft over whole/{image.width}x{image.height} to {whole.size}/batch1/threads1"
    return ratio(name, *views, goal=DRAFT_GOAL, pairs=pairs)


def _rows(name: str, media: str, mixture: Mixture, files: Files, medium: Medium, pairs: int) -> Iterator[BenchmarkRow]:
    what = f"{name}/{_sizes(medium, media)}/batch{medium.batch}/threads1"
    bare, whole = partial(BARE[media], files, medium, mixture), partial(read, mixture)
    yield ratio(f"data/speed over bare loop/{what}", bare, whole, goal=GOALS.get(media), at_least=True, pairs=pairs)
    speeds = [medium.count / _seconds(whole) for _ in range(pairs)]
    yield figure(f"data/speed/{what}", speeds, "samples/s")
    if media != "text":
        augmented = partial(read, replace(mixture, sets=(replace(mixture.sets[0], augment=AUGMENT),)))
        yield ratio(f"data/speed over bare loop, augmented/{what}", bare, augmented, pairs=pairs)
        worker = _Worker(mixture, medium)
        speeds = [worker.seconds_of(bare) / worker.seconds() for _ in range(pairs)]
        yield figure(f"data/speed over bare loop, one worker/{what}", speeds, "ratio")


def _sizes(medium: Medium, media: str) -> str:
    if media == "text":
        return f"{medium.count} lines"
    size = f"{medium.size[0]}x{medium.size[1]} to {medium.preprocess.size}"
    return size if media == "image" else f"{size}, {medium.preprocess.frames} frames"


def mixture_of(name: str, folder: Path, files: Files, medium: Medium) -> Mixture:
    """A mixture of one task that reads the files in that format, without augmentation."""
    kind = FORMATS[name]
    source = open_source(written(name, folder, files), name, folder)
    task = CATALOGUE[kind.kind]
    stage = Stage(begins=0, preprocess=medium.preprocess, batch=medium.batch)
    return Mixture(
        sets=(TrainingSet(task=task, index=0, source=source, augment=AugmentConfig(), stages=(stage,)),),
        codec=bpe.train(files.captions, size=300, lowercase=True),
        seed=0,
        mode="mixed",
        tasks_per_step=1,
        accumulate=1,
    )


def read(mixture: Mixture) -> list[Tensor]:
    """Every sample once, as training reads it: the pixels, or else the token ids, of each batch."""
    made, tensors = BatchMaker(mixture), []
    for plan in _plans(mixture, len(mixture.sets[0].source)):
        _, batch, broken = made[plan]
        assert batch is not None
        assert not broken
        pixels_BFCHW, ids_BN = flat(batch.inputs).pixels_BFCHW, flat(batch.inputs).ids_BN
        tensors.append(pixels_BFCHW if pixels_BFCHW is not None else _given(ids_BN))
    return tensors


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _plans(mixture: Mixture, samples: int) -> Iterator[Plan]:
    size = mixture.sets[0].stages[0].batch
    for step, start in enumerate(range(0, samples, size)):
        count = min(size, samples - start)
        yield Plan(step=step, place=0, index=0, start=start, count=count, stage=0)


class _Worker:
    """As `read`, in a loader process that is started once and goes on for ever."""

    AHEAD = 4  # batches that may have been made while nobody looked

    def __init__(self, mixture: Mixture, medium: Medium) -> None:
        self.batches = -(-medium.count // medium.batch)
        self.made = load(BatchMaker(mixture), mixture.endless(0, [0]), 1)

    def seconds(self) -> float:
        """The time of as many samples as there are."""
        self._take(self.AHEAD)
        return _seconds(partial(self._take, self.batches))

    def seconds_of(self, bare: Callable[[], object]) -> float:
        """The time of the bare loop, while the worker rests: all that it may make ahead is made."""
        bare()
        return _seconds(bare)

    def _take(self, batches: int) -> None:
        for _ in range(batches):
            next(self.made)


def bare_images(files: Files, medium: Medium, mixture: Mixture) -> list[Tensor]:
    """Pillow, its resize, and torch for the rest, as one would write it for this alone."""
    batches = []
    mean_C11, std_C11 = (torch.tensor(value)[:, None, None] for value in (IMAGE_MEAN, IMAGE_STD))
    for paths in _batched(files.paths, medium.batch):
        pictures = []
        for path in paths:
            with Image.open(path) as image:
                small = _square(image.convert("RGB"), medium.preprocess.size)
            pictures.append(torch.from_numpy(np.array(small)).permute(2, 0, 1))
        batches.append((torch.stack(pictures).float() / 255 - mean_C11) / std_C11)
    return batches


def bare_clips(files: Files, medium: Medium, mixture: Mixture) -> list[Tensor]:
    """PyAV, Pillow's resize, and torch for the rest."""
    import av
    from av.video.reformatter import VideoReformatter

    batches, view = [], medium.preprocess
    reformatter = VideoReformatter()
    mean_C11, std_C11 = (torch.tensor(value)[:, None, None] for value in (CLIP_MEAN, CLIP_STD))
    for paths in _batched(files.paths, medium.batch):
        clips = []
        for path in paths:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                chosen = choose_frames(stream.frames, view.frames, view.stride, None).tolist()
                frames = []
                for index, frame in enumerate(container.decode(stream)):
                    if index in chosen:
                        image = Image.fromarray(reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())
                        frames.append(np.array(_square(image, view.size)))
                    if index == chosen[-1]:
                        break
            clips.append(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
        batches.append((torch.stack(clips).float() / 255 - mean_C11) / std_C11)
    return batches


def bare_texts(files: Files, medium: Medium, mixture: Mixture) -> list[Tensor]:
    """Each text tokenized, cut and padded."""
    batches = []
    for texts in _batched(files.captions, medium.batch):
        ids = [torch.tensor(mixture.codec.encode(text)[: medium.preprocess.length]) for text in texts]
        batches.append(torch.nn.utils.rnn.pad_sequence(ids, batch_first=True))
    return batches


BARE: dict[str, Callable[[Files, Medium, Mixture], list[Tensor]]] = {
    "image": bare_images,
    "clip": bare_clips,
    "text": bare_texts,
}


def _square(image: Image.Image, size: int) -> Image.Image:
    """The central square, resized."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def _batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(measure)

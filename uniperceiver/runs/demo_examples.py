"""What the demo leaves to be asked about: pictures and a clip of scenes that no training has seen, as files."""

import shlex
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from uniperceiver.atomic import whole_file
from uniperceiver.config import Recipe
from uniperceiver.data.prepare.recode import small_clip
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError

_PICTURES = 6
_PIXELS = 96
_FRAMES = 16
# What is asked of the tasks of a kind: whether it is about clips, and the word of the command.
_QUESTIONS = {
    "image_classification": (False, "classify"),
    "image_captioning": (False, "caption"),
    "video_classification": (True, "classify"),
}


def write_examples(run: Path, recipe: Recipe) -> list[str]:
    """Write RUN/examples, files named after what they show, and give the commands that ask the run about them.

    Without the package av there is no clip, as nothing could read it.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = run / "examples"
    try:
        folder.mkdir(exist_ok=True)
        pictures, clips = list(_pictures(folder)), list(_clips(folder)) if find_spec("av") else []
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); free or mend the disk") from None
    return list(_commands(run, recipe, pictures, clips))


def _pictures(folder: Path) -> Iterator[Path]:
    source = ScenesSource(items=_PICTURES, split="test", objects=1, pixels=_PIXELS)
    for index in range(_PICTURES):
        thing, sample = source.scene(index).things[0], source.read(index)
        path = folder / f"{thing.size}_{thing.colour}_{thing.shape}.png"
        assert isinstance(sample.image, np.ndarray)
        with whole_file(path) as file:
            Image.fromarray(sample.image).save(file, "PNG")
        yield path


def _clips(folder: Path) -> Iterator[Path]:
    source = ScenesSource(items=1, split="test", objects=1, view="clip", label="motion", pixels=_PIXELS, frames=_FRAMES)
    thing, sample = source.scene(0).things[0], source.read(0)
    assert sample.clip is not None
    kind, data = small_clip(sample.clip, _PIXELS, sample.id, _PIXELS**2)
    path = folder / f"{thing.colour}_{thing.shape}_{thing.motion.replace(' ', '_')}.{kind}"
    with whole_file(path) as file:
        file.write(data)
    yield path


def _commands(run: Path, recipe: Recipe, pictures: Iterable[Path], clips: Iterable[Path]) -> Iterator[str]:
    """A command for the first task of each kind that there is something to ask about."""
    files = {False: list(pictures), True: list(clips)}
    for kind, (is_clip, question) in _QUESTIONS.items():
        name = next((name for name, task in recipe.tasks.items() if task.kind == kind), None)
        if name is not None and files[is_clip]:
            asked = files[is_clip][: 1 if question == "classify" else 3]
            yield shlex.join(["uniperceiver", "predict", str(run), question, "--task", name, "--", *map(str, asked)])

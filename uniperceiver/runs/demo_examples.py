"""What the demo leaves to be asked about, and what it asks itself: scenes that no training has seen, as files."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from uniperceiver.atomic import whole_file
from uniperceiver.config import Recipe
from uniperceiver.data.prepare.recode import small_clip
from uniperceiver.data.scenes.scene import Thing, relation
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError
from uniperceiver.serving.predictor import UniPerceiver

_PICTURES, _CLIPS = 6, 2
_CLASSIFIED = 4  # of the pictures; the others are captioned
_PIXELS = 96
_FRAMES = 8  # as many as the clips that it was trained on


@dataclass(frozen=True, kw_only=True)
class SceneFile:
    """A file, and the thing that it shows."""

    path: Path
    thing: Thing
    captions: Sequence[str]

    @property
    def short(self) -> str:
        """Its colour and shape."""
        return f"{self.thing.colour} {self.thing.shape}"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The files in RUN/examples; no clips where the package av is missing, as nothing could read them."""

    pictures: Sequence[SceneFile]
    clips: Sequence[SceneFile]


@dataclass(frozen=True, kw_only=True)
class DemoAnswer:
    """A question to the model, and its answer."""

    about: str  # a file or a text
    question: str
    answer: str
    right: bool


def write_examples(run: Path) -> Examples:
    """Write RUN/examples: six pictures and two clips, files named after what they show.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = run / "examples"
    try:
        folder.mkdir(exist_ok=True)
        clips = list(_clips(folder)) if find_spec("av") else []
        return Examples(pictures=list(_pictures(folder)), clips=clips)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); free or mend the disk") from None


def _pictures(folder: Path) -> Iterator[SceneFile]:
    source = ScenesSource(items=_PICTURES, split="test", objects=1, pixels=_PIXELS)
    for index in range(_PICTURES):
        thing, sample = source.scene(index).things[0], source.read(index)
        path = folder / f"{thing.size}_{thing.colour}_{thing.shape}.png"
        assert isinstance(sample.image, np.ndarray)
        with whole_file(path) as file:
            Image.fromarray(sample.image).save(file, "PNG")
        yield SceneFile(path=path, thing=thing, captions=sample.captions)


def _clips(folder: Path) -> Iterator[SceneFile]:
    source = ScenesSource(items=_CLIPS, split="test", objects=1, view="clip", pixels=_PIXELS, frames=_FRAMES)
    for index in range(_CLIPS):
        thing, sample = source.scene(index).things[0], source.read(index)
        assert sample.clip is not None
        kind, data = small_clip(sample.clip, _PIXELS, sample.id, _PIXELS**2)
        path = folder / f"{thing.colour}_{thing.shape}_{thing.motion.replace(' ', '_')}.{kind}"
        with whole_file(path) as file:
            file.write(data)
        yield SceneFile(path=path, thing=thing, captions=sample.captions)


def commands(run: Path, recipe: Recipe, examples: Examples) -> list[str]:
    """Give a command for the first task of each kind that there is something to ask about."""
    pictures, clips = ([shown.path for shown in some] for some in (examples.pictures, examples.clips))
    asked_of_each = [
        ("image_classification", "classify", pictures[:1]),
        ("image_captioning", "caption", pictures[:3]),
        ("video_classification", "classify", clips[:1]),
    ]
    return [
        shlex.join(["uniperceiver", "predict", str(run), question, "--task", task, "--", *map(str, files)])
        for kind, question, files in asked_of_each
        if files and (task := _task_of(recipe, kind))
    ]


def ask(model: UniPerceiver, recipe: Recipe, examples: Examples) -> Iterator[DemoAnswer]:
    """Ask ten questions, some of each kind that the model was trained for.

    An answer in words is right where it names all that is true: size, colour and shape of the thing.
    """
    for kind, questions in _QUESTIONS.items():
        if task := _task_of(recipe, kind):
            yield from questions(model, task, examples)


def _classify_pictures(model: UniPerceiver, task: str, examples: Examples) -> Iterator[DemoAnswer]:
    for shown in examples.pictures[:_CLASSIFIED]:
        answer = _likeliest(model, task, shown.path)
        right = set(answer.split()) <= {shown.thing.colour, shown.thing.shape}
        yield DemoAnswer(about=str(shown.path), question="what is it?", answer=answer, right=right)


def _caption_pictures(model: UniPerceiver, task: str, examples: Examples) -> Iterator[DemoAnswer]:
    for shown in examples.pictures[_CLASSIFIED:]:
        (answer,) = model.caption([shown.path], task=task)
        right = shown.short in answer and shown.thing.size in answer.split()
        yield DemoAnswer(about=str(shown.path), question="describe it", answer=answer, right=right)


def _classify_clips(model: UniPerceiver, task: str, examples: Examples) -> Iterator[DemoAnswer]:
    for shown in examples.clips:
        answer = _likeliest(model, task, shown.path)
        right = answer == shown.thing.motion
        yield DemoAnswer(about=str(shown.path), question="what does it do?", answer=answer, right=right)


def _classify_text(model: UniPerceiver, task: str, examples: Examples) -> Iterator[DemoAnswer]:
    source = ScenesSource(items=1, split="test", view="text", label="relation")
    text = source.read(0).text
    assert text is not None
    answer, true = _likeliest(model, task, text), relation(*source.scene(0).things)
    yield DemoAnswer(about=text, question="where is the large one?", answer=answer, right=answer.startswith(true))


def _rank_texts(model: UniPerceiver, task: str, examples: Examples) -> Iterator[DemoAnswer]:
    shown, texts = examples.pictures[0], [shown.captions[0] for shown in examples.pictures]
    (scores_N,) = model.rank([shown.path], texts, task=task)
    answer = texts[int(scores_N.argmax())]
    question = f"which of {len(texts)} texts is about it?"
    yield DemoAnswer(about=str(shown.path), question=question, answer=answer, right=answer == texts[0])


def _likeliest(model: UniPerceiver, task: str, asked: Path | str) -> str:
    return model.labels(task)[int(model.classify([asked], task=task).argmax())]


def _task_of(recipe: Recipe, kind: str) -> str | None:
    return next((name for name, task in recipe.tasks.items() if task.kind == kind), None)


_QUESTIONS: dict[str, Callable[[UniPerceiver, str, Examples], Iterator[DemoAnswer]]] = {
    "image_classification": _classify_pictures,
    "image_captioning": _caption_pictures,
    "video_classification": _classify_clips,
    "text_classification": _classify_text,
    "image_text_retrieval": _rank_texts,
}

"""Examples: what the model saw, what is right, and what it answered, shown alike for every kind of answer."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from uniperceiver.evaluation.examples import Example
from uniperceiver.report.parts.numbers import finite
from uniperceiver.report.parts.pictures import Picture, fit_pictures
from uniperceiver.report.run.overlays import ClassKey, Overlay, class_keys, overlay_of, tally
from uniperceiver.report.run.records import RunReport

_PICTURES_BYTES = 3_000_000
_SOUNDS_BYTES = 4_000_000  # as data URIs; those that come later are left out
_ANSWERS = 5  # shown of each example
_NOTHING = "(no word)"  # an answer that the model ended at once
_LARGER = 3  # times the size of other pictures, where things are found in them
_SHARP = 80  # below this width a picture is not smoothed where it is scaled


@dataclass(frozen=True, kw_only=True)
class ShownAnswer:
    """Holds an answer with its probability; None: without a probability."""

    text: str
    share: float | None  # 0 to 1
    right: bool


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """Holds an example with its picture, if there was something to see and room for it."""

    example: Example
    picture: Picture | None
    player: str | None  # a WAV file as data URI, if there was something to hear and room for it
    sharp: bool  # small pictures show their pixels
    name: str  # the file's own name, without its folders
    answers: Sequence[ShownAnswer]
    overlay: Overlay | None  # over the picture


@dataclass(frozen=True, kw_only=True)
class ExampleGroup:
    """Holds the examples of a task."""

    task: str
    tone: int
    tally: str | None  # how many are right
    explained: str  # what they show; "": that explains itself
    examples: Sequence[ShownExample]
    keys: Sequence[ClassKey]  # colours of classes, where things are found in pictures
    more_keys: int  # classes beside these


def example_groups(report: RunReport) -> list[ExampleGroup]:
    """Gather the examples by task, with pictures that fit into the page."""
    factors = [1 if example.things is None else _LARGER for example in report.examples]
    pictures = fit_pictures([example.frames for example in report.examples], _PICTURES_BYTES, factors)
    shown = list(zip(report.examples, pictures, _players(report.examples), strict=True))
    groups = []
    for task in report.tasks:
        own = [of_example for of_example in shown if of_example[0].task == task]
        if not own:
            continue
        judged = [example.right for example, *_ in own if example.right is not None]
        things = [example.things for example, *_ in own if example.things is not None]
        keys, more_keys = class_keys(things)
        groups.append(
            ExampleGroup(
                task=task,
                tone=report.tone(task),
                tally=f"{sum(judged)} of {len(judged)} right" if judged else tally(things) or None,
                explained=report.explained.get(task, ""),
                examples=[_shown(*of_example) for of_example in own],
                keys=keys,
                more_keys=more_keys,
            )
        )
    return groups


def _players(examples: Sequence[Example]) -> list[str | None]:
    """The sounds of the examples as data URIs, as long as there is room."""
    players, left = list[str | None](), _SOUNDS_BYTES
    for example in examples:
        uri = None if example.sound is None else f"data:audio/wav;base64,{base64.b64encode(example.sound).decode()}"
        fits = uri is not None and len(uri) <= left
        left -= len(uri) if uri is not None and fits else 0
        players.append(uri if fits else None)
    return players


def _shown(example: Example, picture: Picture | None, player: str | None) -> ShownExample:
    right = {_plain(text) for text in example.truth}
    answers = []
    for text, probability in example.answers[:_ANSWERS]:
        share = finite(probability)
        share = None if share is None else min(max(share, 0.0), 1.0)
        answers.append(ShownAnswer(text=text or _NOTHING, share=share, right=_plain(text) in right))
    return ShownExample(
        example=example,
        picture=picture,
        player=player,
        sharp=picture is not None and max(picture.width, picture.height) < _SHARP,
        name=example.sample.rstrip("/").rsplit("/", 1)[-1],
        answers=answers,
        overlay=None if example.things is None else overlay_of(example.things),
    )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())

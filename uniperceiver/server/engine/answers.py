"""QUESTION + ITEMS -> ANSWERS: what an engine makes of a batch with whatever model it has.

Items of several clients are asked about together; one that cannot be used is told apart and fails alone.
"""

import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from uniperceiver.data.media.clips import stored_clip
from uniperceiver.data.media.decode import stored_size
from uniperceiver.data.media.sounds import stored_sound
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.modalities import TEXT
from uniperceiver.server.jobs import Answer
from uniperceiver.server.settings import Limits

Question = Mapping[str, Any]
Ask = Callable[[Sequence[bytes]], list[Answer]]
_PLACES = (
    "image 0: ",
    "clip 0: ",
    "sound 0: ",
    "text 0: ",
)  # how messages about an item that is asked about alone begin
_ELSE = "; give another file"
LARGE = 16.0  # megapixels of a job, which take about as long as 40 small pictures
_OF_CLIP = 0.2  # what a pixel of a frame takes to decode, beside that of a picture


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """The items of a job as their headers are, before anything is decoded."""

    items: Sequence[bytes]
    reasons: Sequence[str | None]  # why they are not asked about; None: they are
    megapixels: float  # of pictures and frames together, as far as they are asked about

    @property
    def is_large(self) -> bool:
        """Whether others shall not wait until this is decoded."""
        return self.megapixels > LARGE


class Noting(io.TextIOBase):
    """A stream in the place of the standard error stream, from which each thread may take what it writes itself.

    Args:
        other: where all else is written.
    """

    def __init__(self, other: TextIO) -> None:
        self._other, self._own = other, threading.local()

    def write(self, text: str) -> int:
        """Write, where the thread listens to itself for it, or else to the stream behind."""
        own: list[str] | None = getattr(self._own, "lines", None)
        if own is None:
            return self._other.write(text)
        own.append(text)
        return len(text)

    def flush(self) -> None:
        """As of the stream behind."""
        self._other.flush()

    def of(self, ask: Callable[[], list[Answer]]) -> tuple[list[Answer], list[str]]:
        """What a function gives, and the lines that it writes meanwhile."""
        self._own.lines = written = list[str]()
        try:
            answers = ask()
        finally:
            self._own.lines = None
        return answers, [line for line in "".join(written).splitlines() if line.strip()]


def answered(
    model: Any, question: Question, jobs: Sequence[LookedAt], noting: Noting
) -> Iterator[tuple[list[Answer], list[str]]]:
    """The answers about the items of each job, and what the model says beside them.

    Args:
        model: a `UniPerceiver`, or what has its methods.
        question: "kind", "modality" and the parameters of that kind; the same for all jobs.
        noting: the standard error stream.
    """

    def ask(items: Sequence[bytes]) -> list[Answer]:
        return _KINDS[question["kind"]](model, question, _inputs(question["modality"], items))

    def noted(items: Sequence[bytes]) -> tuple[list[Answer], list[str]]:
        return noting.of(lambda: _told_apart(ask, items) if items else [])

    fit = [[item for item, reason in zip(job.items, job.reasons, strict=True) if reason is None] for job in jobs]
    together, notes = noted([item for items in fit for item in items])
    rest = iter(together)
    for items, job in zip(fit, jobs, strict=True):
        of_job = [next(rest) for _ in items]
        own_notes = notes
        if notes and len(jobs) > 1:  # of whom they speak is only clear where a job is asked by itself
            of_job, own_notes = noted(items)
        answers = iter(of_job)
        yield (
            [next(answers) if reason is None else Answer(values={}, error=reason) for reason in job.reasons],
            own_notes,
        )


def _told_apart(ask: Ask, items: Sequence[bytes]) -> list[Answer]:
    """The answers; where some items cannot be used, halves are asked until each of these stands alone."""
    try:
        return ask(items)
    except UserError as error:
        if len(items) == 1:
            return [Answer(values={}, error=_reason(str(error)))]
        middle = len(items) // 2
        return _told_apart(ask, items[:middle]) + _told_apart(ask, items[middle:])


def _reason(message: str) -> str:
    """What is wrong, without the place in a batch, which the client does not know of."""
    for place in _PLACES:
        message = message.removeprefix(place)
    return message.removesuffix(_ELSE)


def looked_at(items: Sequence[bytes], modality: str, limits: Limits) -> LookedAt:
    """How large the items of a job are, and why some are not asked about."""
    reasons: list[str | None] = []
    pixels = 0.0
    for item in items:
        reason = None
        try:
            if modality == "image":
                size = stored_size(item, "")
                pixels += (millions := size.height * size.width / 1e6)
                reason = _too_large(millions, pixels, limits)
            elif modality == "video":
                clip = stored_clip(item, "", int(limits.megapixels * 1e6))
                reason = _too_long(clip.frames, clip.seconds, limits)
                pixels += 0.0 if reason else _OF_CLIP * clip.frames * clip.pixels / 1e6
            elif modality == "audio" and (seconds := stored_sound(item, "").seconds) > limits.sound_seconds:
                reason = f"{seconds:.0f} seconds, more than {limits.sound_seconds:g}; send a shorter sound"
        except BrokenSample as error:
            reason = error.reason
        except UserError as error:  # the package that decodes it is missing here
            reason = str(error)
        reasons.append(reason)
    return LookedAt(items=items, reasons=reasons, megapixels=0.0 if all(reasons) else pixels)


def _too_large(millions: float, together: float, limits: Limits) -> str | None:
    if millions > limits.megapixels:
        return f"{millions:.1f} megapixels, more than {limits.megapixels:g}; send a smaller picture"
    if together > limits.request_megapixels:
        return f"with those before it more than {limits.request_megapixels:g} megapixels; send it in another request"
    return None


def _too_long(frames: int, seconds: float, limits: Limits) -> str | None:
    if frames > limits.clip_frames:
        return f"{frames:,} frames, more than {limits.clip_frames:,}; send a shorter clip"
    if seconds > limits.clip_seconds:
        return f"{seconds:.0f} seconds, more than {limits.clip_seconds:g}; send a shorter clip"
    return None


def _inputs(modality: str, items: Sequence[bytes]) -> Any:
    """Items as the methods of a model take them, so that nothing is guessed from what they look like."""
    if modality == TEXT:
        return [item.decode() for item in items]
    return list(items) if modality == "image" else {modality: list(items)}


def _classify(model: Any, question: Question, inputs: Any) -> list[Answer]:
    """The probabilities of all labels, and behind them their cosines."""
    why = model.explain(
        inputs,
        question["labels"],
        question["task"],
        texts=question["text"],
        template=question["template"],
        modality=question["modality"],
        decisions=False,
    )
    values = {"temperature": why.temperature}
    both_N2K = np.concatenate([np.asarray(why.probability_NK), np.asarray(why.cosine_NK)], axis=1)
    return _rows(both_N2K, [values] * len(both_N2K))


def _embed(model: Any, question: Question, inputs: Any) -> list[Answer]:
    modality, task = question["modality"], question["task"]
    if modality == TEXT:
        lengths = [len(model.tokenizer.encode(text)) for text in inputs]
        return _rows(model.encode_text(inputs, task), [{"tokens": length} for length in lengths])
    if modality == "image":
        return _rows(model.encode_image(inputs, task))
    encode = model.encode_video if modality == "video" else model.encode_audio
    return _rows(encode(inputs[modality], task))


def _rows(x_NK: Any, values: Sequence[Mapping[str, Any]] | None = None) -> list[Answer]:
    rows = np.asarray(x_NK, dtype="<f4")
    return [
        Answer(values=more, floats=row.tobytes()) for row, more in zip(rows, values or [{}] * len(rows), strict=True)
    ]


def _caption(model: Any, question: Question, inputs: Any) -> list[Answer]:
    more = {}
    if question["words"] is not None:
        more["max_words"] = question["words"]
    texts = model.caption(inputs, question["beam"], question["task"], **more)
    return [Answer(values={"caption": text}) for text in texts]


def _detect(model: Any, question: Question, inputs: Any) -> list[Answer]:
    ask = model.segment if question["kind"] == "segment" else model.detect
    located = ask(inputs, question["labels"], question["task"], least=question["least"], most=question["most"])
    return [
        Answer(values={"height": things.size[0], "width": things.size[1], "detections": things.as_entries()})
        for things in located
    ]


def _experts(model: Any, question: Question, inputs: Any) -> list[Answer]:
    """How the tokens of each input are shared among the experts, and which expert most of each token is computed by."""
    decisions = model.routing(inputs, question["task"], texts=question["text"])
    answers: list[Answer] = []
    for place in range(len(decisions[0].valid_BN) if decisions else 0):
        gates = []
        for gate in decisions:
            valid_N = gate.valid_BN[place]
            weight_NE = gate.weight_BNE[place][valid_N]
            kinds = [kind for kind, is_there in zip(gate.kinds_N, valid_N.tolist(), strict=True) if is_there]
            gates.append(
                {
                    "layer": gate.layer,
                    "part": gate.part,
                    "gate": gate.gate,
                    "shares": [
                        round(share, 4) for share in (weight_NE.sum(axis=0) / max(weight_NE.sum(), 1e-9)).tolist()
                    ],
                    "confidence": round(float(gate.probability_BNE[place][valid_N].max(axis=1).mean()), 4),
                    "tokens": weight_NE.argmax(axis=1).tolist(),
                    "visual": sum(kind == "visual" for kind in kinds),
                }
            )
        answers.append(Answer(values={"gates": gates}))
    return answers


_KINDS: Mapping[str, Callable[[Any, Question, Any], list[Answer]]] = {
    "classify": _classify,
    "rank": lambda model, question, inputs: _rows(model.rank(inputs, question["texts"], question["task"])),
    "embed": _embed,
    "caption": _caption,
    "detect": _detect,
    "segment": _detect,
    "experts": _experts,
}

"""QUESTION + ITEMS -> ANSWERS: what an engine makes of a batch with whatever model it has.

Items of several clients are asked about together; one that cannot be used is told apart and fails alone.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from typing import Any

import numpy as np

from uniperceiver.data.media.clips import stored_clip
from uniperceiver.data.media.decode import stored_size
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.modalities import TEXT
from uniperceiver.server.jobs import Answer
from uniperceiver.server.settings import Limits

Question = Mapping[str, Any]
Ask = Callable[[Sequence[bytes]], list[Answer]]
_PLACES = ("image 0: ", "clip 0: ", "text 0: ")  # how messages about an item that is asked about alone begin
_ELSE = "; give another file"


def answered(
    model: Any, question: Question, jobs: Sequence[Sequence[bytes]], limits: Limits
) -> Iterator[tuple[list[Answer], list[str]]]:
    """The answers about the items of each job, and what the model says beside them.

    Args:
        model: a `UniPerceiver`, or what has its methods.
        question: "kind", "modality" and the parameters of that kind; the same for all jobs.
    """

    def ask(items: Sequence[bytes]) -> list[Answer]:
        return _KINDS[question["kind"]](model, question, _inputs(question["modality"], items))

    refused = [_refused(items, question["modality"], limits) for items in jobs]
    fit = [
        [item for item, reason in zip(items, reasons, strict=True) if reason is None]
        for items, reasons in zip(jobs, refused, strict=True)
    ]
    together, notes = _noted(ask, [item for items in fit for item in items])
    rest = iter(together)
    for items, reasons in zip(fit, refused, strict=True):
        of_job = [next(rest) for _ in items]
        own_notes = notes
        if notes and len(jobs) > 1:  # of whom they speak is only clear where a job is asked by itself
            of_job, own_notes = _noted(ask, items)
        answers = iter(of_job)
        yield [next(answers) if reason is None else Answer(values={}, error=reason) for reason in reasons], own_notes


def _noted(ask: Ask, items: Sequence[bytes]) -> tuple[list[Answer], list[str]]:
    with redirect_stderr(io.StringIO()) as written:
        answers = _told_apart(ask, items) if items else []
    return answers, [line for line in written.getvalue().splitlines() if line.strip()]


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


def _refused(items: Sequence[bytes], modality: str, limits: Limits) -> list[str | None]:
    """Why items of a job are not looked at; None: they are."""
    reasons: list[str | None] = []
    pixels = 0.0
    for item in items:
        try:
            if modality == "image":
                size = stored_size(item, "")
                pixels += (millions := size.height * size.width / 1e6)
                reasons.append(_too_large(millions, pixels, limits))
            elif modality == "video":
                clip = stored_clip(item, "", int(limits.megapixels * 1e6))
                reasons.append(_too_long(clip.frames, clip.seconds, limits))
            else:
                reasons.append(None)
        except BrokenSample as error:
            reasons.append(error.reason)
    return reasons


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
    probability_NK = model.classify(
        inputs,
        question["labels"],
        question["task"],
        texts=question["text"],
        template=question["template"],
        modality=question["modality"],
    )
    return _rows(probability_NK)


def _embed(model: Any, question: Question, inputs: Any) -> list[Answer]:
    modality, task = question["modality"], question["task"]
    if modality == TEXT:
        lengths = [len(model.tokenizer.encode(text)) for text in inputs]
        return _rows(model.encode_text(inputs, task), [{"tokens": length} for length in lengths])
    if modality == "image":
        return _rows(model.encode_image(inputs, task))
    return _rows(model.encode_video(inputs[modality], task))


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
    from uniperceiver.serving.regions.detect import as_entries

    ask = model.segment if question["kind"] == "segment" else model.detect
    located = ask(inputs, question["labels"], question["task"], least=question["least"], most=question["most"])
    return [
        Answer(values={"height": things.size[0], "width": things.size[1], "detections": as_entries(things)})
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

"""The answers of `uniperceiver predict`: files, folders or texts in, plain values out."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from uniperceiver.data.formats.files import existing_file, read_lines
from uniperceiver.errors import UserError, nearest, warn
from uniperceiver.modalities import TEXT
from uniperceiver.records.regions import LEAST, Detections
from uniperceiver.serving.inputs import in_order, modality_of, places_by_modality
from uniperceiver.serving.predict.drawn import DrawnPictures
from uniperceiver.serving.predict.tables import check_table
from uniperceiver.serving.predict.words import AskedAbout, asked_about
from uniperceiver.serving.values import name_of
from uniperceiver.waiting import bars

Answer = dict[str, Any]
Ask = Callable[[list[Path | str]], list[Answer]]

# Which options a question reads, beside those that all do.
_READ = {
    "classify": ("labels", "labels_file", "template", "question", "text"),
    "caption": ("beam",),
    "rank": ("texts",),
    "detect": ("labels", "labels_file", "least", "draw"),
    "segment": ("labels", "labels_file", "least", "draw"),
    "embed": ("text",),
}
_LOCATING = ("detect", "segment")
_NAMED = 10  # files that could not be used, in the lines about them


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, as the command line says it."""

    kind: str  # "classify", "caption", "rank", "detect", "segment" or "embed"
    task: str | None = None
    labels: Sequence[str] | None = None
    labels_file: Path | None = None
    template: Sequence[str] | None = None
    question: str | None = None  # a text that is read beside each file, such as a question about it
    texts: Sequence[str] | None = None
    beam: int | None = None
    text: bool = False  # the words are texts themselves
    least: float | None = None  # score below which a thing is left out
    draw: Path | None = None  # folder for pictures with the things drawn into them


def predict(
    model: Any,
    question: Question,
    words: Sequence[str],
    *,
    keep_going: bool = False,
    out: Path | None = None,
) -> list[Answer]:
    """Ask a model a question about files, folders or texts.

    Args:
        model: a `UniPerceiver`, or what has its methods.
        keep_going: answer all that can be used, and name the others.
        out: the table that is written later, which is checked before anything is asked.

    Returns:
        A mapping per file: {"file", "answer"} and, with candidates, {"scores": {text: value}}, best first; {"file",
        "vector"} of embed; or {"file", "error"} for what could not be used.

    Raises:
        UserError: a file that cannot be read, an unknown task, candidates that are missing, an option that the
            question does not read.
    """
    for kind, options in _READ.items():
        for option in options:
            value = getattr(question, option)
            if option not in _READ[question.kind] and value is not None and value is not False:  # 0 is a value
                name = option.replace("_", "-")
                raise UserError(f"predict {question.kind}: does not read --{name}, which is for {kind}; leave it out")
    modality = None
    if question.task is not None:
        if question.task not in model.tasks:
            raise UserError(f"unknown task {question.task!r}; {nearest(question.task, model.tasks)}")
        modality = model.tasks[question.task].inputs[0]
        _ask(model, question, modality)([])  # whether the task can be asked this at all
    about = asked_about(words, modality, as_text=question.text, keep_going=keep_going)
    check_table(out, about.things, vectors=question.kind == "embed")
    return _answers(about, _ask(model, question, about.modality), model.batch, keep_going)


def _ask(model: Any, question: Question, modality: str | None) -> Ask:
    """The question as a function of some files."""
    if question.kind == "caption":
        beam = 2 if question.beam is None else question.beam
        return lambda things: [{"answer": text} for text in model.caption(things, beam, question.task)]
    if question.kind == "embed":
        return partial(_embedded, model, question.task, modality)
    if question.kind in _LOCATING:
        drawn = None if question.draw is None else DrawnPictures(question.draw)
        named = _labels(question)
        if named is None and question.task is None:
            fitting = [
                name
                for name, asks in model.questions.items()
                if asks == "detect" and (model.tasks[name].masks or question.kind == "detect")
            ]
            if len(fitting) > 1:
                raise UserError(
                    f"predict {question.kind}: give --labels TEXT ..., or --task one of {', '.join(fitting)}"
                )
        return partial(_detected, getattr(model, question.kind), question, named, drawn)
    if question.kind == "rank":
        if not question.texts:
            raise UserError("predict rank: give the texts to compare with: --texts TEXT ...")
        texts = question.texts
        return lambda things: _scored(texts, model.rank(things, texts, question.task).tolist())
    labels = _labels(question)
    asked = None if question.task is None else model.tasks[question.task]
    if labels is None and asked is None:
        tasks = (name for name, asks in model.questions.items() if asks == "classify")
        raise UserError(
            f"predict classify: give --labels TEXT ..., or --task one of {', '.join(tasks) or '(none has labels)'}"
        )
    if asked is not None and TEXT in asked.inputs and asked.inputs != (TEXT,) and not question.question:
        raise UserError(
            f"predict classify: task {question.task!r} reads a text beside each file; give it with --question TEXT"
        )

    def classified(things: list[Path | str]) -> list[Answer]:
        scores = model.classify(
            things, labels, question.task, texts=question.question, template=question.template, modality=modality
        )
        names = [texts[0] for texts in labels] if labels is not None else model.labels(question.task)
        return _scored(names, scores.tolist())

    return classified


def _embedded(model: Any, task: str | None, modality: str | None, things: list[Path | str]) -> list[Answer]:
    """The unit vector of each picture, clip or text."""
    encode: dict[str, Callable[..., Any]] = {
        "image": model.encode_image,
        "video": model.encode_video,
        "audio": model.encode_audio,
        TEXT: model.encode_text,
    }
    places = places_by_modality(things) if modality is None else {}
    if places:
        vectors = in_order(places, things, lambda name, part: encode[name](part, task))
    else:
        vectors = list(encode[modality_of(things, modality, text=False)](things, task))
    return [{"vector": vector.tolist()} for vector in vectors]


def _detected(
    ask: Callable[..., list[Detections]],
    question: Question,
    labels: list[list[str]] | None,
    drawn: DrawnPictures | None,
    things: list[Path | str],
) -> list[Answer]:
    """The things in each picture, and the pictures with them drawn where that is asked for."""
    least = LEAST if question.least is None else question.least
    answers = []
    for thing, answer in zip(things, ask(things, labels, question.task, least=least), strict=True):
        if drawn is not None:
            drawn.add(Path(thing), answer)
        counts = Counter(answer.labels)
        answers.append(
            {
                "answer": ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing",
                "height": answer.size[0],
                "width": answer.size[1],
                "detections": answer.as_entries(),
            }
        )
    return answers


def _labels(question: Question) -> list[list[str]] | None:
    """The texts of each class; in a file a line is a class, with tabs between its texts."""
    if question.labels_file is None:
        return None if question.labels is None else [[label] for label in question.labels]
    if question.labels is not None:
        raise UserError(
            f"predict {question.kind}: --labels and --labels-file are two sets of candidates; give one of them"
        )
    path = existing_file(Path(), str(question.labels_file), "--labels-file")
    lines = read_lines(path, "--labels-file")
    if not lines:
        raise UserError(f"--labels-file {question.labels_file}: is empty; write a label on each line")
    return [[text.strip() for text in line.split("\t") if text.strip()] for _, line in lines]


def _answers(about: AskedAbout, ask: Ask, batch: int, keep_going: bool) -> list[Answer]:
    """The answers in the order of what is asked about, batch by batch."""
    answers: list[Answer] = []
    total = len(about.things)
    with bars(quiet=total <= batch) as shown:
        for start in range(0, total, batch):
            names, things = about.names[start : start + batch], list(about.things[start : start + batch])
            try:
                batch_answers = ask(things)
            except UserError:
                if not keep_going:
                    raise
                batch_answers = [_alone(thing, ask) for thing in things]
            answers += [{"file": name, **answer} for name, answer in zip(names, batch_answers, strict=True)]
            shown.move("asking", len(answers), total)
    broken = [answer for answer in answers if "error" in answer]
    for answer in broken[:_NAMED]:
        warn(f"{answer['file']}: {answer['error']}")
    if broken:
        more = f" ({len(broken) - _NAMED:,} of them are not named here)" if len(broken) > _NAMED else ""
        warn(f"{len(broken):,} of {total:,} could not be used{more}")
    return answers


def _alone(thing: Path | str, ask: Ask) -> Answer:
    """The answer about one file, or why it cannot be used; what is wrong with the question itself is raised."""
    name = name_of(thing, "") if isinstance(thing, Path) else "text 0"
    try:
        return ask([thing])[0]
    except UserError as error:
        about, reason = str(error)[: len(name) + 2], str(error)[len(name) + 2 :]
        if about != f"{name}: ":
            raise
        return {"error": reason}


def _scored(names: Sequence[str], scores_NK: list[list[float]]) -> list[Answer]:
    """Scores by name, best first; two candidates of one name are told apart by a number."""
    apart: dict[str, None] = {}
    for name in names:
        number = 1 + sum(name == other for other in list(names)[: len(apart)])
        apart[name if number == 1 else f"{name} ({number})"] = None
    answers = []
    for scores_K in scores_NK:
        scores = dict(sorted(zip(apart, scores_K, strict=True), key=lambda pair: -pair[1]))
        answers.append({"answer": next(iter(scores)), "scores": scores})
    return answers

"""The answers of `uniperceiver predict`: files in, plain values out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uniperceiver.devices import device_of
from uniperceiver.errors import UserError, warn
from uniperceiver.modalities import TEXT
from uniperceiver.model.architecture import notes_on
from uniperceiver.serving.predictor import UniPerceiver

_SHOWN = 5  # candidates per file on the console


def answer(
    path: Path,
    question: str,
    files: Sequence[str],
    *,
    labels: Sequence[str] | None,
    texts: Sequence[str] | None,
    task: str | None,
    asked: str | None = None,
    beam: int,
    device: str,
) -> list[dict[str, Any]]:
    """One mapping per file: {"file", "answer"} and, with candidates, {"scores": {text: value}}, best first.

    Args:
        asked: a text that is read beside each file, such as a question about it.

    Raises:
        UserError: a file that cannot be read, an unknown task, or candidates that are missing.
    """
    model = UniPerceiver.from_pretrained(path, device_of(device))
    for note in notes_on(model.saved.arch):
        warn(note)
    if question == "caption":
        captions = model.caption(files, beam, task)
        return [{"file": file, "answer": caption} for file, caption in zip(files, captions, strict=True)]
    if question == "rank":
        if not texts:
            raise UserError("predict rank: give the texts to compare with: --texts TEXT ...")
        return _scored(files, texts, model.rank(files, texts, task).tolist())
    if labels is None and task is None:
        raise UserError(f"predict classify: give --labels TEXT ..., or --task one of {_classifying(model)}")
    known = None if task is None else model.saved.tasks.get(task)
    if known is not None and known.task.media and TEXT in known.task.inputs and not asked:
        raise UserError(f"predict classify: task {task!r} reads a text beside each file; give it with --question TEXT")
    rows = model.classify(files, labels, task, texts=asked).tolist()
    if known is not None and labels is None:
        labels = known.task.answer.names(known.task, model.codec)
    return _scored(files, labels or (), rows)


def _classifying(model: UniPerceiver) -> str:
    tasks = (name for name, known in model.saved.tasks.items() if known.task.answer.question == "classify")
    return ", ".join(tasks) or "(none has labels)"


def _scored(files: Sequence[str], names: Sequence[str], rows: list[list[float]]) -> list[dict[str, Any]]:
    answers = []
    for file, row in zip(files, rows, strict=True):
        scores = dict(sorted(zip(names, row, strict=True), key=lambda pair: -pair[1]))
        answers.append({"file": file, "answer": next(iter(scores)), "scores": scores})
    return answers


def as_text(answers: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for people."""
    lines = []
    for one in answers:
        lines.append(f"{one['file']}: {one['answer']}")
        lines += [f"    {value:7.3f}  {name}" for name, value in list(one.get("scores", {}).items())[:_SHOWN]]
    return lines

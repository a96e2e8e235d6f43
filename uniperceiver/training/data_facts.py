"""TASKS -> FACTS OF THEIR DATA: what a checkpoint says of the data it was trained on, and what has changed since."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from uniperceiver.data.formats import Source, class_names
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample

_LOOKED_AT = 8  # samples of a split that stand for all: reading a whole set would take as long as an epoch
_SHOWN = 5  # classes in a message


def data_facts(tasks: Sequence[TaskData]) -> dict[str, Any]:
    """Describe the data of tasks in plain JSON: {task: {"classes", "texts", "splits": {split: {...}}}}.

    `classes` are names and `texts` a SHA-256 of what the model reads of them; of a task without classes they are None.
    Of a split there are the number of `samples`, and of some that lie evenly over it two SHA-256: `some` of their
    files, texts and single classes, and `sets` of the classes of those with several, where there are such samples.
    """
    facts = {}
    for data in tasks:
        labels = data.task.labels
        first = next(iter(data.sources.values()))
        names = class_names(first) if labels else None
        facts[data.task.name] = {
            "classes": None if names is None else list(names),
            "texts": _sha256(labels) if labels else None,
            "splits": {split: _of_split(source) for split, source in data.sources.items()},
        }
    return facts


def changes_of_data(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> list[str]:
    """Lines about what the data are not any more; nothing of tasks that `before` does not know.

    Raises:
        UserError: a task has other classes, or other texts for them; `where` was trained on the former ones.
    """
    lines = []
    for task, facts in now.items():
        former = before.get(task, facts)
        if former["texts"] != facts["texts"]:
            change = other_classes(former["classes"] or [], facts["classes"] or [])
            raise UserError(
                f"{where}: was trained with other classes of task {task!r} ({change}); give the data their former "
                "classes, or begin a new run with another --out"
            )
        for split, there in facts["splits"].items():
            old = former["splits"].get(split, there)
            if old["samples"] != there["samples"]:
                lines.append(f"{task}/{split} has {there['samples']} samples, {old['samples']} when the run was saved")
            elif old["some"] != there["some"] or old.get("sets") not in (
                None,
                there.get("sets"),
            ):  # None: of an older run
                lines.append(f"{task}/{split} has other samples than when the run was saved, though as many")
    return lines


def _of_split(source: Source) -> dict[str, Any]:
    """How many samples a split has, and what some of them hold."""
    samples, count = list[Sample | BrokenSample](), min(_LOOKED_AT, len(source))
    for place in range(count):
        try:
            samples.append(source.read(place * (len(source) - 1) // max(count - 1, 1)))
        except BrokenSample as error:
            samples.append(error)
    sets = [() if isinstance(sample, BrokenSample) else tuple(sorted(sample.labels)) for sample in samples]
    facts = {"samples": len(source), "some": _sha256([*map(_described, samples)])}
    return facts | ({"sets": _sha256(sets)} if any(sets) else {})


def _described(sample: Sample | BrokenSample) -> list[str]:
    """What a sample holds, and what is said of it."""
    if isinstance(sample, BrokenSample):
        return [sample.sample]
    # Not by its name where there is a file: the data may have moved.
    files = [value for value in (sample.image, sample.clip) if isinstance(value, bytes)]
    what = [hashlib.sha256(file).hexdigest() for file in files] or [sample.id]
    return [*what, str(sample.label), sample.text or "", *sample.captions]


def other_classes(before: Sequence[str], now: Sequence[str]) -> str:
    """The difference of two lists of classes in words."""
    parts = []
    for word, names in (("gone", [*filter(lambda name: name not in now, before)]),
                        ("new", [*filter(lambda name: name not in before, now)])):  # fmt: skip
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{word}: {', '.join(names[:_SHOWN])}{more}")
    return "; ".join(parts) or ("another order" if list(before) != list(now) else "other texts for them")


def _sha256(value: Any) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()

"""What `uniperceiver data check` tells: everything of a recipe's data is read once, and what is broken is named."""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from uniperceiver.config import Recipe
from uniperceiver.data.formats import class_names
from uniperceiver.data.loader import load
from uniperceiver.data.prepare.inspector import Fault, Findings, Inspector, named_twice, spans
from uniperceiver.data.prepare.sets import RecipeSet, sets_of
from uniperceiver.data.tasks import TaskData, open_tasks
from uniperceiver.data.vocabulary import text_encoder
from uniperceiver.errors import UserError
from uniperceiver.serving.locate import model_folder
from uniperceiver.tokenizers import bpe


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The smallest, the middle and the largest of some numbers."""

    least: int
    median: int
    most: int


@dataclass(frozen=True, kw_only=True)
class Texts:
    """How long the texts of a set are for a task."""

    use: str
    texts: int
    tokens: Spread  # with the end token and, where there is one, the template
    length: int  # what the task takes
    longer: int  # texts that are cut


@dataclass(frozen=True, kw_only=True)
class Classes:
    """How the samples are spread over the classes."""

    classes: int
    smallest: str
    smallest_samples: int
    largest: str
    largest_samples: int
    empty: tuple[str, ...]  # without a sample


@dataclass(frozen=True, kw_only=True)
class SetReport:
    """What was found in a source."""

    used_by: tuple[str, ...]  # task/split
    format: str
    samples: int
    broken: int  # samples that are of no use to some task
    sizes: dict[str, Spread]  # "image width", "clip frames", ...; in pixels
    classes: Classes | None
    texts: tuple[Texts, ...]
    faults: tuple[Fault, ...]
    named_twice: dict[str, int]  # how often, by name
    stops: tuple[str, ...]  # uses that more samples are broken for than data.max_broken allows


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in all."""

    tokenizer: str | None  # that lengths are counted with; None: there are no texts
    samples: int
    broken: int
    sets: tuple[SetReport, ...]

    @property
    def clean(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.broken and not any(each.named_twice for each in self.sets)


def check_data(recipe: Recipe, base: Path, workers: int, *, quiet: bool = False) -> Report:
    """Read, decode and count every sample of a recipe; a source that several tasks use is read once.

    Args:
        workers: processes; 0: this one.

    Raises:
        UserError: the recipe is wrong, or data of a whole set are not there.
    """
    tasks = open_tasks(recipe, base)
    sets = sets_of(tasks)
    codec, tokenizer = _codec(recipe, tasks, base)
    found = _read(sets, codec, workers, quiet)
    reports = tuple(_report(recipe, *each) for each in zip(sets, found, strict=True))
    return Report(
        tokenizer=tokenizer,
        samples=sum(each.samples for each in reports),
        broken=sum(each.broken for each in reports),
        sets=reports,
    )


def _codec(recipe: Recipe, tasks: Sequence[TaskData], base: Path) -> tuple[bpe.TextEncoder | None, str | None]:
    """The text encoder that a run of the recipe would have, and what it is."""
    if all(data.task.inputs == data.task.media and data.task.answer.has_labels for data in tasks):
        return None, None
    start, vocabulary = recipe.model.start, recipe.model.vocabulary
    if start is not None:
        near = base / Path(start).expanduser()
        return bpe.load(model_folder(near if near.exists() else start) / "tokenizer.json"), f"that of {start}"
    codec = text_encoder(recipe, list(tasks), base)
    learnt = f"{codec.size} entries learnt from the recipe's texts, as train does"
    return codec, vocabulary if isinstance(vocabulary, str) else learnt


def _read(sets: Sequence[RecipeSet], codec: bpe.TextEncoder | None, workers: int, quiet: bool) -> list[Findings]:
    data = tuple(each.samples for each in sets)
    found = [Findings() for _ in data]
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        bars = [progress.add_task(each.uses[0].name, total=len(each.source)) for each in data]
        for span, part in load(Inspector(data, codec), spans(data), workers):
            found[span.set].add(part)
            progress.update(bars[span.set], completed=span.stop)
    return found


def _report(recipe: Recipe, one: RecipeSet, found: Findings) -> SetReport:
    uses = one.samples.uses
    allowed = max(1, recipe.data.max_broken * found.samples)
    broken = Counter(use for fault in found.faults for use in fault.uses)
    return SetReport(
        used_by=tuple(use.name for use in uses),
        format=str(one.spec["format"]),
        samples=found.samples,
        broken=found.broken,
        sizes={name: _spread(counts) for name, counts in found.sizes.items()},
        classes=_classes(one, found),
        texts=tuple(
            _texts(use.name, use.preprocess.length, found.tokens[use.name]) for use in uses if found.tokens[use.name]
        ),
        faults=tuple(found.faults),
        named_twice=named_twice(one.samples.source, found),
        stops=tuple(use.name for use in uses if broken[use.name] > allowed),
    )


def _spread(counts: Counter[int]) -> Spread:
    values = sorted(counts)
    up_to = list(itertools.accumulate(counts[value] for value in values))
    middle = next(value for value, below in zip(values, up_to, strict=True) if 2 * below >= up_to[-1])
    return Spread(least=values[0], median=middle, most=values[-1])


def _texts(use: str, length: int, counts: Counter[int]) -> Texts:
    longer = sum(count for tokens, count in counts.items() if tokens > length)
    return Texts(use=use, texts=counts.total(), tokens=_spread(counts), length=length, longer=longer)


def _classes(one: RecipeSet, found: Findings) -> Classes | None:
    names = class_names(one.samples.source)
    if names is None or not found.labels:
        return None
    counts = [found.labels[label] for label in range(len(names))]
    order = sorted((count, label) for label, count in enumerate(counts) if count)
    (least, smallest), (most, largest) = order[0], max(order, key=lambda each: each[0])
    return Classes(
        classes=len(names),
        smallest=names[smallest],
        smallest_samples=least,
        largest=names[largest],
        largest_samples=most,
        empty=tuple(name for name, count in zip(names, counts, strict=True) if not count),
    )


def as_text(report: Report) -> Iterator[str]:
    """Lines for people."""
    for each in report.sets:
        yield f"{', '.join(each.used_by)} ({each.format}): {each.samples:,} samples, {each.broken:,} broken"
        yield from (f"  {line}" for line in _set_lines(each))
    if report.tokenizer is not None:
        yield f"tokens are counted with the vocabulary of the recipe: {report.tokenizer}"
    yield f"{report.broken:,} of {report.samples:,} samples are broken"


def _set_lines(one: SetReport) -> Iterator[str]:
    for kind in ("image", "clip"):
        several = [f"{name.split()[1]} {_told(size)}" for name, size in one.sizes.items() if name.startswith(kind)]
        if several:
            yield f"{kind}s: {'; '.join(several)}"
    if (classes := one.classes) is not None:
        yield (
            f"classes: {classes.classes}, from {classes.smallest_samples:,} ({classes.smallest}) to "
            f"{classes.largest_samples:,} samples ({classes.largest})"
        )
        if classes.empty:
            yield f"classes without a sample: {', '.join(classes.empty)}"
    for text in one.texts:
        longer = f"{text.longer:,} longer than length {text.length}"
        yield f"texts of {text.use}: {text.texts:,}; tokens {_told(text.tokens)}; {longer}"
    for fault in one.faults:
        part = "" if fault.uses == one.used_by else f" (for {', '.join(fault.uses)})"
        yield f"broken: {fault.sample}: {fault.reason}{part}"
    for name, count in one.named_twice.items():
        yield f"one name, {count} samples: {name}"
    if one.stops:
        yield f"more than data.max_broken allows; training or evaluation would stop: {', '.join(one.stops)}"


def _told(size: Spread) -> str:
    return f"{size.least} to {size.most}, median {size.median}" if size.least < size.most else str(size.least)


def workers_of(given: int | None) -> int:
    """How many processes read.

    Raises:
        UserError: not a number of processes.
    """
    if given is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if given < 0:
        raise UserError(f"--workers: {given} is no number of processes; give 1 or more, or 0 to read in this one")
    return given

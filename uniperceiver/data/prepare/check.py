"""CHECK: everything of a recipe's data is read once, and what is broken is named."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from uniperceiver.config import Recipe
from uniperceiver.data.formats import class_names, notes_of
from uniperceiver.data.formats.tables.values import left_out_captions
from uniperceiver.data.loader import load
from uniperceiver.data.prepare.inspector import Fault, Findings, Inspector, Use, named_twice, spans
from uniperceiver.data.prepare.sets import RecipeSet, sets_of
from uniperceiver.data.tasks import TaskData, alike_notes, open_tasks, repeated_notes
from uniperceiver.data.vocabulary import text_encoder
from uniperceiver.own_code import import_code
from uniperceiver.tokenizers import bpe
from uniperceiver.waiting import bars

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The smallest, the middle and the largest of some numbers."""

    least: float
    median: float
    most: float


@dataclass(frozen=True, kw_only=True)
class TextLengths:
    """How long the texts of a set are for a task."""

    use: str
    texts: int
    tokens: Spread  # with the end token and, where there is one, the template
    length: int  # what the task takes
    longer: int  # texts that are cut


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """How the samples are spread over the classes."""

    classes: int
    smallest: str
    smallest_samples: int
    largest: str
    largest_samples: int
    empty: tuple[str, ...]  # without a sample


@dataclass(frozen=True, kw_only=True)
class ThingCounts:
    """What is marked in the pictures of a set."""

    things: int
    per_picture: Spread
    without: int  # pictures of nothing
    sides: Spread  # root of a box's share of its picture, in per cent
    sizes: dict[str, int]  # small, medium, large, as COCO counts them; without crowds
    crowds: int
    outlines: int | None  # things with one; None: no task asks for masks
    classes: dict[str, int]  # things by class
    queries: int | None  # of the recipe's model; None: it makes no proposals
    more_than_queries: int  # pictures with more things


@dataclass(frozen=True, kw_only=True)
class SetReport:
    """What was found in a source."""

    used_by: tuple[str, ...]  # task/split
    format: str
    samples: int
    broken: int  # samples that are of no use to some task
    notes: tuple[str, ...]  # what was left out when the source was opened
    sizes: dict[str, Spread]  # "image width", "clip frames", ...; in pixels
    classes: ClassCounts | None
    things: ThingCounts | None  # None: no task asks for them
    texts: tuple[TextLengths, ...]
    faults: tuple[Fault, ...]
    named_twice: dict[str, int]  # how often, by name
    stops: tuple[str, ...]  # uses that more samples are broken for than data.max_broken allows


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What was found in all."""

    tokenizer: str | None  # that lengths are counted with; None: there are no texts
    samples: int
    broken: int
    sets: tuple[SetReport, ...]
    notes: tuple[str, ...] = ()  # about classes that no answer can tell apart

    @property
    def clean(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.broken and not any(report.named_twice for report in self.sets)


def check_data(
    recipe: Recipe, base: Path, workers: int, *, find_model: Callable[[str | Path], Path], quiet: bool = False
) -> DataReport:
    """Read, decode and count every sample of a recipe; a source that several tasks use is read once.

    Args:
        workers: processes; 0: this one.
        find_model: gives the folder of the model that `model.start` names, whose vocabulary counts tokens.

    Raises:
        UserError: the recipe is wrong, or data of a whole set are not there.
    """
    import_code(recipe.imports, base)
    tasks = open_tasks(recipe, base)
    sets = sets_of(tasks)
    codec, tokenizer = _codec(recipe, tasks, base, find_model)
    findings = _read(sets, codec, workers, quiet)
    reports = tuple(_report(recipe, *pair) for pair in zip(sets, findings, strict=True))
    return DataReport(
        tokenizer=tokenizer,
        samples=sum(report.samples for report in reports),
        broken=sum(report.broken for report in reports),
        sets=reports,
        notes=tuple(note for data in tasks for note in (*repeated_notes(data), *alike_notes(data, _read_loosely))),
    )


def _read_loosely(text: str) -> str:
    """A text as a vocabulary in lower case reads it, in which neither letters' size nor spaces matter."""
    return " ".join(text.casefold().split())


def _codec(
    recipe: Recipe, tasks: Sequence[TaskData], base: Path, find_model: Callable[[str | Path], Path]
) -> tuple[bpe.TextEncoder | None, str | None]:
    """The text encoder that a run of the recipe would have, and what it is."""
    if all(data.task.inputs == data.task.media and data.task.answer.has_labels for data in tasks):
        return None, None
    start, vocabulary = recipe.model.start, recipe.model.vocabulary
    if start is not None:
        near = base / Path(start).expanduser()
        return bpe.load(find_model(near if near.exists() else start) / "tokenizer.json"), f"that of {start}"
    codec = text_encoder(recipe, list(tasks), base)
    learnt = f"{codec.size} entries learnt from the recipe's texts, as train does"
    return codec, vocabulary if isinstance(vocabulary, str) else learnt


def _read(sets: Sequence[RecipeSet], codec: bpe.TextEncoder | None, workers: int, quiet: bool) -> list[Findings]:
    data = tuple(data_set.samples for data_set in sets)
    findings = [Findings() for _ in data]
    with bars(quiet=quiet) as shown:
        for span, counted in load(Inspector(data, codec), spans(data), workers):
            findings[span.set].add(counted)
            samples = data[span.set]
            shown.move(samples.uses[0].name, span.stop, len(samples.source))
    return findings


def _report(recipe: Recipe, data_set: RecipeSet, findings: Findings) -> SetReport:
    uses = data_set.samples.uses
    allowed = max(1, recipe.data.max_broken * findings.samples)
    broken = Counter(use for fault in findings.faults for use in fault.uses)
    return SetReport(
        used_by=tuple(use.name for use in uses),
        format=str(data_set.spec["format"]),
        samples=findings.samples,
        broken=findings.broken,
        notes=(
            *notes_of(data_set.samples.source),
            *left_out_captions(uses[0].name, findings.left_out["captions"]),
            *_cut_boxes(uses[0].name, findings),
            *_odd_sounds(uses, findings),
        ),
        sizes={name: _spread(counts) for name, counts in findings.sizes.items()},
        classes=_classes(data_set, findings),
        things=_things(recipe, data_set, findings),
        texts=tuple(_text_lengths(use, findings.tokens[use.name]) for use in uses if findings.tokens[use.name]),
        faults=tuple(findings.faults),
        named_twice=named_twice(data_set.samples.source, findings),
        stops=tuple(use.name for use in uses if broken[use.name] > allowed),
    )


def _things(recipe: Recipe, data_set: RecipeSet, findings: Findings) -> ThingCounts | None:
    counts = findings.things
    if not counts.per_picture:
        return None
    names = class_names(data_set.samples.source) or ()
    queries = recipe.model.regions.queries if recipe.model.image == "regions" else None
    more = sum(count for things, count in counts.per_picture.items() if queries is not None and things > queries)
    return ThingCounts(
        things=counts.labels.total(),
        per_picture=_spread(counts.per_picture),
        without=counts.per_picture[0],
        sides=_spread(counts.sides or Counter({0: 1})),
        sizes={size: counts.sizes[size] for size in ("small", "medium", "large")},
        crowds=counts.kinds["crowds"],
        outlines=counts.kinds["outlines"] if any(use.task.masks for use in data_set.samples.uses) else None,
        classes={name: counts.labels[label] for label, name in enumerate(names)},
        queries=queries,
        more_than_queries=more,
    )


def _spread(counts: Counter[Number]) -> Spread:
    values = sorted(counts)
    up_to = list(itertools.accumulate(counts[value] for value in values))
    middle = next(value for value, below in zip(values, up_to, strict=True) if 2 * below >= up_to[-1])
    return Spread(least=values[0], median=middle, most=values[-1])


def _text_lengths(use: Use, counts: Counter[int]) -> TextLengths:
    length = use.preprocess.length
    longer = sum(count for tokens, count in counts.items() if tokens > length)
    return TextLengths(use=use.name, texts=counts.total(), tokens=_spread(counts), length=length, longer=longer)


def _cut_boxes(name: str, findings: Findings) -> Iterator[str]:
    """Lines about boxes that reach out of pictures whose size nobody had said."""
    outside, beyond = "outside their picture are left out", "reach out of their picture and are clipped"
    for key, what in (("boxes", outside), ("edges", beyond)):
        if count := findings.left_out[key]:
            yield f"{name}: {count:,} boxes {what}"


def _odd_sounds(uses: Sequence[Use], findings: Findings) -> Iterator[str]:
    """Lines about sounds that are silent, or shorter than what a task hears of them."""
    lengths = findings.sizes["sound seconds"] if "sound seconds" in findings.sizes else Counter[float]()
    if count := findings.left_out["silent"]:
        yield f"{uses[0].name}: {count:,} of {lengths.total():,} sounds are silent"
    for use in uses:
        short = sum(count for seconds, count in lengths.items() if seconds < round(use.preprocess.seconds, 2))
        if use.task.hears and short:
            yield (
                f"{use.name}: {short:,} of {lengths.total():,} sounds are shorter than seconds "
                f"{use.preprocess.seconds:g}, and lie in silence"
            )


def _classes(data_set: RecipeSet, findings: Findings) -> ClassCounts | None:
    names = class_names(data_set.samples.source)
    if names is None or not findings.labels:
        return None
    counts = [findings.labels[label] for label in range(len(names))]
    order = sorted((count, label) for label, count in enumerate(counts) if count)
    (least, smallest), (most, largest) = order[0], max(order, key=lambda pair: pair[0])
    return ClassCounts(
        classes=len(names),
        smallest=names[smallest],
        smallest_samples=least,
        largest=names[largest],
        largest_samples=most,
        empty=tuple(name for name, count in zip(names, counts, strict=True) if not count),
    )

"""What the commands below `data` print for people."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from uniperceiver.errors import listed

if TYPE_CHECKING:
    from uniperceiver.data.prepare.check import DataReport, SetReport, Spread, ThingCounts
    from uniperceiver.data.prepare.prepare import PreparedData

_CLASSES = 30  # that a line names
_MOST = 200  # lines about broken samples of a source


def check_lines(report: "DataReport") -> Iterator[str]:
    """What a check of a recipe's data found, line by line."""
    seen: set[str] = set()  # of a source that is read in parts, once
    for source in report.sets:
        yield f"{', '.join(source.used_by)} ({source.format}): {source.samples:,} samples, {source.broken:,} broken"
        yield from (f"  {note}" for note in source.notes if note not in seen)
        seen.update(source.notes)
        yield from (f"  {line}" for line in _set_lines(source))
    yield from report.notes
    if report.tokenizer is not None:
        yield f"tokens are counted with the vocabulary of the recipe: {report.tokenizer}"
    yield f"{report.broken:,} of {report.samples:,} samples are broken"


def prepared_lines(prepared: "PreparedData") -> Iterator[str]:
    """What was written, line by line."""
    for summary in prepared.sets:
        left_out = f"; {summary.broken:,} broken left out" if summary.broken else ""
        shards = f"{summary.shards} shard{'s' * (summary.shards > 1)}"
        yield f"{summary.name}: {summary.samples:,} samples in {shards}, {summary.bytes / 1e6:,.1f} MB{left_out}"
        yield from (f"  {note}" for note in summary.notes)
    if any(summary.broken for summary in prepared.sets):
        yield f"broken: {prepared.folder / 'broken.json'}"
    yield f"recipe: {prepared.folder / 'recipe.yaml'}"


def _set_lines(report: "SetReport") -> Iterator[str]:
    for noun in dict.fromkeys(name.split()[0] for name in report.sizes):
        sizes = [f"{name.split()[1]} {_range(size)}" for name, size in report.sizes.items() if name.startswith(noun)]
        yield f"{noun}s: {'; '.join(sizes)}"
    if (classes := report.classes) is not None:
        yield (
            f"classes: {classes.classes}, from {classes.smallest_samples:,} ({classes.smallest}) to "
            f"{classes.largest_samples:,} samples ({classes.largest})"
        )
        if classes.empty:
            yield f"classes without a sample: {listed(classes.empty)}"
    if report.things is not None:
        yield from _thing_lines(report.things)
    for text in report.texts:
        longer = f"{text.longer:,} longer than length {text.length}"
        yield f"texts of {text.use}: {text.texts:,}; tokens {_range(text.tokens)}; {longer}"
    for fault in report.faults[:_MOST]:
        uses = "" if fault.uses == report.used_by else f" (for {', '.join(fault.uses)})"
        yield f"broken: {fault.sample}: {fault.reason}{uses}"
    if len(report.faults) > _MOST:
        yield f"and {len(report.faults) - _MOST:,} broken more; --json names them all"
    for name, count in islice(report.named_twice.items(), _MOST):
        yield f"one name, {count} samples: {name}"
    if len(report.named_twice) > _MOST:
        yield f"and {len(report.named_twice) - _MOST:,} such names more; --json names them all"
    if report.stops:
        yield f"more than data.max_broken allows; training or evaluation would stop: {', '.join(report.stops)}"


def _thing_lines(things: "ThingCounts") -> Iterator[str]:
    outlines = "" if things.outlines is None else f"; {things.outlines:,} with an outline"
    yield (
        f"things: {things.things:,}; in a picture {_range(things.per_picture)}; {things.without:,} pictures of nothing"
        f"; {things.crowds:,} crowds{outlines}"
    )
    sizes = ", ".join(f"{count:,} {size}" for size, count in things.sizes.items())
    yield f"their sides, in per cent of the picture's: {_range(things.sides)}; {sizes} (COCO: 32, 96 pixels)"
    by_count = sorted(things.classes.items(), key=lambda pair: -pair[1])
    yield f"things of each class: {listed((f'{count:,} {name}' for name, count in by_count), _CLASSES)}"
    if things.more_than_queries:
        yield (
            f"more things than model.regions.queries {things.queries}: in {things.more_than_queries:,} pictures, up to "
            f"{things.per_picture.most}; the surplus is not learnt there"
        )


def _range(size: "Spread") -> str:
    return f"{size.least} to {size.most}, median {size.median}" if size.least < size.most else str(size.least)

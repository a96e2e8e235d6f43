"""Writing captions: the cache against none, words per second, and what a later word costs beside an earlier one.

python -m benchmarks.caption [RUN] [--quick] [--json FILE]; without a run, models with random weights.

Shape suffixes: B sequences, D width, V vocabulary, H heads, d head width.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from benchmarks.harness import QUICK_PAIRS, BenchmarkRow, figure, main, ratio
from benchmarks.parts import sequences_of
from benchmarks.without_cache import WithoutCache
from uniperceiver import ModelConfig, MoEConfig
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import UserError
from uniperceiver.model import attention
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.records import Sequences
from uniperceiver.runs.architecture import architecture
from uniperceiver.serving import saved as saved_files
from uniperceiver.serving.locate import model_folder
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.candidates import Candidates, represent_in_chunks, vocabulary_sequences
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.decode import Generated, Writer, generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.task import TEMPERATURES, Task

VOCABULARY = 2000


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that writes, and what it is shown."""

    name: str
    model: Generalist
    task: Task
    index: int | None  # of the task in the run
    preprocess: Preprocess
    end: int
    answer: int

    def prefix(self, batch: int) -> Sequences:
        """Noise to be described: what is shown changes nothing about time."""
        frames = self.preprocess.frames if self.task.visual == "video" else 1
        pixels = torch.randn(
            batch, frames, 3, self.preprocess.size, self.preprocess.size, generator=torch_stream(0, "pixels")
        )
        facts = self.task.facts("input", self.index)
        return prefix_with_query(sequences_of(facts=facts, pixels_BFCHW=pixels), self.answer)

    @torch.no_grad()
    def scorer(self) -> Callable[[Tensor], Tensor]:
        """Logits of all words; never the end, so that all texts have as many words as they may."""
        word_K = torch.arange(self.model.tokenizer.words.words.shape[0])
        facts = self.task.facts("candidate", self.index)
        words_VD = represent_in_chunks(self.model, Candidates(sequences=vocabulary_sequences(word_K, facts, self.end)))
        scale = self.model.scale(self.task.temperature)

        def logits_of(x_RD: Tensor) -> Tensor:
            logits_RV = logits(unit(self.model.represent(x_RD)), words_VD, scale)
            logits_RV[:, self.end] = float("-inf")
            return logits_RV

        return logits_of


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is measured."""

    batches: tuple[int, ...]
    words: int  # of a caption
    places: tuple[int, ...]  # words whose cost is compared with the first of them


FULL = Scale(batches=(1, 8), words=20, places=(5, 20, 60))


def measure(pairs: int, run: Path | None = None, scale: Scale = FULL) -> list[BenchmarkRow]:
    """Cache over no cache, greedy and with two beams; words per second; words at later places over an early one."""
    subjects = [_random("nano", 48), _random("tiny", 224)] if run is None else list(of_run(run))
    if pairs <= QUICK_PAIRS:
        subjects = subjects[:1]
    return [row for subject in subjects for batch in scale.batches for row in _rows(subject, batch, pairs, scale)]


def _rows(subject: Subject, batch: int, pairs: int, scale: Scale) -> Iterator[BenchmarkRow]:
    what = f"{subject.name}/batch{batch}/threads{torch.get_num_threads()}"
    prefix, logits_of = subject.prefix(batch), subject.scorer()
    for beams, name in ((1, "greedy"), (2, "beam 2")):
        with_cache, without = (
            partial(_write, subject, writer, prefix, logits_of, beams, scale.words)
            for writer in (subject.model, WithoutCache(subject.model))
        )
        yield ratio(f"caption/cache over none, {scale.words} words/{what}/{name}", with_cache, without, pairs=pairs)
        speeds = [batch * scale.words / _seconds(with_cache) for _ in range(pairs)]
        yield figure(f"caption/speed, {scale.words} words/{what}/{name}", speeds, "words/s")
    first, *later = scale.places
    steps = {place: word_at(subject, prefix, place) for place in scale.places}
    yield figure(f"caption/word {first}/{what}", [1000 * _seconds(steps[first]) for _ in range(pairs)], "ms")
    for place in later:
        for variant, goal in (("", None), ("but for attention", 1.05)):
            name = f"caption/word {place} over word {first}/{what}/{variant or 'all'}"
            with _without_attention() if variant else nullcontext():
                yield ratio(name, steps[place], steps[first], goal=goal, pairs=4 * pairs)


def _write(
    subject: Subject, writer: Writer, prefix: Sequences, logits_of: Callable[[Tensor], Tensor], beams: int, words: int
) -> Generated:
    return generate(writer, prefix, logits_of, end=subject.end, beams=beams, words=words)


@torch.no_grad()
def word_at(subject: Subject, prefix: Sequences, place: int) -> Callable[[], Tensor]:
    """What writing the word at that place takes, behind all words before it; it can be called again and again."""
    cache, _ = subject.model.begin(prefix, place + 1)
    word_B = torch.zeros(prefix.size, dtype=torch.int64)
    for earlier in range(1, place):
        subject.model.extend(cache, word_B, earlier)
    length = cache.length

    @torch.no_grad()
    def step() -> Tensor:
        cache.length = length
        return subject.model.extend(cache, word_B, place)

    return step


def _without_attention() -> "mock._patch[Callable[..., Tensor]]":
    """Every token looks at itself alone: all else of a pass stays, the cache included."""

    def itself(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return value[:, :, -query.shape[2] :]

    return mock.patch.object(attention, "attend", itself)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _random(size: str, pixels: int) -> Subject:
    config = ModelConfig(size=size)  # type: ignore[arg-type]
    arch = architecture(config, MoEConfig(), tasks=1, vocabulary=VOCABULARY, end=0, answer=1)
    return Subject(
        name=f"{size}, {pixels} px",
        model=build(arch, TEMPERATURES, torch_stream(0, "weights")),
        task=CATALOGUE["image_captioning"],
        index=0,
        preprocess=Preprocess(size=pixels),
        end=0,
        answer=1,
    )


def of_run(run: Path) -> Iterator[Subject]:
    """The captioning tasks of a run.

    Raises:
        UserError: there is no run, or it has no such task.
    """
    saved = saved_files.load(model_folder(run))
    captioning = {
        name: known_task
        for name, known_task in saved.tasks.items()
        if known_task.task.read_at == "next" and known_task.task.visual
    }
    if not captioning:
        raise UserError(
            f"{run}: its tasks {', '.join(saved.tasks)} write no captions; name a run with a captioning task"
        )
    for name, known_task in captioning.items():
        yield Subject(
            name=f"{run.name}, {name}",
            model=saved.model.eval(),
            task=known_task.task,
            index=known_task.index,
            preprocess=replace(known_task.preprocess),
            end=saved.codec.end,
            answer=saved.codec.answer,
        )


if __name__ == "__main__":
    main(measure, "RUN")

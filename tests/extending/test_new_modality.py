"""A modality of one's own, added from outside by a row, a reader and a tokenizer: signals, rows of numbers.

Shape suffixes: L samples of a signal, W of them in a patch.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import uniperceiver
from tests.small_run import BASE, merged
from uniperceiver import Recipe, Task, UserError
from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.preprocess import READERS, MediaReader, Preprocess
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import BrokenSample
from uniperceiver.modalities import MODALITIES, Modality
from uniperceiver.records import Part, Sample
from uniperceiver.strict import parse
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tokenizers.join import TOKENIZERS, Shape

LENGTH, PATCH = 24, 4
LABELS = (("slow",), ("fast",))
ROW = Modality(kind="signal", noun="signal", tokenizer="waves", suffixes=frozenset({".f32"}))


def signal_values(
    sample: Sample, preprocess: Preprocess, augment: AugmentConfig | None, rng: np.random.Generator | None
) -> Tensor:
    """The signal as the model hears it, (L,) float32."""
    value = sample.value("signal")
    value_L = np.frombuffer(value, np.float32) if isinstance(value, bytes) else np.asarray(value, np.float32)
    if value_L.shape != (LENGTH,):
        raise BrokenSample(sample.id, f"a signal of {value_L.size} numbers, expected {LENGTH}")
    return torch.from_numpy(value_L.copy())


class WaveTokenizer(nn.Module):
    """Patches of a signal through a linear map, with learned positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(PATCH, width)
        self.positions = nn.Parameter(torch.empty(LENGTH // PATCH, width))

    @torch.no_grad()
    def initialise(self, stream: torch.Generator | None) -> None:
        self.positions.normal_(0.0, 0.02, generator=stream)

    def embed(self, part: Part, stream: torch.Generator | None = None, answer_D: Tensor | None = None) -> Tensor:
        x_BND: Tensor = self.project(part.values.unflatten(1, (-1, PATCH))) + self.positions
        return x_BND


def waves_of(shape: Shape) -> WaveTokenizer:
    return WaveTokenizer(shape.width)


@dataclass(frozen=True)
class Signals:
    """Slow and fast waves, with a picture and a caption beside each."""

    count: int = 12
    classes = LABELS

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        rng, label = np.random.default_rng(index), index % 2
        wave_L = np.sin(np.arange(LENGTH) * (2.0 if label else 0.5) + rng.uniform(0, 6)).astype(np.float32)
        image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        text = f"number {index} : {LABELS[label][0]}"
        return Sample(
            id=f"signal/{index}", image=image, text=text, captions=(text,), label=label, others={"signal": wave_L}
        )

    def texts(self) -> Iterator[str]:
        yield from (self.read(index).captions[0] for index in range(self.count))


TASKS = {
    "speeds": {"inputs": ("signal",), "candidates": "labels", "temperature": "downstream"},
    # Parts in an order of one's own, and a text behind them.
    "all": {"inputs": ("signal", "image", "text"), "candidates": "labels", "temperature": "downstream"},
    "words": {"inputs": ("signal", "text"), "candidates": "vocabulary", "read_at": "next", "temperature": "caption"},
    "matching": {"inputs": ("image", "signal"), "candidates": "in_batch", "temperature": "retrieve"},
}


@pytest.fixture(scope="module", autouse=True)
def added() -> Iterator[None]:
    """The modality in the tables: one line each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODALITIES, "signal", ROW)
        patch.setitem(READERS, "signal", MediaReader(values=signal_values))
        patch.setitem(TOKENIZERS, "waves", waves_of)
        yield


@pytest.fixture(scope="module", params=["attribute", "modality"])
def run(request: pytest.FixtureRequest, added: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of tasks over signals alone, and beside pictures and texts."""
    values = merged(
        {**BASE, "tasks": {name: {"kind": name, "batch": 4, "size": 32, "length": 16} for name in TASKS}},
        {"moe.condition": request.param, "moe.experts": 3},
    )
    recipe, preprocess = parse(Recipe, values, "recipe"), Preprocess(size=32, length=16)
    tasks = []
    with pytest.MonkeyPatch.context() as patch:
        for index, (name, fields) in enumerate(TASKS.items()):
            task = Task(name=name, **fields)  # type: ignore[arg-type]
            patch.setitem(CATALOGUE, name, task)
            task = replace(task, labels=LABELS) if task.answer.has_labels else task
            config = recipe.tasks[name]
            sources = {split: Signals() for split in ("train", "val")}
            data = TaskData(task=task, index=index, config=config, sources=sources, preprocess=preprocess)
            tasks.append(data)
        folder = tmp_path_factory.mktemp("signals") / "run"
        uniperceiver.train(recipe, folder, tasks=tasks, quiet=True)
    return folder


def test_it_is_trained_evaluated_and_shown(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())["tasks"]
    assert {name: set(splits) for name, splits in results.items()} == {name: {"train", "val"} for name in TASKS}
    assert results["speeds"]["val"]["n"] == 12
    assert "number 0 : slow" in (run / "report.html").read_text(encoding="utf-8")
    settings = json.loads((run / "model" / "config.json").read_text())["architecture"]["moe"]
    assert settings["kinds"] == ["visual", "text", "signal"]


def test_it_is_asked(run: Path, tmp_path: Path) -> None:
    model, source = uniperceiver.load(run), Signals()
    waves = [source.read(index).others["signal"] for index in range(3)]
    rows = model.classify(waves, task="speeds", modality="signal")
    assert rows.shape == (3, 2)
    (tmp_path / "a.f32").write_bytes(waves[0].tobytes())
    torch.testing.assert_close(model.classify(str(tmp_path / "a.f32"), task="speeds"), rows[:1])
    inputs = {"signal": waves, "image": [source.read(index).image for index in range(3)]}
    assert model.classify(inputs, task="all", texts="number 3").shape == (3, 2)
    assert len(model.caption({"signal": waves}, task="words", max_words=4)) == 3
    assert model.rank(inputs, ["number 1 : fast", "number 2 : slow"], task="matching").shape == (3, 2)
    with pytest.raises(UserError, match="give a mapping of signal, image to inputs"):
        model.classify(waves, task="all", texts="number 3")
    with pytest.raises(UserError, match="a signal of 5 numbers, expected 24"):
        model.classify([np.zeros(5)], task="speeds", modality="signal")


def test_models_without_it_are_read_as_before(trained: Path, run: Path) -> None:
    """A model has only the tokenizers that its tasks need, and says which where they are not the usual ones."""
    other = json.loads((trained / "model" / "config.json").read_text())["architecture"]
    assert "tokenizers" not in other
    assert "kinds" not in (other["moe"] or {})
    assert not any("waves" in name for name in uniperceiver.load(trained).model.state_dict())
    settings = json.loads((run / "model" / "config.json").read_text())["architecture"]
    assert settings["tokenizers"] == ["words", "patches", "waves"]


def test_its_tokens_are_segments_with_attributes_of_their_own(run: Path) -> None:
    model = uniperceiver.load(run)
    segments = model.saved.tasks["all"].task.segments(1)
    assert [segment.kind for segment in segments] == ["signal", "visual", "text", "text"]
    merged_model = model.merge(["speeds", "words"])
    waves = [Signals().read(index).others["signal"] for index in range(3)]
    for served in (model, merged_model):
        assert served.classify(waves, task="speeds", modality="signal").sum().item() == pytest.approx(3.0, abs=1e-5)
    torch.testing.assert_close(
        merged_model.classify(waves, task="speeds", modality="signal"),
        model.classify(waves, task="speeds", modality="signal"),
        atol=1e-5,
        rtol=0,
    )

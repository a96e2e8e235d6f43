"""A new task over two modalities, in one line: a picture and a question in, the most likely answer out.

No new parameter, no branch: the answer is read at {answer}, an <SPE> inside the text."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import uniperceiver as up
from uniperceiver import Task
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.scenes.scene import COLOURS
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.data.tasks import SPLITS
from uniperceiver.records import Sample

ANSWERS = ("no", "yes", *COLOURS)
TASK = Task(name="questions", inputs=("image", "text"), candidates="labels", read_at="masked", temperature="downstream", template="{text} {answer}", labels=tuple((word,) for word in ANSWERS))  # noqa: E501  # fmt: skip


@dataclass(frozen=True)
class Questions:
    """Two questions about each generated scene; a data set is whatever has classes, a length, `read` and `texts`."""

    scenes: ScenesSource
    classes = TASK.labels

    def __len__(self) -> int:
        return 2 * len(self.scenes)

    def read(self, index: int) -> Sample:
        sample, thing = self.scenes.read(index // 2), self.scenes.scene(index // 2).things[0]
        if index % 2:
            return replace(sample, text="what colour is it ?", label=ANSWERS.index(thing.colour))
        return replace(sample, text="is it large ?", label=int(thing.size == "large"))

    def texts(self) -> Iterator[str]:
        yield from ("what colour is it ?", "is it large ?", *ANSWERS)


def main(folder: Path, steps: int = 200) -> None:
    config = up.TaskConfig(kind=TASK.name, size=32, length=16)
    model = up.ModelConfig(width=64, layers=2, heads=4, vocabulary=300, layer_scale=0.3, stem="conv")
    recipe = up.Recipe(steps=steps, tasks={TASK.name: config}, model=model, log=up.LogConfig(tensorboard=False),
                       optimiser=up.OptimiserConfig(kind="muon", lr=0.002, warmup=20),
                       evaluation=up.EvaluationConfig(every=50, train_limit=100))  # fmt: skip
    scenes = {split: ScenesSource(items=5000 if split == "train" else 100, pixels=32, objects=1, split=split)
              for split in SPLITS}  # fmt: skip
    sources = {split: Questions(source) for split, source in scenes.items()}
    data = up.TaskData(task=TASK, index=0, config=config, sources=sources, preprocess=Preprocess(size=32, length=16))
    trained = up.train(recipe, folder, tasks=[data]).load()
    for sample in map(sources["val"].read, range(4)):
        answer = int(trained.classify(sample.image, task=TASK.name, texts=sample.text).argmax())
        print(f"{sample.captions[0]}: {sample.text} {ANSWERS[answer]}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/questions"))

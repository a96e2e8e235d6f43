"""Vectors of the samples of data sets: those that a recipe names, each once, in the order of its source."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.small_run import values_of, write_recipe
from uniperceiver import UniPerceiver, UserError
from uniperceiver.cli import main
from uniperceiver.config import read_recipe
from uniperceiver.data.formats import open_source
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Sample
from uniperceiver.runs.embedding.job import EmbeddingJob
from uniperceiver.serving.predict.embed import embed, part_path, read_parts
from uniperceiver.serving.predict.items import SourceItems


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", values_of(("colours", "motions", "words")))


def test_vectors_are_those_of_the_samples(model: UniPerceiver, trained: Path, recipe: Path, tmp_path: Path) -> None:
    values = read_recipe(recipe)
    for name, encode, field in (("colours", model.encode_image, "image"), ("motions", model.encode_video, "clip")):
        items = EmbeddingJob(run=trained, data=recipe, source=name, split="val").items()
        embed(model, items, tmp_path / name, size=5)
        parts = list(read_parts(tmp_path / name))
        source = open_source(values.tasks[name].val or {}, "", Path())
        samples = [source.read(place) for place in range(len(source))]
        assert [file for part in parts for file in part.files] == [sample.id for sample in samples]
        vectors_ND = torch.cat([part.vectors_ND for part in parts])
        expected_ND = encode([getattr(sample, field) for sample in samples])
        torch.testing.assert_close(vectors_ND.float(), expected_ND, atol=1e-3, rtol=0)


def test_the_command_goes_on_and_shares(
    trained: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", str(trained), "--data", str(recipe), "--source", "colours", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "1 parts made, 0 were there, 0 files left out" in capsys.readouterr().out
    assert main(words) == 0
    assert "0 parts made, 1 were there" in capsys.readouterr().out
    assert main([*words, "--split", "val"]) == 2
    assert "holds vectors of another list of files; use another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "embed: give either --files LIST or --data RECIPE.yaml"),
        (["--files", "LIST", "--data", "RECIPE"], "embed: give either --files LIST or --data RECIPE.yaml"),
        (["--data", "RECIPE"], "has the tasks colours, motions, words; say whose data are read"),
        (["--data", "RECIPE", "--source", "colour"], "has no task 'colour'; did you mean 'colours'"),
        (["--data", "RECIPE", "--source", "colours", "--split", "test"], "--split test: task 'colours' of "),
        (
            ["--data", "RECIPE", "--source", "words"],
            "none of the 12 files of part 0 can be used; scenes/train/000000: has no picture, clip or sound",
        ),
        (["--data", "RECIPE", "--source", "colours", "--ray", "0"], "--ray 0: give 1 actor or more, and no --share"),
    ],
)
def test_a_slip_is_one_line(
    words: list[str], line: str, trained: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("a.png\n")
    names = {"RECIPE": str(recipe), "LIST": str(tmp_path / "list.txt")}
    words = [names.get(word, word) for word in words]
    assert main(["embed", str(trained), "--out", str(tmp_path / "out"), *words]) == 2
    printed = capsys.readouterr().err
    assert line in printed
    assert len([each for each in printed.splitlines() if each.startswith("uniperceiver: ")]) == 1


class Broken:
    """A source of which the second sample is broken, and the third has nothing to see."""

    classes = None

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, index: int) -> Sample:
        if index == 1:
            raise BrokenSample("shard.tar:b", "cut off")
        return dataclasses.replace(self._samples[index], **({"image": None} if index == 2 else {}))

    def texts(self) -> list[str]:
        return []


def test_what_is_broken_is_named_and_left_out(model: UniPerceiver, recipe: Path, tmp_path: Path) -> None:
    source = open_source(read_recipe(recipe).tasks["colours"].val or {}, "", Path())
    samples = [source.read(place) for place in range(4)]
    items = SourceItems(Broken(samples), "made up")  # type: ignore[arg-type]
    done = embed(model, items, tmp_path)
    assert done.errors == {
        "shard.tar:b": "cut off",
        samples[2].id: "has no picture, clip or sound",
    }
    (part,) = read_parts(tmp_path)
    assert part.files == (samples[0].id, samples[3].id)
    assert part.errors == done.errors
    assert part_path(tmp_path, 0).is_file()
    with pytest.raises(UserError, match="another list of files"):
        embed(model, SourceItems(Broken(samples[:3]), "made up"), tmp_path)  # type: ignore[arg-type]

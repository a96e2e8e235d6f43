"""A saved model: the same bytes again, and one line about whatever is wrong with a folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small_run import same_tensors
from uniperceiver import UniPerceiver, load
from uniperceiver.errors import UserError
from uniperceiver.tokenizers import bpe

FILES = ("README.md", "config.json", "model.safetensors", "preprocess.json", "tokenizer.json")


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run's model, to be spoiled."""
    return shutil.copytree(trained / "model", tmp_path / "model")


def test_a_run_and_its_model_folder_are_the_same_model(trained: Path) -> None:
    one, other = load(trained), load(str(trained / "model"))
    assert same_tensors(one.model.state_dict(), other.model.state_dict())
    assert one.saved.tasks == other.saved.tasks
    assert not one.model.training


def test_saving_again_gives_the_same_bytes(model: UniPerceiver, trained: Path, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "one")
    load(tmp_path / "one").save_pretrained(str(tmp_path / "two"))
    load(tmp_path / "two").save_pretrained(tmp_path / "two")  # over itself
    for name in FILES:
        first = (tmp_path / "one" / name).read_bytes()
        assert first == (tmp_path / "two" / name).read_bytes() == (trained / "model" / name).read_bytes(), name
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == list(FILES)


def test_a_saved_model_answers_alike(model: UniPerceiver, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "one")
    picture = torch.full((8, 12, 3), 7, dtype=torch.uint8)
    again = load(tmp_path / "one")
    assert torch.equal(model.encode_image(picture), again.encode_image(picture))
    assert torch.equal(model.classify(picture, task="colours"), again.classify(picture, task="colours"))
    assert again.saved.tasks["motions"].preprocess == model.saved.tasks["motions"].preprocess


def test_the_card_tells_what_it_was_trained_on(trained: Path) -> None:
    card = (trained / "model" / "README.md").read_text()
    assert "6 steps on colours, motions" in card
    assert "| colours | image | red, " in card


def test_other_peoples_files_are_not_replaced(model: UniPerceiver, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds other files, such as thesis.tex; give a folder"):
        model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"thesis.tex: is a file; give a folder"):
        model.save_pretrained(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_folder_that_cannot_be_made(model: UniPerceiver, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"could not be saved \(.*; .*another folder"):
        model.save_pretrained(tmp_path / "file" / "model")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocess.json", "tokenizer.json"])
def test_a_missing_or_damaged_file_is_named(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=name) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(UserError, match=name.partition(".")[0] if name == "config.json" else name):
        load(folder)


@pytest.mark.parametrize("key", ["format", "architecture", "tokenizer", "tasks"])
@pytest.mark.parametrize("value", [None, "x", 7])
def test_a_config_of_something_else(folder: Path, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    for spoiled in ({**config, key: value}, {name: each for name, each in config.items() if name != key}):
        (folder / "config.json").write_text(json.dumps(spoiled))
        with pytest.raises(UserError, match=str(folder.name)) as caught:
            load(folder)
        assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(UserError, match="written by a newer version of uniperceiver; upgrade"):
        load(folder)


def test_weights_of_another_size_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    wider = {**weights, "head.norm.weight": torch.ones(32)}
    save_file(wider, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=r"of another size than config.json .*'head.norm.weight' is \(32,\), expected \(16,\)"
    ):
        load(folder)
    del wider["head.norm.weight"]
    save_file(wider, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"'head\.norm\.weight' is in only one of them"):
        load(folder)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    bpe.train(["quite other words"], size=280, lowercase=True).save(folder / "tokenizer.json")
    with pytest.raises(UserError, match=r"tokenizer\.json does not belong to these weights"):
        load(folder)


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a saved model"):
        load(tmp_path)
    with pytest.raises(UserError, match="neither a saved model"):
        load(tmp_path / "absent")

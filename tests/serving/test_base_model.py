"""A tuned model lies beside the one it was made from: small, exact, movable together, and never with another base."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small_run import same_tensors, train
from tests.tuned import pictures, state_of, tuning
from uniperceiver import UniPerceiver, load
from uniperceiver.errors import UserError
from uniperceiver.model.prompts import is_tuned

FILES = ("README.md", "config.json", "preprocess.json", "tokenizer.json", "tuned.safetensors")


@pytest.fixture(scope="module")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the saved model `base` and the run `tuned` beside it; nobody may change it."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copytree(trained / "model", folder / "base")
    train(folder / "tuned", tuning(folder / "base", steps=2, tune__head=True))
    return folder


@pytest.fixture
def both(made: Path, tmp_path: Path) -> Path:
    """A copy of both, to be moved and spoiled."""
    return shutil.copytree(made, tmp_path / "both")


def answers(model: UniPerceiver) -> torch.Tensor:
    return model.classify(pictures(), task="shapes")


def hash_of(model: UniPerceiver) -> str:
    """Of the names and bytes of all tensors."""
    found = hashlib.sha256()
    for name, value in sorted(state_of(model).items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def test_only_tuned_parameters_are_in_the_file_and_it_is_small(made: Path) -> None:
    model = load(made / "tuned")
    assert tuple(sorted(path.name for path in (made / "tuned/model").iterdir())) == FILES
    weights = load_file(made / "tuned/model/tuned.safetensors")
    assert set(weights) == {name for name in state_of(model) if is_tuned(name)}
    sizes = [(made / name).stat().st_size for name in ("tuned/model/tuned.safetensors", "base/model.safetensors")]
    assert sizes[0] < sizes[1] / 3  # of a model of width 16, whose norms are much of it
    rest = {name: value for name, value in state_of(model).items() if not is_tuned(name)}
    assert same_tensors(rest, {name: state_of(load(made / "base"))[name] for name in rest})


def test_norms_that_both_have_are_the_tuned_ones(made: Path) -> None:
    weights, base = (load_file(made / name) for name in ("tuned/model/tuned.safetensors", "base/model.safetensors"))
    assert any(name in base and not torch.equal(value, base[name]) for name, value in weights.items())
    state = state_of(load(made / "tuned"))
    assert same_tensors(weights, {name: state[name] for name in weights})


def test_both_are_moved_together(both: Path, made: Path) -> None:
    (both / "elsewhere").mkdir()
    for name in ("base", "tuned"):
        shutil.move(both / name, both / "elsewhere" / name)
    model, before = load(both / "elsewhere/tuned"), load(made / "tuned")
    assert model.saved.base is not None
    assert model.saved.base.folder == both / "elsewhere/base"
    assert hash_of(model) == hash_of(before)
    assert torch.equal(answers(model), answers(before))


def test_a_tuned_model_is_saved_again_beside_its_base_or_whole(both: Path, made: Path) -> None:
    model = load(both / "tuned")
    model.save_pretrained(both / "deep/er/small")
    model.save_pretrained(both / "whole", whole=True)
    assert json.loads((both / "deep/er/small/config.json").read_text())["base"]["model"] == "../../../base"
    for name in ("deep/er/small", "whole"):
        again = load(both / name)
        assert hash_of(again) == hash_of(load(made / "tuned")), name
        assert torch.equal(answers(again), answers(model)), name
    assert "here are only the tuned parameters" in (both / "deep/er/small/README.md").read_text()
    card = (both / "whole/README.md").read_text()
    assert "- tuned: 3 prompts in each layer, a linear head for " in card
    assert "here are only" not in card
    shutil.rmtree(both / "base")
    assert torch.equal(answers(load(both / "whole")), answers(model))
    load(both / "whole").save_pretrained(both / "deep/er/small")  # the other kind of file takes the place of the first
    assert load(both / "deep/er/small").saved.base is None


def test_it_is_never_saved_over_its_base(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in (both / "base").iterdir()}
    with pytest.raises(UserError, match=r"base: is the model that this one was tuned on, .*; give another folder, or"):
        load(both / "tuned").save_pretrained(both / "tuned" / ".." / "base")
    assert "is replaced" not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (both / "base").iterdir()} == before


def gone(folder: Path) -> None:
    shutil.rmtree(folder / "base")


def trained_on(folder: Path) -> None:
    weights = load_file(folder / "base/model.safetensors")
    save_file({**weights, "head.linear.bias": weights["head.linear.bias"] + 1e-6}, folder / "base/model.safetensors")


def without_weights(folder: Path) -> None:
    (folder / "base/model.safetensors").unlink()


def changed_config(folder: Path, **values: object) -> None:
    path = folder / "tuned/model/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            gone,
            r"holds tuned parameters of the model ../../base, which is not there \(.*\); bring it back, or write in",
        ),
        (without_weights, r"which is not there \(.*base/model.safetensors: cannot be read .*\); bring it back"),
        (trained_on, r"was tuned on another model than the one that is now at .*/base; bring that one back, or tune"),
        (lambda folder: changed_config(folder, base={"model": "x"}), r"config.json: base: key 'sha256' is missing"),
        (lambda folder: changed_config(folder, base="x"), r"config.json: base: .* must be a mapping"),
        (lambda folder: changed_config(folder, base=None), r"model.safetensors: missing, truncated or damaged"),
    ],
)
def test_a_base_that_is_gone_or_another_is_one_line(
    both: Path, spoil: Callable[[Path], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(both)
    # What lies where the command is given is not looked at.
    shutil.copytree(both / "tuned", both / "here/x/tuned")
    shutil.copytree(both / "tuned/model", both / "here/base")
    (both / "here/x/y").mkdir()
    monkeypatch.chdir(both / "here/x/y")
    with pytest.raises(UserError, match=message) as caught:
        load(both / "tuned")
    assert "\n" not in str(caught.value)


def test_doing_as_the_line_says_helps(both: Path, made: Path) -> None:
    shutil.move(both / "base", both / "other place")
    named = json.loads((both / "tuned/model/config.json").read_text())["base"]
    for place in ("../../other place", str(both / "other place")):
        changed_config(both, base={**named, "model": place})
        assert hash_of(load(both / "tuned")) == hash_of(load(made / "tuned"))


def test_a_file_without_some_of_the_tuned_parameters_is_refused(both: Path) -> None:
    path = both / "tuned/model/tuned.safetensors"
    weights = load_file(path)
    del weights["head.norm.bias"]  # the base has one, too
    save_file(weights, path)
    with pytest.raises(UserError, match=r"tuned.safetensors: does not fit .*'head.norm.bias' is in only one of them"):
        load(both / "tuned")


def test_a_base_on_the_hub_is_named_as_there(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched by its name, wherever the copy of it lies."""
    shutil.copytree(trained / "model", tmp_path / "cache/one")
    monkeypatch.setattr("uniperceiver.serving.locate._from_hub", lambda name: tmp_path / "cache" / "one")
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "run", tuning(Path("someone/model"), steps=1))
    named = json.loads((tmp_path / "run/model/config.json").read_text())["base"]
    assert named["model"] == "someone/model"
    assert load(tmp_path / "run").saved.base.hub == "someone/model"  # type: ignore[union-attr]

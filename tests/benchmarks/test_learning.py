"""The benchmark of learning: every learner gets its seconds, and its curve is what it can do on held-out data."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import learning
from benchmarks.peers import ResNet, VisionTransformer
from tests.small_run import values_of, write_recipe


@pytest.mark.parametrize("peer", [VisionTransformer, ResNet])
def test_peers_tell_pictures_apart_and_every_weight_learns(peer: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    model, pictures = peer(32, 5), torch.randn(3, 3, 32, 32)
    logits = model(pictures)
    assert logits.shape == (3, 5)
    assert not torch.allclose(logits[0], logits[1])
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 4])).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_every_learner_has_a_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", values_of(("colours", "relations")))
    words = ["--seconds", "0.1", "--seeds", "2", "--json", str(tmp_path / "a.json")]
    arms = ["--arm", "plain", "--arm", "conv model.stem=conv optimiser.kind=muon"]
    threads = torch.get_num_threads()
    learning.main([f"{recipe}:colours", str(recipe), *words, *arms])
    torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "a.json").read_text())
    alone = [(row["arm"], row["seed"]) for row in rows if row["set"].endswith(":colours")]
    names = ("plain", "conv", "plain ViT", "small ResNet")
    assert sorted(alone) == sorted((name, seed) for name in names for seed in (0, 1))
    both = [row for row in rows if not row["set"].endswith(":colours")]
    assert sorted((row["arm"], row["seed"]) for row in both) == [
        (arm, seed) for arm in ("conv", "plain") for seed in (0, 1)
    ]
    assert {task for row in both for point in row["points"] for task in point["tasks"]} == {"colours", "relations"}
    for row in rows:
        seconds = [point["seconds"] for point in row["points"]]
        assert len(seconds) == 4
        assert seconds == sorted(seconds)
        assert 0 < seconds[0] < seconds[-1]
        assert all(0 <= figures["main"] <= 1 and figures["loss"] > 0 for figures in row["points"][-1]["tasks"].values())
    shown = capsys.readouterr().out
    assert "| set | task | arm | 1/4 | 2/4 | 3/4 | 4/4 | loss | steps | CPU s |" in shown
    assert shown.count("| small ResNet |") == 1


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", values_of(("colours",)))
    for words, message in (
        ([f"{recipe}:colour"], "has no task 'colour'; its tasks are colours"),
        ([str(recipe), "--arm", "x model.steam=conv"], "model.steam"),
        ([str(recipe), "--arm", "x conv"], "give a name and KEY=VALUE words"),
    ):
        with pytest.raises(SystemExit):
            learning.main(words)
        assert message in capsys.readouterr().err.splitlines()[-1]

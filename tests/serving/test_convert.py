"""`uniperceiver convert`: what every option does, what it tells, and what config.json keeps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.converted import DENSE, MOE, run, said
from tests.model.official.made_up import (
    ANSWER,
    END,
    EXPERTS,
    GRID,
    HEADS,
    LAYERS,
    PATCH,
    WORDS,
    older,
    original,
    write,
)
from tests.shared import GOLDEN, needs_golden
from tests.small_run import same_tensors
from tests.tasks.test_catalogue import EXPECTED as OF_THE_ORIGINAL
from uniperceiver import load
from uniperceiver.atomic import sha256_of
from uniperceiver.cli import main
from uniperceiver.tokenizers import bpe

FILES = ("README.md", "config.json", "model.safetensors", "preprocess.json", "tokenizer.json")


def architecture(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["architecture"]


def origin(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["origin"]


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("is_older", [False, True])
def test_a_checkpoint_becomes_a_model(kind: str, is_older: bool, tmp_path: Path) -> None:
    state = {"dense": DENSE, "moe": MOE}[kind]
    path = write(tmp_path / "a.pt", older(state), "module") if is_older else write(tmp_path / "a.pth", state)
    folder = run(path)
    assert sorted(each.name for each in folder.iterdir()) == list(FILES)
    saved = load(folder).saved
    assert (saved.arch.heads, saved.arch.layers, saved.arch.vocabulary) == (HEADS, LAYERS, WORDS)
    assert (saved.codec.size, saved.codec.end, saved.codec.answer) == (WORDS, END, ANSWER)
    assert (saved.arch.moe.experts if saved.arch.moe else 0) == (EXPERTS if kind == "moe" else 0)
    assert list(saved.tasks) == list(OF_THE_ORIGINAL)
    assert {known.preprocess.size for known in saved.tasks.values()} == {GRID * PATCH}
    bias, vector = (state[f"video_embed.embeddings{name}"] for name in (".bias", "_type.weight"))
    assert torch.equal(saved.model.tokenizer.patches.project.bias, bias + vector[0] if is_older else bias)
    assert torch.equal(saved.model.head.linear.weight, state["loss_prepare.proj.weight"])


def test_the_origin_stands_in_the_config(moe: Path) -> None:
    folder = run(moe)
    assert origin(folder) == {
        "file": "moe.pth",
        "sha256": sha256_of(moe),
        "heads": HEADS,
        "positions": "table",
        "reference_grid": 10.0,
        "layout": "release",
        "ffn_gates": "shared",
        "type_vector": "folded",
        "merges": WORDS - 512 - 5,
    }
    assert "converted from moe.pth of the original release" in (folder / "README.md").read_text()


def test_saving_again_keeps_it(moe: Path, tmp_path: Path) -> None:
    folder = run(moe)
    model = load(folder)
    assert model.saved.origin is not None
    model.save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    merged = load(folder).merge(["image_classification"])
    assert merged.saved.origin == model.saved.origin


def test_info_shows_it(moe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(moe)
    capsys.readouterr()
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["converted from"] == origin(folder)
    assert main(["info", str(folder)]) == 0
    assert f"converted from:\n  file: moe.pth\n  sha256: {sha256_of(moe)}\n" in capsys.readouterr().out


def test_heads(dense: Path) -> None:
    assert architecture(run(dense, heads=4))["heads"] == 4


def test_layers(dense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert architecture(run(dense, "--layers", str(LAYERS)))["layers"] == LAYERS
    line = said(capsys, dense, "--out", dense.parent / "other", "--heads", HEADS, "--layers", "4")
    assert f"has {LAYERS} layers, --layers 4: is it one of several files?" in line


def test_positions_and_reference_grid(dense: Path) -> None:
    table = run(dense)
    assert (architecture(table)["spatial"], origin(table)["positions"]) == ("table", "table")
    assert "tokenizer.patches.spatial.table" in load_file(table / "model.safetensors")
    computed = run(dense, "--positions", "sincos", "--reference-grid", "3.5")
    assert (architecture(computed)["spatial"], architecture(computed)["reference_grid"]) == ("sincos", 3.5)
    assert "tokenizer.patches.spatial.table" not in load_file(computed / "model.safetensors")


def test_ffn_gates(moe: Path) -> None:
    gate = "encoder.blocks.0.ffn.router.gates.1.linear.weight"
    assert gate not in load_file(run(moe) / "model.safetensors")
    own = run(moe, "--ffn-gates", "own")
    expected = MOE["fused_encoder.layers.0.linear2.gate.wg.weight"]
    assert torch.equal(load_file(own / "model.safetensors")[gate], expected)
    assert (architecture(own)["moe"]["ffn_gates"], origin(own)["ffn_gates"]) == (2, "own")


@pytest.mark.parametrize("is_older", [False, True])
@pytest.mark.parametrize("option", ["auto", "folded", "add"])
def test_type_vector(option: str, is_older: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", older(DENSE) if is_older else DENSE)
    folder, is_added = run(path, "--type-vector", option), option == "add" or (option == "auto" and is_older)
    bias, vector = DENSE["video_embed.embeddings.bias"], DENSE["video_embed.embeddings_type.weight"][0]
    found = load_file(folder / "model.safetensors")["tokenizer.patches.project.bias"]
    assert torch.equal(found, bias + vector if is_added else bias)
    assert origin(folder)["type_vector"] == ("added" if is_added else "folded")


def test_layout(moe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert architecture(run(moe, "--layout", "release"))["moe"]["layout"] == "release"
    other = moe.parent / "other"
    assert "--layout paper: the original release numbers" in said(capsys, moe, "--out", other, "--layout", "paper")
    assert not other.exists()


def test_vocabulary(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec = bpe.train(["some words of another kind " * 9], size=300, lowercase=True)
    state = {**DENSE, "token_embed.embeddings.weight": DENSE["token_embed.embeddings.weight"][: codec.size]}
    codec.save(tmp_path / "words.json")
    folder = run(write(tmp_path / "words.pth", state), "--vocabulary", str(tmp_path / "words.json"))
    assert load(folder).codec == codec
    assert (architecture(folder)["literal_specials"], origin(folder)["merges"]) == (False, None)
    out = ["--out", tmp_path / "other", "--heads", HEADS]
    line = said(capsys, dense, *out, "--vocabulary", tmp_path / "words.json")
    assert f"has {WORDS} word vectors, words.json makes {codec.size} entries; give the vocabulary" in line
    assert "517 entries" in said(capsys, tmp_path / "words.pth", *out)
    assert "no such file" in said(capsys, dense, *out, "--vocabulary", tmp_path / "absent.txt.gz")
    assert "no such file" in said(capsys, dense, *out, "--vocabulary", tmp_path / "absent.json")


def test_report(moe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(moe, "--report", str(tmp_path / "report.tsv"))
    head, *rows = [line.split("\t") for line in (tmp_path / "report.tsv").read_text().splitlines()]
    assert head == ["original", "shape", "ours", "reason it is not used"]
    assert [row[0] for row in rows] == list(MOE)
    assert {row[2] for row in rows} - {"-"} == set(load_file(folder / "model.safetensors"))
    assert all((row[2] == "-") == bool(row[3]) for row in rows)
    assert ["video_embed.embeddings.weight", "16x3x8x8", "tokenizer.patches.project.weight", ""] in rows
    assert ["loss_prepare.logit_scale_caption", "1", "temperatures.caption", ""] in rows
    for wrong, message in (
        (tmp_path, "give a file in a folder that is there"),
        (tmp_path / "absent" / "a.tsv", "give a file in a folder that is there"),
        (folder / "a.tsv", "lies in --out, which is replaced as a whole"),
    ):
        assert message in said(capsys, moe, "--out", folder, "--heads", HEADS, "--report", wrong)


def test_the_report_lists_what_a_checkpoint_is_refused_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {**DENSE, "backbone.weight": torch.ones(2, 3)}
    path, report = write(tmp_path / "a.pth", state), tmp_path / "report.tsv"
    assert "backbone.weight" in said(capsys, path, "--out", tmp_path / "m", "--heads", HEADS, "--report", report)
    rows = report.read_text().splitlines()
    assert len(rows) == len(state) + 1
    assert rows[-1] == "backbone.weight\t2x3\t-\t"


def test_what_was_found_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.pth", original(moe=True, prompts="own", classes=5))
    folder = run(path, "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model"], facts["sha256"]) == (str(folder), sha256_of(path))
    expected = {
        **{"layers": LAYERS, "width": 16, "heads": HEADS, "patch": PATCH, "picture size": GRID * PATCH, "frames": 8},
        **{"vocabulary": WORDS, "of which CLIP's merges": WORDS - 517, "experts": EXPERTS, "gates of an ffn": 1},
        **{"attention layers with experts": [0, 2], "ffn layers with experts": [0, 2], "attribute layout": "release"},
        **{"positions": "table", "reference grid": 10.0, "type vector": "folded"},
    }
    assert {name: facts[name] for name in expected} == expected
    assert facts["prompts"] == "2 prompts in each layer and 3 for candidates, a linear head for 5 classes"
    assert facts["tensors used"] + sum(facts["tensors not used"].values()) == len(torch.load(path)["model"])
    run(path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"model: {folder}"
    assert "attention layers with experts: 0, 2" in lines


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A model of the original's own code, at its reduced size."""
    return run(_linked(tmp_path, GOLDEN / "moe_odd" / "state_dict.safetensors"), heads=4)


def _linked(folder: Path, path: Path) -> Path:
    (folder / path.name).symlink_to(path)
    return folder / path.name


@needs_golden
def test_a_recorded_model_of_the_original(golden: Path) -> None:
    told = json.loads((GOLDEN / "moe_odd" / "model.json").read_text())
    saved = load(golden).saved
    assert dict(saved.codec.specials) == told["special_tokens"]
    assert saved.arch.moe is not None
    assert saved.arch.moe.attention_layers == (0, 2)
    recorded = load_file(GOLDEN / "moe_odd" / "state_dict.safetensors")
    found = {"proj": saved.model.head.linear.weight, "words": saved.model.tokenizer.words.words}
    assert same_tensors(
        {name: each.detach() for name, each in found.items()},
        {"proj": recorded["loss_prepare.proj.weight"], "words": recorded["token_embed.embeddings.weight"]},
    )

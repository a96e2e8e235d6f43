"""`python -m benchmarks.golden`: a wrong number in any quantity is noticed, and what is not understood counts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.golden.__main__ import main
from tests.golden.make_original import EXPERTS, Plan, make_folder
from tests.golden.make_original import GOLDEN as SMALL

CAPTIONS = "moe_all/image_caption_teacher_forced_train"
RETRIEVAL = "moe_all/image_retrieval_eval"
WRITTEN = "moe_all/video_caption_beam3_eos_lenpen"
TUNED = "prompt_moe_fc_notshare/image_classification_train"
STEPS = "train_steps/train_steps"

Change = Callable[[dict[str, Tensor], dict[str, Any]], None]


def run(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], Any]:
    """Exit code, printed lines and the JSON file of the command."""
    monkeypatch.setattr("sys.argv", ["golden", str(root), "--json", str(root / "rows.json")])
    code = main()
    return code, capsys.readouterr().out.splitlines(), json.loads((root / "rows.json").read_text())


def copied(case: str, root: Path) -> Path:
    """A folder with this case alone and its model."""
    folder, name = case.split("/")
    (root / folder).mkdir()
    for file in {"model.json", "state_dict.safetensors", f"{name}.json", f"{name}.safetensors"}:
        if (SMALL / folder / file).is_file():
            shutil.copy(SMALL / folder / file, root / folder / file)
    return root / case


def changed(case: str, root: Path, change: Change) -> None:
    """A copy of the case in which a number was changed."""
    path = copied(case, root)
    tensors, info = load_file(f"{path}.safetensors"), json.loads(Path(f"{path}.json").read_text())
    change(tensors, info)
    save_file(tensors, f"{path}.safetensors")
    Path(f"{path}.json").write_text(json.dumps(info))


def moved(name: str, by: float) -> Change:
    """One entry of a tensor, moved by a share of the largest."""

    def change(tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
        tensors[name].view(-1)[0] += by * tensors[name].abs().max()

    return change


def gate(name: str, of: str, change: Callable[[Tensor], Tensor]) -> Change:
    """The recorded decision of a gate, made of another."""
    return lambda tensors, info: tensors.update(
        {f"{name}.{key}": change(tensors[f"{of}.{key}"]).clone() for key in ("index", "weight")}
    )


def without(name: str) -> Change:
    """A tensor less."""

    def change(tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
        del tensors[name]

    return change


def in_json(change: Callable[[dict[str, Any]], None]) -> Change:
    """A change of the description alone."""
    return lambda tensors, info: change(info)


def scaled(key: str, name: str, place: int) -> Change:
    """A recorded moment of a gradient, changed by a little more than is allowed."""

    def change(info: dict[str, Any]) -> None:
        info[key][name][place] += 2e-3 * info[key][name][0] * (1 if place == 0 else 4)

    return in_json(change)


MOMENTS = "grad_l2norm_and_sum"
WG = "fused_encoder.layers.0.linear1.gate.wg.weight"
FIRST = "enc0.gate.layers.0.linear1"
TYPE = "video_embed.embeddings_type.weight"

# Quantity, case, and a change a little beyond its tolerance.
WRONG: list[tuple[str, str, Change]] = [
    ("activations", CAPTIONS, moved("enc0.layer1", 3e-5)),
    ("activations", RETRIEVAL, moved("enc0.in", 3e-5)),
    ("activations", CAPTIONS, moved("enc1.out", 3e-5)),
    ("activations", CAPTIONS, moved("readout_input_postproj", 3e-5)),
    ("activations", RETRIEVAL, moved("tgt_feats", 3e-5)),
    ("activations", WRITTEN, moved("enc0.layer0", 3e-5)),
    ("gate indices", CAPTIONS, gate(FIRST, FIRST, lambda row: row.flip(1))),
    ("gate weights", CAPTIONS, moved("enc1.gate.layers.0.self_attn.dense.weight", 3e-5)),
    ("logits", CAPTIONS, moved("logits", 3e-5)),
    ("logits", TUNED, moved("output", 3e-5)),
    ("cosines", RETRIEVAL, moved("cosine_i2t", 3e-5)),
    ("losses", CAPTIONS, in_json(lambda info: info["losses"].update(LabelSmoothing=4.2))),
    ("gradients", CAPTIONS, moved(f"grad.{WG}", 2e-3)),
    ("gradients", CAPTIONS, scaled(MOMENTS, "token_embed.embeddings.weight", 0)),
    ("gradients", CAPTIONS, scaled(MOMENTS, "loss_prepare.proj.bias", 1)),
    ("gradients", CAPTIONS, moved(f"grad.{TYPE}", 2e-3)),
    ("step logits", WRITTEN, moved("step2.logits", 3e-5)),
    ("generated ids", WRITTEN, lambda tensors, info: tensors["ids"][1].add_(1)),
    ("log-likelihoods", WRITTEN, moved("logp", 3e-5)),
    ("parameters", STEPS, moved("final.fused_encoder.layers.0.linear1.experts.deepspeed_experts.0.weight", 2e-5)),
    ("losses", STEPS, in_json(lambda info: info["steps"][3]["losses"].update(LabelSmoothing=6.0))),
    ("gradients", STEPS, in_json(lambda info: info["steps"][1].update(grad_norm_before_clip=1.0))),
    ("learning rates", STEPS, in_json(lambda info: info["steps"][2].update(lr=4.99e-4))),
    ("weight decays", STEPS, in_json(lambda info: info["optimizer"]["weight_decay"].update({WG: 0.2}))),
]  # fmt: skip


@pytest.mark.parametrize(("quantity", "case", "change"), WRONG, ids=[f"{row[0]}-{at}" for at, row in enumerate(WRONG)])
def test_a_wrong_number_is_noticed(
    quantity: str,
    case: str,
    change: Change,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed(case, tmp_path, change)
    code, lines, rows = run(tmp_path, monkeypatch, capsys)
    assert (code, lines[-1]) == (1, "1 cases, 1 beyond tolerance")
    assert rows[case]["beyond"] == [quantity]


# What the reason says, the case, and a change that nothing here understands.
STRANGE: list[tuple[str, str, Change]] = [
    ("'detection' is unknown", TUNED, in_json(lambda info: info["batch"]["task_info"].update(task_type="detection"))),
    ("no such layer", CAPTIONS, lambda tensors, info: tensors.update({"enc0.layer2": tensors["enc0.layer1"].clone()})),
    ("has no gate", TUNED, gate("enc0.gate.layers.1.linear1", FIRST, torch.clone)),
    ("(3, 4) recorded", CAPTIONS, lambda tensors, info: tensors.update(logits=torch.ones(3, 4))),
    ("no target set", TUNED, without("batch.shared_target_sets.ImageNet1k.data")),
    ("input_sample_list.0.data", RETRIEVAL, without("batch.input_sample_list.0.data")),
    ("1 rows recorded", CAPTIONS, gate(FIRST, FIRST, lambda row: row[:1])),
    ("has no gradient, but one was recorded", TUNED, in_json(lambda info: info[MOMENTS].update({WG: [1.0, 1.0]}))),
    ("has a gradient, but none was recorded", CAPTIONS, in_json(lambda info: info[MOMENTS].update({WG: None}))),
    ("terms recorded", CAPTIONS, in_json(lambda info: info["losses"].update(LabelSmoothing_again=1.0))),
    ("step3.logits", WRITTEN, without("step3.logits")),
    ("misses 'steps'", STEPS, in_json(lambda info: info.pop("steps"))),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "case", "change"), STRANGE, ids=[row[0] for row in STRANGE])
def test_what_is_not_understood_counts(
    reason: str,
    case: str,
    change: Change,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed(case, tmp_path, change)
    code, lines, rows = run(tmp_path, monkeypatch, capsys)
    assert (code, lines[-1]) == (1, "1 cases, 1 beyond tolerance")
    assert any(reason in line for line in rows[case]["beyond"]), rows[case]["beyond"]


@pytest.mark.parametrize(
    "name", ["state_dict.safetensors", "image_retrieval_eval.safetensors", "image_retrieval_eval.json"]
)
def test_damaged_and_missing_files_count(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(RETRIEVAL, tmp_path).with_name(name)
    path.write_bytes(path.read_bytes()[:100])
    code, lines, _ = run(tmp_path, monkeypatch, capsys)
    assert (code, lines[-1]) == (1, "1 cases, 1 beyond tolerance")
    path.unlink()
    code, lines, _ = run(tmp_path, monkeypatch, capsys)
    assert (code, lines[-1]) == (1, "1 cases, 1 beyond tolerance")


def test_folders_without_a_model_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "misc").mkdir()
    code, lines, rows = run(tmp_path, monkeypatch, capsys)
    assert code == 1  # nothing was compared
    assert lines[-2:] == ["misc: has no model.json, so it holds no cases; left out", "0 cases, 0 beyond tolerance"]
    assert rows == {}


# Kinds of models and cases that are not among the recordings that are kept.
OTHERS = {
    "top_1": Plan(
        size={**EXPERTS, "moe_location": "all", "ffn_share_gate": True, "top_k": 1},
        cases={"text_mlm_train": lambda make: make.masked("bookswiki_pretrain")},
    ),
    "four": Plan(
        size={**EXPERTS, "layers": 5, "moe_location": "four", "ffn_share_gate": True, "experts": 3},
        cases={"image_caption_teacher_forced_train": lambda make: make.captions("mscoco_caption")},
    ),
    "ffn_only": Plan(
        size={**EXPERTS, "moe_type": "FFN", "moe_location": "odd", "ffn_share_gate": False},
        cases={"video_caption_greedy": lambda make: make.to_caption("mscoco_caption", frames=4)},
    ),
    "attention_only": Plan(
        size={**EXPERTS, "moe_type": "SA", "moe_location": "all", "ffn_share_gate": True},
        cases={"text_classification_RTE_train": lambda make: make.text_classification("RTE", "RTE-target")},
    ),
    "larger_pictures": Plan(
        size={"image": 12, "heads": 4, "layer_scale": True},
        cases={
            "video_classification_train": lambda make: make.classification("imagenet22k", "MiT", 2, 2, soft=True),
            "image_retrieval_eval": lambda make: make.retrieval("mscoco_retrieve", (2, 2, 2)),
        },
    ),
    "prompt_moe_label": Plan(
        size={**EXPERTS, "moe_location": "all", "ffn_share_gate": True, "add_type_embed": True},
        prompts={"deep": 2, "targets": 3, "labels": 5},
        cases={"image_classification_train": lambda make: make.classification("imagenet", "ImageNet1k")},
    ),
    "prompt_dense_caption": Plan(
        prompts={"deep": 3},
        cases={
            "image_caption_teacher_forced_train": lambda make: make.captions("mscoco_caption"),
            "image_caption_beam3": lambda make: make.to_caption("mscoco_caption"),
        },
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_of_models(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / name, OTHERS[name], seed=7)
    code, lines, rows = run(tmp_path, monkeypatch, capsys)
    assert (code, lines[-1]) == (0, f"{len(OTHERS[name].cases)} cases, 0 beyond tolerance"), rows

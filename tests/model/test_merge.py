"""Merged models: the same outputs as with experts, in every form in which a model is asked."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.merging import INDEX, NAMES, needs_of, routed_and_merged, task_of
from tests.moe_cases import BY_ROW, KINDS, TASKS, inputs_of, moe_of
from tests.tiny import tiny_architecture, tiny_batch, tiny_candidates, tiny_codec, tiny_model
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.merge import MergedSize, merge_model, planned_architecture
from uniperceiver.records import Sequences
from uniperceiver.streams import torch_stream
from uniperceiver.strict import parse
from uniperceiver.tasks.decode import prefix_with_query
from uniperceiver.tasks.task import temperatures_of


def candidates_of(name: str) -> Sequences:
    task = task_of(name)
    batch = tiny_batch("image_classification" if name == "vqa" else task)
    sequences = tiny_candidates(task, batch).sequences
    return replace(sequences, facts=task.facts("candidate", INDEX[name]))


def assert_alike(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


SETTINGS: list[dict[str, Any]] = [
    *({"condition": condition, "k": k} for condition in BY_ROW for k in (1, 2, 4)),
    *({"condition": condition, "gates": 2} for condition in BY_ROW),
    *({"condition": condition, "level": "ffn", "where": "ffn", "k": 1} for condition in BY_ROW),
    {"condition": "attribute", "layout": "release", "layers": (1,)},
    {"condition": "attribute", "where": "attention"},
    {"condition": "modality", "where": "ffn", "layers": (0,)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
@torch.no_grad()
def test_all_sequences_are_encoded_alike(settings: dict[str, Any]) -> None:
    routed, merging = routed_and_merged(**settings)
    assert not merging.model.training
    for name in NAMES:
        if name in KINDS or name == "image_text_retrieval" or task_of(name).hears:
            inputs = inputs_of(name, INDEX[name])
            valid_BN = routed.tokenizer(inputs).valid_BN
            expected, found = routed.encode(inputs).x_BND, merging.model.encode(inputs)
            assert_alike(*(x if valid_BN is None else x[valid_BN] for x in (found.x_BND, expected)))
            assert_alike(merging.model.encode(inputs, summary=True).x_BND, expected[:, :1])
            assert found.decisions == ()
        candidates = candidates_of(name)
        expected = routed.encode(candidates, summary=True).x_BND
        assert_alike(merging.model.encode(candidates, summary=True).x_BND, expected)


@pytest.mark.parametrize("name", ["image_captioning", "audio_captioning"])
@pytest.mark.parametrize("condition", BY_ROW)
@torch.no_grad()
def test_texts_are_written_alike(condition: str, name: str) -> None:
    routed, merging = routed_and_merged(condition=condition)
    inputs = inputs_of(name, INDEX[name])
    prefix = prefix_with_query(inputs, tiny_codec().answer)
    outputs = []
    for model in (routed, merging.model):
        cache, x_BD = model.begin(prefix, words=4)
        outputs.append([x_BD])
        cache.repeat(2)
        for place in range(1, 4):
            word_B = torch.arange(6) * 7 + place
            outputs[-1].append(model.extend(cache, word_B, place))
            cache.reorder(torch.tensor([1, 0, 2, 2, 5, 4]))
    for found, expected in zip(*outputs, strict=True):
        assert_alike(found, expected)


@pytest.mark.parametrize(
    ("condition", "names"),
    [("modality", ["masked_language_modelling"]), ("task", ["vqa"]), ("task_specific", ["image_captioning"])],
)
@torch.no_grad()
def test_with_one_row_it_is_a_dense_model(condition: str, names: list[str]) -> None:
    routed, merging = routed_and_merged(names, condition=condition)
    temperatures = temperatures_of(merging.arch.tokenizers)
    dense = build(replace(merging.arch, moe=None, merged=None), temperatures).eval()
    dense.load_state_dict(merging.model.state_dict())
    assert not merging.model.encoder.token_first
    assert merging.together == MergedSize(rows=1, parameters=sum(each.numel() for each in dense.parameters()))
    inputs = inputs_of(names[0], INDEX[names[0]])
    assert torch.equal(dense.encode(inputs).x_BND, merging.model.encode(inputs).x_BND)
    assert_alike(dense.encode(inputs, summary=True).x_BND, routed.encode(inputs, summary=True).x_BND)


def test_rows_of_some_linears_only() -> None:
    moe = moe_of("task_specific")
    routed = tiny_model(moe=moe).eval()
    with torch.no_grad():
        for experts, other in (
            (routed.encoder.blocks[0].ffn.linear2.experts, (0, 0)),  # one row behind several
            (routed.encoder.blocks[0].attention.out.experts, (1, 0)),  # two rows behind three
            (routed.encoder.blocks[1].ffn.linear1.experts, (0, 0)),
            (routed.encoder.blocks[1].ffn.linear2.experts, (0, 0)),
        ):
            for place, source in enumerate(other, 1):
                experts[place].load_state_dict(experts[source].state_dict())
    merging = merge_model(routed, tiny_architecture(moe=moe), needs_of())
    names = {name.removeprefix("encoder.blocks.") for name in merging.model.state_dict() if name.endswith("weight")}
    assert {"1.ffn.linear1.weight", "1.ffn.linear2.weight", "0.ffn.linear2.weight"} <= names
    assert {"0.ffn.linear1.rows.2.weight", "0.attention.out.rows.1.weight", "1.attention.out.rows.2.weight"} <= names
    assert "0.attention.out.rows.2.weight" not in names
    for name in KINDS:
        for task in range(TASKS):
            inputs = inputs_of(name, task)
            with torch.no_grad():
                assert_alike(merging.model.encode(inputs).x_BND, routed.encode(inputs).x_BND)


def test_it_shares_no_tensor_and_keeps_what_is_frozen() -> None:
    moe = moe_of("attribute")
    fields: dict[str, Any] = {"moe": moe, "spatial": "table", "drop_path": 0.2}
    routed = tiny_model(**fields)
    new = merge_model(routed, tiny_architecture(**fields), needs_of()).model
    places = {each.data_ptr() for each in routed.parameters()}
    assert not places & {each.data_ptr() for each in new.parameters()}
    assert [name for name, each in new.named_parameters() if not each.requires_grad] == [
        "tokenizer.patches.spatial.table"
    ]
    assert routed.training
    assert new.encoder.drop_path == 0.2
    assert not any("router" in name or "experts" in name for name in new.state_dict())


def test_a_merged_model_learns() -> None:
    _, merging = routed_and_merged(["image_captioning"], condition="attribute")
    model = copy.deepcopy(merging.model).train()
    inputs = inputs_of("image_captioning", INDEX["image_captioning"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(4):
        loss = model.encode(inputs, torch_stream(0, "learning", step)).x_BND.square().mean()
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    rows = model.encoder.blocks[0].attention.qkv.rows
    assert [each.weight.grad is not None for each in rows] == [True, True, False]  # the third is the candidates'
    with torch.no_grad():
        assert float(merging.model.encode(inputs).x_BND.square().mean()) == pytest.approx(losses[0], rel=1e-5)


def test_what_it_was_not_merged_for_is_refused() -> None:
    _, merging = routed_and_merged(["image_captioning", "video_captioning"], condition="attribute")
    with pytest.raises(UserError, match="merged for image_captioning, video_captioning, and holds no weights for text"):
        merging.model.encode(inputs_of("masked_language_modelling", 0))
    # Another task with the same attributes, and an anonymous one, are none of its business.
    merging.model.encode(inputs_of("image_captioning", 0))
    inputs = inputs_of("image_captioning", 0)
    merging.model.encode(replace(inputs, facts=replace(inputs.facts, task=None)))


def test_merging_again_is_refused() -> None:
    _, merging = routed_and_merged(["vqa"], condition="modality")
    with pytest.raises(UserError, match="merged already, for vqa; merge the model with experts that it was made from"):
        merge_model(merging.model, merging.arch, needs_of())
    with pytest.raises(UserError, match="merged already"):
        planned_architecture(merging.arch, needs_of())


def test_a_dense_model_is_refused() -> None:
    with pytest.raises(UserError, match="this model is dense: it has no experts to merge"):
        merge_model(tiny_model(), tiny_architecture(), needs_of())


@pytest.mark.parametrize("condition", ["token", "context", "expert_choice"])
def test_routing_by_values_is_refused(condition: str) -> None:
    moe = moe_of(condition)
    with pytest.raises(UserError, match=rf"moe.condition={condition} cannot be merged"):
        merge_model(tiny_model(moe=moe), tiny_architecture(moe=moe), needs_of())


def test_whole_ffns_of_which_a_token_has_two_are_refused() -> None:
    moe = moe_of("attribute", level="ffn", where="ffn")
    with pytest.raises(UserError, match=r"moe.level=ffn with k=2 cannot be merged"):
        merge_model(tiny_model(moe=moe), tiny_architecture(moe=moe), needs_of())


def test_rows_of_no_experts_are_a_damaged_file() -> None:
    values = {"width": 16, "layers": 1, "heads": 2, "ffn": 24, "patch": 16, "vocabulary": 9, "end": 0, "answer": 1}
    rows = {"tasks": [], "codes": [], "half_blocks": []}
    with pytest.raises(UserError, match="config: merged: needs moe"):
        parse(Architecture, {**values, "merged": rows}, "config")

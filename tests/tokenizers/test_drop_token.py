"""DropToken: the patches that are kept have the content and the positions that they have in the whole grid.

Shape suffixes: B sequences, G tokens, D width.
"""

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_model
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.vision import PatchTokenizer, SpatialPositions

D, SIDE = 16, 4


def tokenizer(stem: str, depth: int, kind: str = "sincos") -> PatchTokenizer:
    torch.manual_seed(1)
    spatial = SpatialPositions(D, kind=kind, reference_grid=6.0, table_grid=3)
    return PatchTokenizer(D, patch=SIDE, depth=depth, stem=stem, max_frames=5, spatial=spatial)


@pytest.mark.parametrize("stem", ["linear", "conv"])
@pytest.mark.parametrize(("depth", "frames", "kind"), [(1, 1, "table"), (1, 3, "sincos"), (2, 3, "sincos")])
def test_kept_tokens_are_those_of_the_whole_grid(stem: str, depth: int, frames: int, kind: str) -> None:
    tokens = tokenizer(stem, depth, kind)
    clip = torch.randn(2, frames, 3, 8, 12, generator=torch_stream(0))
    whole_BGD = tokens(clip, 1)
    assert tokens.count(clip.shape[1:]) == whole_BGD.shape[1] == -(-frames // depth) * 6
    keep_BG = torch.tensor([[0, 2, 5], [1, 2, whole_BGD.shape[1] - 1]])
    for rows in (keep_BG, keep_BG.flip(1)):
        torch.testing.assert_close(tokens(clip, 1, rows), torch.stack([whole_BGD[0, rows[0]], whole_BGD[1, rows[1]]]))
    assert tokens(clip, 1, keep_BG).shape == (2, 3, D)


@pytest.mark.parametrize("task", ["video_classification", "image_captioning"])
def test_the_order_of_kept_patches_is_nothing_to_the_encoder(task: str) -> None:
    model, batch = tiny_model().eval(), tiny_batch(task)
    (part, *rest) = batch.inputs.parts
    count = model.tokenizer.count(part.modality, part.values.shape[1:])
    assert count == 4 * part.values.shape[1]
    keep_BG = torch.stack([torch.randperm(count, generator=torch_stream(row))[: count // 2] for row in range(3)])
    summaries = []
    for rows in (keep_BG, keep_BG.sort(dim=1).values):
        parts = (replace(part, keep_BG=rows), *rest)
        summaries.append(model.encode(replace(batch.inputs, parts=parts), summary=True).x_BND)
    torch.testing.assert_close(*summaries, atol=1e-5, rtol=1e-5)
    assert (summaries[0] - model.encode(batch.inputs, summary=True).x_BND).abs().max() > 1e-3


def test_all_kept_is_nothing_dropped() -> None:
    model, batch = tiny_model().eval(), tiny_batch("video_text_retrieval")
    (part,) = batch.inputs.parts
    kept = replace(part, keep_BG=torch.arange(8).expand(3, -1))
    expected = model.encode(batch.inputs).x_BND
    assert torch.equal(model.encode(replace(batch.inputs, parts=(kept,))).x_BND, expected)

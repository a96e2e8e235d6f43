"""Pictures become proposals and tokens: their order, where gradients go, and what does not depend on others.

Shape suffixes: B pictures, C channels, H W pixels, G tokens, N proposals that are tokens, Q queries, S cells, D width.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uniperceiver.boxes import logit
from uniperceiver.records.regions import Regions
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.regions.places import anchors
from uniperceiver.tokenizers.regions.shape import RegionShape
from uniperceiver.tokenizers.regions.tokens import RegionTokenizer

D, HEADS, PATCH = 16, 2, 8
SMALL: dict[str, Any] = {"backbone_layers": 1, "decoder": 2, "queries": 6, "tokens": 4, "points": 2}


def drawn(**fields: Any) -> RegionTokenizer:
    """A tokenizer with weights as a model draws them."""
    torch.manual_seed(0)
    tokenizer = RegionTokenizer(D, HEADS, PATCH, RegionShape(**{**SMALL, **fields}))
    stream = torch_stream(1)
    for module in tokenizer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=stream)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    tokenizer.initialise(stream)
    return tokenizer


def trained(**fields: Any) -> RegionTokenizer:
    """A tokenizer of which nothing is as it begins: boxes move, and queries look where they like."""
    tokenizer, stream = drawn(**fields), torch_stream(2)
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=stream), alpha=0.1)
    return tokenizer


def pixels(b: int = 2, height: int = 40, width: int = 56) -> Tensor:
    return torch.randn(b, 3, height, width, generator=torch_stream(3, height, width))


def layers_of(regions: Regions) -> list[Tensor]:
    """All that is said of queries."""
    tensors = []
    for layer in regions.layers:
        tensors += [layer.objectness_BQ, layer.box_BQ4, *([] if layer.mask_BQHW is None else [layer.mask_BQHW])]
    return tensors


def test_the_first_layer_says_something_of_every_cell_and_the_others_of_every_query() -> None:
    x_BGD, regions = drawn(masks=True).propose(pixels())
    cells = 5 * 7 + 3 * 4
    assert [layer.objectness_BQ.shape for layer in regions.layers] == [(2, cells), (2, 6), (2, 6)]
    assert [layer.box_BQ4.shape for layer in regions.layers] == [(2, cells, 4), (2, 6, 4), (2, 6, 4)]
    assert regions.layers[0].mask_BQHW is None
    assert all(layer.mask_BQHW is not None and layer.mask_BQHW.shape == (2, 6, 10, 14) for layer in regions.layers[1:])
    assert x_BGD.shape == (2, 1 + 12 + 4, D)
    assert regions.start == 1 + 12
    assert regions.chosen_BN.shape == (2, 4)
    for layer in regions.layers:
        assert layer.objectness_BQ.dtype == layer.box_BQ4.dtype == torch.float32
        assert (layer.box_BQ4 > 0).all()
        assert (layer.box_BQ4 < 1).all()


def test_boxes_begin_as_their_anchors_and_nearly_nothing_is_a_thing() -> None:
    tokenizer = drawn()
    _, regions = tokenizer.propose(pixels())
    grids = tokenizer.backbone(pixels()).grids
    anchor_S4 = anchors(grids, torch.device("cpu"))
    first, *later = regions.layers
    torch.testing.assert_close(first.box_BQ4, logit(anchor_S4).sigmoid().expand(2, -1, -1))
    order_BQ = first.objectness_BQ.argsort(dim=1, descending=True)[:, :6]
    for layer in later:
        chosen_BQ4 = first.box_BQ4.gather(1, order_BQ[..., None].expand(-1, -1, 4))
        torch.testing.assert_close(layer.box_BQ4, chosen_BQ4)
    for layer in regions.layers:
        torch.testing.assert_close(layer.objectness_BQ, torch.full_like(layer.objectness_BQ, -4.0), rtol=0, atol=0.3)
    assert first.objectness_BQ.std() > 0


def test_an_anchor_lies_in_the_middle_of_its_cell_and_is_two_cells_wide() -> None:
    grids = drawn().backbone(pixels()).grids
    anchor_S4 = anchors(grids, torch.device("cpu")) * torch.tensor([56.0, 40.0, 56.0, 40.0])
    torch.testing.assert_close(anchor_S4[7 + 2], torch.tensor([20.0, 12.0, 16.0, 16.0]))
    torch.testing.assert_close(anchor_S4[35 + 4 + 1], torch.tensor([24.0, 24.0, 32.0, 32.0]))


def test_proposals_are_in_order_of_falling_objectness() -> None:
    _, regions = trained().propose(pixels())
    last_BQ = regions.layers[-1].objectness_BQ
    chosen_BN = last_BQ.gather(1, regions.chosen_BN)
    assert last_BQ.argsort(dim=1, descending=True).tolist() != [list(range(6))] * 2
    assert torch.equal(chosen_BN, last_BQ.sort(dim=1, descending=True).values[:, :4])


def test_queries_come_from_the_cells_of_most_objectness() -> None:
    tokenizer = trained()
    with torch.no_grad():  # so that a query stays where it was chosen
        for layer in tokenizer.decoder.layers:
            nn.init.zeros_(layer.head.box.last.weight)  # type: ignore[union-attr]
            nn.init.zeros_(layer.head.box.last.bias)  # type: ignore[union-attr]
    _, regions = tokenizer.propose(pixels())
    first = regions.layers[0]
    order_BQ = first.objectness_BQ.argsort(dim=1, descending=True)[:, :6]
    expected_BQ4 = first.box_BQ4.gather(1, order_BQ[..., None].expand(-1, -1, 4)).clamp(1e-3, 1 - 1e-3)
    torch.testing.assert_close(regions.layers[-1].box_BQ4, expected_BQ4)


def gradients_of(tokenizer: RegionTokenizer, loss: Tensor) -> dict[str, float]:
    """The largest gradient of each parameter; 0 where there is none."""
    parameters = dict(tokenizer.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    sizes = (0.0 if gradient is None else gradient.abs().max().item() for gradient in gradients)
    return dict(zip(parameters, sizes, strict=True))


def only_says(name: str) -> bool:
    """Whether it is of a head that only says where something is, and whether."""
    return name.startswith(("decoder.first.", "decoder.masks.")) or ".head." in name


def test_tokens_teach_all_but_the_heads_of_boxes_objectness_and_masks() -> None:
    tokenizer = trained(masks=True)
    x_BGD, _ = tokenizer.propose(pixels())
    sizes = gradients_of(tokenizer, (x_BGD * torch.randn(x_BGD.shape, generator=torch_stream(4))).sum())
    assert {name for name, size in sizes.items() if size == 0} == set(filter(only_says, sizes))
    for name in (
        "backbone.stem.layers.0.weight",
        "decoder.rank",
        "box.weight",
        "mask.weight",
        "pools.0.attention.out.weight",
    ):
        assert sizes[name] > 1e-6, name


@pytest.mark.parametrize("what", ["objectness_BQ", "box_BQ4", "mask_BQHW"])
def test_what_is_said_of_a_layer_teaches_its_own_head_and_the_backbone(what: str) -> None:
    tokenizer = trained(masks=True)
    _, regions = tokenizer.propose(pixels())
    said: Tensor = getattr(regions.layers[-1], what)
    sizes = gradients_of(tokenizer, said.square().mean())
    assert sizes["backbone.stem.layers.0.weight"] > 1e-6
    assert sizes["decoder.rank"] > 1e-6
    head = {"objectness_BQ": "decoder.layers.1.head.objectness.", "box_BQ4": "decoder.layers.1.head.box."}
    learns = {name for name, size in sizes.items() if only_says(name) and size > 0}
    assert learns == {name for name in sizes if name.startswith(head.get(what, "decoder.masks."))}


def test_the_first_choice_is_taught_by_its_own_loss_alone() -> None:
    tokenizer = trained()
    _, regions = tokenizer.propose(pixels())
    first = regions.layers[0]
    sizes = gradients_of(tokenizer, first.objectness_BQ.square().mean() + first.box_BQ4.square().mean())
    assert sizes["backbone.stem.layers.0.weight"] > 1e-6
    assert {name.split(".")[1] for name, size in sizes.items() if size > 0 and name.startswith("decoder.")} == {"first"}


def test_every_parameter_has_a_use() -> None:
    tokenizer = trained(masks=True)
    x_BGD, regions = tokenizer.propose(pixels())
    loss = x_BGD.square().mean() + sum(said.square().mean() for said in layers_of(regions))
    assert all(gradients_of(tokenizer, loss).values())


def test_masks_of_inner_layers_are_made_where_they_are_asked_for_and_change_nothing_else() -> None:
    tokenizer = trained(masks=True, decoder=3)
    results = [tokenizer.propose(pixels(), every_mask=every) for every in (True, False)]
    (all_BGD, everything), (last_BGD, last) = results
    assert [layer.mask_BQHW is not None for layer in everything.layers] == [False, True, True, True]
    assert [layer.mask_BQHW is not None for layer in last.layers] == [False, False, False, True]
    assert torch.equal(all_BGD, last_BGD)
    for left, right in zip(everything.layers, last.layers, strict=True):
        assert torch.equal(left.objectness_BQ, right.objectness_BQ)
        assert torch.equal(left.box_BQ4, right.box_BQ4)
    without_masks = [
        gradients_of(tokenizer, x_BGD.square().mean() + sum(layer.box_BQ4.square().mean() for layer in regions.layers))
        for x_BGD, regions in results
    ]
    assert without_masks[0] == without_masks[1]


@pytest.mark.parametrize("masks", [False, True])
def test_a_picture_does_not_depend_on_the_others_of_its_batch(masks: bool) -> None:
    tokenizer, mixed = trained(masks=masks), pixels(b=4)
    mixed[2] *= 30  # a picture unlike the others
    x_BGD, regions = tokenizer.propose(mixed)
    for picture in range(4):
        alone_BGD, own = tokenizer.propose(mixed[picture : picture + 1])
        torch.testing.assert_close(alone_BGD[0], x_BGD[picture], rtol=1e-5, atol=1e-5)
        assert torch.equal(own.chosen_BN[0], regions.chosen_BN[picture])
        for left, right in zip(layers_of(own), layers_of(regions), strict=True):
            torch.testing.assert_close(left[0], right[picture], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 40), (24, 16), (72, 104), (33, 50)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_pictures_of_any_size_become_tokens(levels: int, height: int, width: int) -> None:
    tokenizer = trained(levels=levels, masks=True)
    x_BGD, regions = tokenizer.propose(pixels(height=height, width=width))
    cells = sum(grid.cells for grid in tokenizer.backbone(pixels(height=height, width=width)).grids)
    assert regions.layers[-1].box_BQ4.shape[1] == min(6, cells)  # all cells, where there are fewer than queries
    assert x_BGD.shape[1] == regions.start + min(4, cells)
    assert regions.start <= 1 + 49
    assert x_BGD.isfinite().all()


def test_kinds_choose_which_tokens_there_are() -> None:
    both_BGD, regions = trained().propose(pixels())
    whole, start = drawn(kinds="global"), regions.start
    whole_BGD, of_whole = whole.propose(pixels())
    assert whole_BGD.shape == (2, start, D)
    assert (of_whole.start, of_whole.chosen_BN.shape, len(of_whole.layers)) == (start, (2, 0), 3)
    proposals_BND, of_proposals = drawn(kinds="proposals").propose(pixels())
    assert proposals_BND.shape == (2, 4, D)
    assert (of_proposals.start, of_proposals.chosen_BN.shape) == (0, (2, 4))
    assert both_BGD.shape == (2, start + 4, D)


def test_a_proposal_s_token_is_its_query_its_box_and_its_mask() -> None:
    tokenizer = trained(masks=True)
    x_BGD, regions = tokenizer.propose(pixels())
    last, query = regions.layers[-1], tokenizer.decoder(tokenizer.backbone(pixels())).query_BQD
    assert last.mask_BQHW is not None
    assert tokenizer.mask is not None
    for place, chosen in enumerate(regions.chosen_BN[1].tolist()):
        angle = [2 * torch.pi * side / 10000 ** (k / 2) for side in last.box_BQ4[1, chosen].tolist() for k in range(2)]
        vector_D = torch.cat([torch.tensor(angle).sin(), torch.tensor(angle).cos()])
        small = nn.functional.adaptive_avg_pool2d(last.mask_BQHW[1, chosen].sigmoid()[None], 28)
        expected_D = query[1, chosen] + tokenizer.box(vector_D) + tokenizer.mask(small.flatten())
        torch.testing.assert_close(x_BGD[1, regions.start + place], expected_D, rtol=1e-4, atol=1e-4)


def test_under_autocast_boxes_and_objectness_are_float32_and_near_those_without_it() -> None:
    tokenizer = trained(masks=True)
    _, exact = tokenizer.propose(pixels())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x_BGD, regions = tokenizer.propose(pixels())
    assert x_BGD.isfinite().all()
    assert all(said.dtype == torch.float32 for said in layers_of(regions))
    torch.testing.assert_close(regions.layers[0].box_BQ4, exact.layers[0].box_BQ4, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("stride", [2, 4])
def test_masks_have_the_stride_that_was_asked_for(stride: int) -> None:
    _, regions = trained(masks=True, mask_stride=stride).propose(pixels())
    mask_BQHW = regions.layers[-1].mask_BQHW
    assert mask_BQHW is not None
    assert mask_BQHW.shape[2:] == (40 // stride, 56 // stride)


def test_patches_too_small_for_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="mask_stride: patches of 2 pixels have no map of stride 4"):
        RegionTokenizer(D, HEADS, 2, RegionShape(masks=True))


def test_widths_that_boxes_have_no_vectors_for_are_refused() -> None:
    with pytest.raises(ValueError, match="width: 12 is no multiple of 8"):
        RegionTokenizer(12, HEADS, PATCH, RegionShape())

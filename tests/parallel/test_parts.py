"""Tensors that are whole are left as they are; parts are looked at in tests/training/test_shards.py."""

import torch

from uniperceiver.parallel.parts import gathered_by_first, is_part, local, part_like, whole
from uniperceiver.parallel.world import World


def test_a_whole_tensor_is_itself() -> None:
    tensor, example = torch.ones(3, 2, requires_grad=True), torch.zeros(3, 2)
    assert not is_part(tensor)
    assert local(tensor) is tensor
    assert whole(tensor) is tensor
    assert part_like(tensor, example) is tensor


def test_whole_tensors_stay_with_every_process() -> None:
    groups = {"model": {"weight": torch.ones(2)}, "balance": {}}
    for world in (World(), World(rank=1, size=2)):
        gathered = gathered_by_first(groups, world)
        assert gathered == groups
        assert gathered["model"]["weight"] is groups["model"]["weight"]

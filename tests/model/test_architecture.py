"""What a user of a model should know before it is measured."""

from tests.tiny import tiny_architecture
from uniperceiver.model.architecture import notes_on
from uniperceiver.moe.settings import MoE


def test_experts_that_can_be_full_are_said_and_no_others() -> None:
    assert notes_on(tiny_architecture()) == []
    assert notes_on(tiny_architecture(moe=MoE(condition="token", ffn_layers=(0,)))) == []
    for capacity in ("training_capacity", "evaluation_capacity"):
        moe = MoE(condition="token", ffn_layers=(0,), **{capacity: 1.5})
        (note,) = notes_on(tiny_architecture(moe=moe))
        assert note.startswith("moe.capacity: an expert that is full leaves tokens out")

"""CONDITIONAL MIXTURE-OF-EXPERTS: experts chosen by token, context, modality, task or attributes.

What is named here works in anybody's nn.Module, with tensors and tags alone (examples/lifted_experts.py).
"""

from uniperceiver.moe.lifted import MixtureFeedForward, MixtureLinear, MixtureRouter, Routing

__all__ = ["MixtureFeedForward", "MixtureLinear", "MixtureRouter", "Routing"]

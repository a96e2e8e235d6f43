"""WHO HURTS WHOM: how a step on one task changes the loss of another, from gradients of shared parameters.

These names measure it for any PyTorch model; for a run of this library there is `uniperceiver interference`.
"""

from uniperceiver.interference.estimate import InterferenceEstimate, measure
from uniperceiver.interference.groups import ParameterGroup, groups_of
from uniperceiver.interference.products import RepeatableLosses, TaskLoss

__all__ = ["InterferenceEstimate", "ParameterGroup", "RepeatableLosses", "TaskLoss", "groups_of", "measure"]

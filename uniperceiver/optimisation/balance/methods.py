"""The methods by name."""

from collections.abc import Mapping

from uniperceiver.config import TaskBalanceConfig
from uniperceiver.optimisation.balance.cagrad import CAGrad
from uniperceiver.optimisation.balance.dwa import DynamicWeightAverage
from uniperceiver.optimisation.balance.famo import FAMO
from uniperceiver.optimisation.balance.fixed import Fixed
from uniperceiver.optimisation.balance.gradnorm import GradNorm
from uniperceiver.optimisation.balance.method import Method, TaskFacts
from uniperceiver.optimisation.balance.nash import Nash
from uniperceiver.optimisation.balance.own_moments import OwnMoments
from uniperceiver.optimisation.balance.pcgrad import PCGrad
from uniperceiver.optimisation.balance.random_weights import RandomWeights
from uniperceiver.optimisation.balance.tbgn import TBGN
from uniperceiver.optimisation.balance.uncertainty import Uncertainty

METHODS: Mapping[str, type[Method]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "gradnorm": GradNorm,
    "dwa": DynamicWeightAverage,
    "random_weights": RandomWeights,
    "pcgrad": PCGrad,
    "cagrad": CAGrad,
    "nash": Nash,
    "famo": FAMO,
    "tbgn": TBGN,
    "own_moments": OwnMoments,
}


def make(config: TaskBalanceConfig, tasks: Mapping[str, TaskFacts], seed: int) -> Method:
    """The method of a run, before its first step."""
    return METHODS[config.method](tasks, config, seed)

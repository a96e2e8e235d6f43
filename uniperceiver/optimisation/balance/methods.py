"""The methods by name; a method of your own is one line more."""

from collections.abc import Mapping

from uniperceiver.config import TaskBalanceConfig
from uniperceiver.optimisation.balance.gram import CAGrad, Nash, PCGrad
from uniperceiver.optimisation.balance.learnt import FAMO, GradNorm, Uncertainty
from uniperceiver.optimisation.balance.method import Fixed, Method, TaskFacts
from uniperceiver.optimisation.balance.own_moments import OwnMoments
from uniperceiver.optimisation.balance.tbgn import TBGN
from uniperceiver.optimisation.balance.weights import DynamicWeightAverage, RandomWeights

METHODS: dict[str, type[Method]] = {
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

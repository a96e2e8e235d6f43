"""The methods by name, and what a recipe must be like for each."""

from collections.abc import Mapping

from uniperceiver.config import Recipe, TaskBalanceConfig
from uniperceiver.config.training import BalanceMethod
from uniperceiver.errors import UserError
from uniperceiver.optimisation.balance.gram import CAGrad, Nash, PCGrad
from uniperceiver.optimisation.balance.learnt import FAMO, GradNorm, Uncertainty
from uniperceiver.optimisation.balance.method import Fixed, Method, TaskFacts
from uniperceiver.optimisation.balance.own_moments import OwnMoments
from uniperceiver.optimisation.balance.tbgn import TBGN
from uniperceiver.optimisation.balance.weights import DynamicWeightAverage, RandomWeights

METHODS: Mapping[BalanceMethod, type[Method]] = {
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


def check_balance(recipe: Recipe, tasks: int) -> None:
    """The recipe's sampling must give the method what it needs.

    Args:
        tasks: how many the run has.

    Raises:
        UserError: it does not.
    """
    method, window, mixed = METHODS[recipe.balance.method], recipe.balance.window, recipe.sampling.mode == "mixed"
    name = f"balance.method={recipe.balance.method}"
    if tasks < method.least_tasks:
        raise UserError(f"{name}: balances several tasks, the run has {tasks}; add tasks, or use balance.method=fixed")
    if mixed and window > 1:
        raise UserError(
            "balance.window: is for sampling.mode=unmixed; in mixed steps, set sampling.tasks_per_step instead"
        )
    if method.one_at_once and mixed:
        raise UserError(f"{name}: needs steps of one task; set sampling.mode=unmixed")
    if method.one_at_once and window > 1:
        raise UserError(f"{name}: needs steps of one task; remove balance.window")
    if method.several_at_once and mixed and recipe.sampling.tasks_per_step < 2:
        raise UserError(f"{name}: needs several tasks in a step; set sampling.tasks_per_step to 2 or more")
    if method.several_at_once and not mixed and window < 2:
        raise UserError(
            f"{name}: needs several tasks at the same weights, and unmixed steps have one; set sampling.mode=mixed, "
            "or balance.window to 2 or more"
        )

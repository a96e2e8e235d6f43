"""PROCESSES THAT SHARE ONE COPY OF A MODEL: each holds a part of weights, gradients, moments and average.

What of training wants whole weights gets them in a model of its own, which is empty at all other times: a model whose
weights are parts can be asked by all processes together only, batch by batch.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from uniperceiver.config import Recipe
from uniperceiver.data.mix import Plan
from uniperceiver.errors import UserError
from uniperceiver.model.encoder import Block
from uniperceiver.model.model import Generalist
from uniperceiver.optimisation.balance.method import Method
from uniperceiver.optimisation.balance.methods import METHODS
from uniperceiver.parallel.parts import Groups, whole
from uniperceiver.parallel.shards import ShardedModule, can_shard
from uniperceiver.parallel.world import World
from uniperceiver.records import Batch
from uniperceiver.training.processes.team import TeamOfProcesses

if TYPE_CHECKING:  # a state names the team that makes its steps
    from uniperceiver.training.objective import TrainingObjective
    from uniperceiver.training.step import TrainState


class ShardedTraining:
    """The parts of a model that this process holds, and a place for whole weights.

    Args:
        objective: is changed, with the model in it: their parameters become parts.
        size: processes that hold one copy together.
    """

    def __init__(self, objective: "TrainingObjective", world: World, *, size: int) -> None:
        model, self._objective, self.world, self.size = objective.model, objective, world, size
        empty: dict[int, Any] = {
            id(value): nn.Parameter(value.new_empty(0), requires_grad=value.requires_grad)
            for value in model.parameters()
        }
        self._whole: Generalist = copy.deepcopy(model, empty)
        groups = [block.linears for block in model.encoder.blocks if isinstance(block, Block)]
        # Of a batch the inputs are encoded, and the candidates.
        self.shards = ShardedModule(objective, groups, world, size=size, passes=2)

    def team(self, method: Method) -> "TeamOfShards":
        """Those that make the steps."""
        used_by_all = self._objective.used_by_all
        (name,) = [name for name, value in self._objective.named_parameters() if value is used_by_all]
        return TeamOfShards(self.world, method, self.shards, name)

    @contextmanager
    def whole(self, state: "TrainState", gathered: Groups | None = None) -> Iterator["TrainState"]:
        """The state with whole weights, their average where there is one, to be asked and not to be trained.

        Within the block each process may do what it likes.

        Args:
            gathered: what a checkpoint saves of the state; None: all processes enter together and gather the weights.
        """
        if gathered is None:
            parts: Mapping[str, Tensor] = dict(state.model.named_parameters()) | (state.average or {})
            weights = {name: whole(value.detach()) for name, value in parts.items()}
        else:
            weights = {**gathered["model"], **gathered.get("average", {})}
        with self.filled(weights) as model:
            yield replace(state, model=model, average=None)

    @contextmanager
    def filled(self, weights: Mapping[str, Tensor]) -> Iterator[Generalist]:
        """A plain model with these weights, until the end of the block."""
        model, of_objective = self._whole, self._objective.model
        with torch.no_grad():
            for buffer, current in zip(model.buffers(), of_objective.buffers(), strict=True):
                buffer.copy_(current)
        try:
            for name, parameter in model.named_parameters():
                parameter.data = weights[name]
            model.weights_changed()
            yield model
        finally:
            for parameter in model.parameters():
                parameter.data = parameter.data.new_empty(0)
            model.weights_changed()


class TeamOfShards(TeamOfProcesses):
    """Several processes, each with its own batches of a step and a part of the weights.

    All make as many forward and backward passes, those without a batch with a candidate that counts for nothing.
    """

    def __init__(self, world: World, method: Method, shards: ShardedModule, used_by_all: str) -> None:
        super().__init__(world, None, method, wraps=False)
        self.factor = float(world.size)
        self._shards, self._used_by_all = shards, used_by_all

    def loss(self, objective: Callable[..., Any], batch: Batch, plan: Plan, *, last: bool) -> Any:
        return self._shards(batch, plan)

    def finish(self, model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
        counts = Counter(place.rank for place in self._places)
        with self._shards.nothing():
            for _ in range(max(counts.values()) - counts[self.world.rank]):
                self._shards(None, self._places[0].index).loss.backward()
        used = self._shards.finish()
        if self._used_by_all not in used:
            raise AssertionError(
                f"no gradient came into {self._used_by_all}, which every batch uses: this torch gathers weights in "
                "another way than was tried; set parallel.shard=1"
            )

    def clip(self, model: nn.Module, limit: float) -> Tensor:
        return self._shards.clip(limit)


def shard_size(recipe: Recipe, processes: int) -> int:
    """How many processes share one copy of the weights.

    Raises:
        UserError: the run has no multiple of so many processes, or something in the recipe needs whole gradients, or a
            number of passes that processes do not agree on.
    """
    size = recipe.parallel.shard or processes
    if processes % size:
        raise UserError(
            f"parallel.shard={size}: the number of processes must be a multiple of it, and is {processes}; set "
            "parallel.shard=0 for all of them, or 1 for none"
        )
    other = next(_not_sharded(recipe), None) if size > 1 else None
    if other is not None:
        raise UserError(
            f"parallel.shard={recipe.parallel.shard}: processes that share one copy of the weights cannot have "
            f"{other}; change that key, or set parallel.shard=1"
        )
    return size


def _not_sharded(recipe: Recipe) -> Iterator[str]:
    """The keys that need what no process has where weights are sharded."""
    method, optimiser = METHODS[recipe.balance.method], recipe.optimiser
    if method.needs_gradients or method.needs_losses:  # of whole tensors, by task; or of all batches before any update
        yield f"balance.method={recipe.balance.method}"
    if optimiser.kind == "muon":  # looks at whole matrices
        yield "optimiser.kind=muon"
    if optimiser.compile:
        yield f"optimiser.compile={str(optimiser.compile).lower()}"
    if optimiser.precision == "float16":
        yield "optimiser.precision=float16"
    if recipe.tune.method == "prompt":  # linears are called twice in a pass
        yield "tune.method=prompt"
    if recipe.candidates.share == "step":
        yield "candidates.share=step"
    for name, config in recipe.tasks.items():
        if config.negatives == "step":
            yield f"tasks.{name}.negatives=step"
    if not can_shard():
        yield f"torch {torch.__version__} (it needs 2.13)"

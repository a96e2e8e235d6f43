"""TASKS + ARCHITECTURE -> COSTS: what a batch of each task keeps for its backward pass and computes, measured.

Forward and backward passes are made here, on the CPU, with the code that trains: what is made and what autograd saves
is counted, and products by torch's formulas. Batches that are large are measured in two parts, one twice as large as
the other, and continued as a straight line. So are models: of a large one, few layers are made, and a layer of each
kind more.

Shape suffixes: B samples, K candidates, D width.
"""

import dataclasses
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from uniperceiver.config import Recipe
from uniperceiver.data.mix import NEVER, BatchMaker, Mixture, Plan
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.runs.plan.rows import first_rows, spread
from uniperceiver.runs.training import objective_of
from uniperceiver.runs.tuning import freeze
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.candidates import Candidates, TextCodec, representations, rows_of
from uniperceiver.tasks.task import temperatures_of
from uniperceiver.training.objective import Among, TrainingObjective

_AFFORDABLE = 64e6  # bytes of activations up to which a part is measured as it is
_WHOLE_MODEL = 64e6  # parameters up to which a model is


def _attention(products: int, query: Tensor, key: Tensor) -> float:
    """FLOP of so many products for each pair of tokens."""
    *heads, length, width = query.shape
    return 2.0 * products * torch.Size(heads).numel() * length * key.shape[-2] * width


_OF_CPU: Mapping[Any, Callable[..., float]] = {  # what torch has no formula for
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda *inputs, **_: _attention(2, *inputs[:2]),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *inputs, **_: _attention(
        5,
        *inputs[1:3],  # the scores are computed again
    ),
}


@dataclass(frozen=True, kw_only=True)
class PassCost:
    """What a forward and a backward pass take; a sum of such costs, and a multiple, is one, too."""

    tokens: float = 0.0
    saved: float = 0.0  # bytes that are kept between the passes
    flop: float = 0.0  # of both passes
    extra: float = 0.0  # bytes beside them at the worst moment of either pass

    def plus(self, other: "PassCost", times: float = 1.0) -> "PassCost":
        """The sum with so many times another."""
        mine, others = dataclasses.astuple(self), dataclasses.astuple(other)
        return PassCost(
            **{
                field.name: value + times * more
                for field, value, more in zip(dataclasses.fields(self), mine, others, strict=True)
            }
        )


@dataclass(frozen=True, kw_only=True)
class BatchCost:
    """What a batch of a task takes."""

    samples: int
    candidates: int  # sequences that they are compared with
    inputs: PassCost
    encoding: PassCost  # of all candidates
    waiting: float = 0.0  # bytes of gradients of weights that both of them use

    @property
    def saved(self) -> float:
        """Bytes that are kept between the passes, where the batch has its candidates for itself."""
        return self.inputs.saved + self.encoding.saved

    @property
    def extra(self) -> float:
        """Bytes beside them at the worst moment.

        Backwards, candidates come first. Gradients of weights that the inputs use, too, then wait until the inputs have
        theirs, as autograd gives a weight the sum of both.
        """
        of_inputs = self.inputs.extra + self.waiting - self.encoding.saved
        return max(self.inputs.extra, self.encoding.extra, of_inputs, 0.0)


def measure(
    recipe: Recipe, tasks: Sequence[TaskData], codec: TextCodec, arch: Architecture, mixture: Mixture
) -> dict[str, BatchCost]:
    """Measure a batch of every task, as it is where the task's batches have most tokens.

    Args:
        recipe: what `optimiser.precision` says holds; the device is this machine's CPU.

    Raises:
        UserError: no sample of a first batch can be read.
    """
    arch = dataclasses.replace(arch, drop_path=0.0)
    plans = {tasks[index].task.name: _plan(mixture, index) for index in range(len(tasks))}
    maker = BatchMaker(mixture)
    experts = 1 if arch.moe is None else arch.moe.experts
    whole = experts * arch.layers * (4 * arch.width**2 + 2 * arch.width * arch.ffn) <= _WHOLE_MODEL
    stacks = [(tuple(range(arch.layers)), 1.0)] if whole else _stacks(arch)
    costs: dict[str, BatchCost] = {}
    for layers, times in stacks:
        objective = objective_on_cpu(recipe, tasks, codec, _with_layers(arch, layers))
        objective.model.encoder.recompute = recipe.optimiser.recompute
        for name, plan in plans.items():
            cost = _batch_cost(objective, maker, plan)
            before = costs.get(name)
            costs[name] = BatchCost(
                samples=cost.samples,
                candidates=cost.candidates,
                inputs=(before.inputs if before else PassCost()).plus(cost.inputs, times),
                encoding=(before.encoding if before else PassCost()).plus(cost.encoding, times),
                waiting=(before.waiting if before else 0.0) + times * cost.waiting,
            )
    return costs


def _plan(mixture: Mixture, index: int) -> Plan:
    """The first batch of a task, in the stage in which its batches have most tokens."""
    stages = mixture.sets[index].stages
    trained = [number for number, stage in enumerate(stages) if stage.begins < NEVER]
    stage = max(trained, key=lambda number: (stages[number].cost, -number))
    return Plan(step=0, place=0, index=index, start=0, count=stages[stage].batch, stage=stage)


def _kind(arch: Architecture, layer: int) -> tuple[bool, bool]:
    """In which halves a layer has experts."""
    moe = arch.moe
    return (False, False) if moe is None else (layer in moe.attention_layers, layer in moe.ffn_layers)


def _stacks(arch: Architecture) -> list[tuple[tuple[int, ...], float]]:
    """Layers to make together, and how often their costs count: together they are those of all layers.

    The last layer, which may compute one token only, is in all of them.
    """
    counts = Counter(_kind(arch, layer) for layer in range(arch.layers))
    last = {_kind(arch, layer): layer for layer in range(arch.layers)}
    base = sorted(last.values())
    more = [(tuple(sorted([*base, last[kind]])), float(count - 1)) for kind, count in counts.items() if count > 1]
    return [(tuple(base), 1.0 - sum(times for _, times in more)), *more]


def _with_layers(arch: Architecture, layers: Sequence[int]) -> Architecture:
    """The architecture with those of its layers alone."""
    moe = arch.moe
    if moe is not None:
        moe = dataclasses.replace(
            moe,
            attention_layers=tuple(n for n, layer in enumerate(layers) if layer in moe.attention_layers),
            ffn_layers=tuple(n for n, layer in enumerate(layers) if layer in moe.ffn_layers),
        )
    return dataclasses.replace(arch, layers=len(layers), moe=moe)


def objective_on_cpu(
    recipe: Recipe, tasks: Sequence[TaskData], codec: TextCodec, arch: Architecture
) -> TrainingObjective:
    """The loss of the recipe's tasks, around a new model on the CPU."""
    recipe = dataclasses.replace(recipe, device="cpu")
    model = build(arch, temperatures_of(arch.tokenizers), torch_stream(recipe.seed, "weights"))
    freeze(recipe, model)
    trained = {d.task.name: KnownTask(task=d.task, index=d.index, preprocess=d.preprocess) for d in tasks}
    saved = SavedModel(model=model, arch=arch, codec=codec, tasks=trained)  # type: ignore[arg-type]
    return objective_of(recipe, list(tasks), saved)


def _batch_cost(objective: TrainingObjective, maker: BatchMaker, plan: Plan) -> BatchCost:
    task = objective.tasks[plan.index].task
    batch, broken = maker[plan][1:]
    if batch is None:
        raise UserError(f"tasks.{task.name}.train: no sample of a batch can be read; the first: {broken[0].reason}")
    there, candidates = len(batch.ids), objective.candidates(batch, plan)

    def inputs_of(count: int) -> Callable[[], Tensor]:
        if batch.readout.objects is None:
            part = first_rows(batch, count)
        else:
            part = maker[dataclasses.replace(plan, places=tuple(range(count)))][1] or batch
        compared = candidates if batch.candidates is None else objective.candidates(part, plan)
        classes = compared.sequences.size if compared.owner_K is None else int(compared.owner_K.max()) + 1
        width = len(objective.used_by_all)

        def run() -> Tensor:
            c_KD = torch.full((classes, width), width**-0.5, requires_grad=True)
            loss = objective(part, plan, among=Among(candidates=compared, c_KD=c_KD))
            return torch.stack([*loss.terms.values(), *loss.balance.values()]).sum()

        return run

    stream = partial(torch_stream, objective.seed, "model", plan.step, plan.place)
    used_by_inputs, used_by_candidates = set[nn.Parameter](), set[nn.Parameter]()
    inputs = _continued(objective, inputs_of, there, plan.count, used_by_inputs)
    encoded = partial(_encoding, objective, candidates, stream)
    size = candidates.sequences.size
    encoding = _continued(objective, encoded, size, plan.count if batch.candidates else size, used_by_candidates)
    waiting = sum(parameter.nbytes for parameter in used_by_inputs & used_by_candidates)
    return BatchCost(samples=plan.count, candidates=size, inputs=inputs, encoding=encoding, waiting=waiting)


def _encoding(
    objective: TrainingObjective, candidates: Candidates, stream: Callable[[], torch.Generator], count: int
) -> Callable[[], Tensor]:
    rows = spread(candidates.sequences.size, count)
    part = Candidates(sequences=rows_of(candidates.sequences, rows))

    def run() -> Tensor:
        with objective.autocast_context():
            encoded = objective.model.encode(part.sequences, stream(), summary=True)
            return representations(objective.model, part, encoded).sum()

    return run


def _continued(
    objective: TrainingObjective,
    part: Callable[[int], Callable[[], Tensor]],
    size: int,
    planned: int,
    used: set[nn.Parameter],
) -> PassCost:
    """The cost of `planned` rows, of which `size` can be made: measured, or continued from two smaller parts.

    What parameters got a gradient is added to `used`.
    """
    if size == 0:
        return PassCost()
    first = _counted(objective, part(1), used)
    affordable = max(2, int(_AFFORDABLE / max(first.saved + first.extra, 1.0)))
    large = min(size, affordable)
    cost = first if large == 1 else _counted(objective, part(large), used)
    if large == planned:
        return cost
    small = max(1, large // 2)
    less = first if small == 1 else _counted(objective, part(small), used)
    if small == large:  # a single sample is all that there is
        return PassCost().plus(cost, planned)
    by_row = cost.plus(less, -1.0)
    return cost.plus(by_row, (planned - large) / (large - small))


def _counted(objective: TrainingObjective, run: Callable[[], Tensor], used: set[nn.Parameter]) -> PassCost:
    """Tokens, bytes that are kept from one pass to the other and that live beside them, and FLOP of both passes.

    Kept are what is made in the forward pass and still there, and what autograd saves of what was there before. Each
    storage counts once; weights and their gradients do not.
    """
    model = objective.model
    others: dict[int, int] = {}  # saved, and there before
    tokens = 0
    hooks = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            hooks.append(parameter.register_post_accumulate_grad_hook(used.add))

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if not operations.made(storage):
            others[storage.data_ptr()] = storage.nbytes()
        return value

    def count(_: Any, inputs: tuple[Any, ...]) -> None:
        nonlocal tokens
        tokens += inputs[0].x_BND.shape[0] * inputs[0].x_BND.shape[1]

    hooks.append(model.encoder.register_forward_pre_hook(count))
    try:
        with _Operations() as operations:
            with saved_tensors_hooks(keep, lambda value: value):
                loss = run()
            made = operations.now
            for tensor in (*model.parameters(), *model.buffers()):
                others.pop(tensor.untyped_storage().data_ptr(), None)
            before = sum(others.values())
            if loss.requires_grad:
                loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    return PassCost(
        tokens=tokens, saved=float(made + before), flop=operations.flop, extra=float(operations.most - made)
    )


class _Operations(TorchDispatchMode):
    """Counts the FLOP of products, and the most bytes of tensors that are made within the block and live together.

    By torch's formulas, without the modes that go with them: those keep what is computed again alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop, self.most, self.now = 0.0, 0, 0
        self._sizes: dict[int, int] = {}  # by the object of a storage that lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := _OF_CPU.get(func.overloadpacket) or flop_registry.get(func.overloadpacket)) is not None:
            self.flop += formula(*args, **(kwargs or {}), out_val=result)
        before = {id(value.untyped_storage()) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and id(storage := value.untyped_storage()) not in before | self._sizes.keys():
                self._sizes[id(storage)] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._forget, id(storage))
        self.most = max(self.most, self.now)
        return result

    def made(self, storage: UntypedStorage) -> bool:
        """Whether a storage was made within the block."""
        return id(storage) in self._sizes

    def _forget(self, storage: int) -> None:
        """A storage is given back."""
        size = self._sizes.pop(storage)
        self.now -= size
        assert self.now >= 0, "what was never made has ended"

"""RECIPE + TASKS -> PARTS OF TRAINING: how tasks take turns, their loss, and the state that is trained."""

import dataclasses
from collections.abc import Callable
from functools import partial

import torch

from uniperceiver.config import Recipe
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.mix import Mixture, Stage, TrainingSet, sampling_weights
from uniperceiver.data.tasks import TaskData
from uniperceiver.data.vocabulary import proposal
from uniperceiver.devices import device_of, has_bfloat16
from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.model.model import Generalist
from uniperceiver.moe.balance import LOSSES
from uniperceiver.optimisation.balance.method import Method, TaskFacts
from uniperceiver.optimisation.balance.methods import make
from uniperceiver.parallel.deal import idle_share
from uniperceiver.runs.tuning import trains_gates
from uniperceiver.serving.saved import SavedModel
from uniperceiver.tokenizers import bpe
from uniperceiver.training.objective import TrainingObjective
from uniperceiver.training.step import TrainState

_SCALE = 2.0**13  # of float16 gradients at the start, as the original release
_OF_WORD, _OF_LABEL = 2, 8  # tokens of a word as a candidate; of a label's text, about
_GRAPHS = 64  # of a compiled block
_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def mixture_of(recipe: Recipe, tasks: list[TaskData], codec: bpe.TextEncoder, patch: int = 16) -> Mixture:
    """The tasks of a run, and how they take turns.

    Args:
        patch: pixels along a patch's side, by which the tokens of pictures are counted for `Stage.cost`.
    """
    sizes = {data.task.name: len(data.sources["train"]) for data in tasks}
    explicit = {data.task.name: data.config.weight for data in tasks}
    weights = sampling_weights(sizes, explicit, recipe.sampling.alpha)
    late = round(recipe.late_from * recipe.steps)
    return Mixture(
        sets=tuple(
            _training_set(data, weights[data.task.name], late, partial(_tokens, recipe, data, codec, patch))
            for data in tasks
        ),
        codec=codec,
        seed=recipe.seed,
        mode=recipe.sampling.mode,
        tasks_per_step=recipe.sampling.tasks_per_step,
        accumulate=recipe.optimiser.accumulate,
        window=recipe.balance.window,
    )


def _training_set(data: TaskData, weight: float, late: int, cost: Callable[[Preprocess, int], float]) -> TrainingSet:
    """A task with its samples, whose batches are those of `tasks.NAME.late` from that step on."""
    config = data.config
    early_preprocess = dataclasses.replace(data.preprocess, size=config.size, frames=config.frames)
    assert data.index is not None
    late_batch = config.late.batch or config.batch
    return TrainingSet(
        task=data.task,
        index=data.index,
        source=data.sources["train"],
        augment=config.augment,
        stages=(
            Stage(
                begins=0,
                preprocess=early_preprocess,
                batch=config.batch,
                weight=weight,
                cost=cost(early_preprocess, config.batch),
            ),
            Stage(
                begins=late,
                preprocess=data.preprocess,
                batch=late_batch,
                weight=config.late.weight or weight,
                cost=cost(data.preprocess, late_batch),
            ),
        ),
    )


def _tokens(
    recipe: Recipe, data: TaskData, codec: bpe.TextEncoder, patch: int, preprocess: Preprocess, batch: int
) -> float:
    """About how many tokens a batch of a task has, its candidates among them: what it costs beside other batches."""
    answer, grid = data.task.answer, max(1, preprocess.size // patch) ** 2
    frames = preprocess.frames if data.task.visual and MODALITIES[data.task.visual].field == "clip" else 1
    inputs = batch * sum(preprocess.length if modality == TEXT else frames * grid for modality in data.task.inputs)
    if answer.among_batch:
        return inputs + batch * preprocess.length
    if answer.from_vocabulary:
        return inputs + _OF_WORD * (recipe.candidates.sample or codec.size)
    return inputs + _OF_LABEL * len(data.task.labels)


def idle_note(mixture: Mixture, processes: int) -> str:
    """What processes lose that cannot all have equally many batches of a step."""
    costs = [mixture.sets[plan.index].stages[plan.stage].cost for plan in mixture.plans(0, [0] * len(mixture.sets))]
    return (
        f"a step has {mixture.batches_per_step} batches for {processes} processes, so some of them wait: about "
        f"{idle_share(costs, processes):.0%} of their time; a multiple of {processes} would serve them better"
    )


def method_of(recipe: Recipe, tasks: list[TaskData], mixture: Mixture) -> Method:
    """How the tasks share an update."""
    facts = {
        data.task.name: TaskFacts(loss_weight=data.config.loss_weight, share=share)
        for data, share in zip(tasks, mixture.shares, strict=True)
    }
    return make(recipe.balance, facts, recipe.seed)


def objective_of(recipe: Recipe, tasks: list[TaskData], saved: SavedModel) -> TrainingObjective:
    """The loss of the recipe's tasks, around the saved model itself."""
    balance = recipe.moe.balance
    coefficients = {name: getattr(balance, name) for name in (*LOSSES, "global_entropy")}
    return TrainingObjective(
        saved.model,
        tasks=tasks,
        codec=saved.codec,
        seed=recipe.seed,
        device=device_of(recipe.device),
        autocast=autocast_of(recipe),
        sample=min(recipe.candidates.sample, saved.codec.size),
        proposal_V=proposal(saved.codec, tasks) if recipe.candidates.sample else torch.ones(0),
        accuracy_in_loss=saved.arch.accuracy_in_loss,
        balance=coefficients if trains_gates(recipe) else {},
        least_experts=balance.least_experts,
    )


def autocast_of(recipe: Recipe) -> torch.dtype | None:
    """The type that the model computes in; None: float32."""
    if recipe.optimiser.precision == "auto":
        return torch.bfloat16 if has_bfloat16(device_of(recipe.device)) else None
    return _AUTOCAST[recipe.optimiser.precision]


def state_of(recipe: Recipe, model: Generalist, method: Method) -> TrainState:
    """Make the state before the first step: optimiser, moving average, scaler of gradients."""
    config = recipe.optimiser
    model.encoder.recompute = config.recompute
    if config.compile:
        _compile(model)
    average = {name: parameter.detach().clone() for name, parameter in model.named_parameters()} if config.ema else None
    device = next(model.parameters()).device
    scaler = torch.amp.GradScaler(device.type, init_scale=_SCALE) if config.precision == "float16" else None
    optimiser = method.optimiser(model, config)
    return TrainState(model=model, optimiser=optimiser, average=average, scaler=scaler, method=method)


def _compile(model: Generalist) -> None:
    """torch.compile the encoder's blocks, but for routing and experts, whose sizes are other numbers in every step."""
    for module in model.encoder.modules():
        if not getattr(module, "compiles", True):
            module.forward = torch.compiler.disable(module.forward)
    # One graph for each combination of mask, summary and DropPath, of which torch's eight are too few for a mixture.
    enough_graphs = torch._dynamo.config.patch(recompile_limit=max(torch._dynamo.config.recompile_limit, _GRAPHS))
    for block in model.encoder.blocks:
        block.compile(dynamic=True)
        block._compiled_call_impl = enough_graphs(block._compiled_call_impl)

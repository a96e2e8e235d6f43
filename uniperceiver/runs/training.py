"""RECIPE + TASKS -> PARTS OF TRAINING: how tasks take turns, their loss, and the state that is trained."""

import torch

from uniperceiver.config import Recipe
from uniperceiver.data.mix import Mixture, TrainingSet, sampling_weights
from uniperceiver.data.tasks import TaskData
from uniperceiver.data.vocabulary import proposal
from uniperceiver.devices import device_of, has_bfloat16
from uniperceiver.model.model import Generalist
from uniperceiver.moe.balance import LOSSES
from uniperceiver.optimisation.balance.method import Method, TaskFacts
from uniperceiver.optimisation.balance.methods import make
from uniperceiver.parallel.deal import idle_share
from uniperceiver.runs.tuning import trains_gates
from uniperceiver.runs.turns.stages import StageMaker, stages_of
from uniperceiver.serving.saved import SavedModel
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tokenizers.join import SequenceTokenizer
from uniperceiver.training.objective import TrainingObjective
from uniperceiver.training.step import TrainState

_SCALE = 2.0**13  # of float16 gradients at the start, as the original release
_GRAPHS = 64  # of a compiled block, if a graph is for all sizes
_GRAPHS_OF_SHAPES = 1024  # if it is for one
_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def mixture_of(recipe: Recipe, tasks: list[TaskData], codec: TextCodec, tokenizer: SequenceTokenizer) -> Mixture:
    """The tasks of a run, and how they take turns.

    Args:
        tokenizer: of the model, which tells how many tokens a medium has; its weights may be on the meta device.

    Raises:
        UserError: tokens are to be dropped where none can be.
    """
    sizes = {data.task.name: len(data.sources["train"]) for data in tasks}
    explicit = {data.task.name: data.config.weight for data in tasks}
    weights = sampling_weights(sizes, explicit, recipe.sampling.alpha)
    late = round(recipe.late_from * recipe.steps)
    sets = []
    for data in tasks:
        assert data.index is not None
        maker = StageMaker(recipe=recipe, data=data, codec=codec, tokenizer=tokenizer)
        stages, turns = stages_of(maker, weights[data.task.name], late)
        sets.append(
            TrainingSet(
                task=data.task,
                index=data.index,
                source=data.sources["train"],
                augment=data.config.augment,
                stages=stages,
                turns=turns,
                lr=data.config.lr,
            )
        )
    return Mixture(
        sets=tuple(sets),
        codec=codec,
        seed=recipe.seed,
        mode=recipe.sampling.mode,
        tasks_per_step=recipe.sampling.tasks_per_step,
        accumulate=recipe.optimiser.accumulate,
        window=recipe.balance.window,
        order=recipe.sampling.order,
        round=recipe.sampling.round,
    )


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
        _compile(model, by_shape=config.compile == "shapes")
    average = {name: parameter.detach().clone() for name, parameter in model.named_parameters()} if config.ema else None
    device = next(model.parameters()).device
    scaler = torch.amp.GradScaler(device.type, init_scale=_SCALE) if config.precision == "float16" else None
    optimiser = method.optimiser(model, config)
    return TrainState(model=model, optimiser=optimiser, average=average, scaler=scaler, method=method)


def _compile(model: Generalist, *, by_shape: bool) -> None:
    """torch.compile the encoder's blocks, but for routing and experts, whose sizes are other numbers in every step.

    Args:
        by_shape: a graph is for one combination of sizes, instead of for all.
    """
    for module in model.encoder.modules():
        if not getattr(module, "compiles", True):
            module.forward = torch.compiler.disable(module.forward)
    # One graph for each combination of mask, summary and DropPath, of which torch's eight are too few for a mixture.
    most = _GRAPHS_OF_SHAPES if by_shape else _GRAPHS
    limits = {"recompile_limit": most, "accumulated_recompile_limit": max(most, 256)}
    enough_graphs = torch._dynamo.config.patch(
        {name: max(getattr(torch._dynamo.config, name), least) for name, least in limits.items()}
    )
    for block in model.encoder.blocks:
        block.compile(dynamic=not by_shape)
        block._compiled_call_impl = enough_graphs(block._compiled_call_impl)

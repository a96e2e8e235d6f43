"""What is wrong with the experts that a recipe asks for."""

from collections.abc import Iterable, Iterator

from uniperceiver.config import BalanceConfig, MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.moe.balance import LOSSES
from uniperceiver.moe.conditions import Condition, condition_of
from uniperceiver.moe.settings import MoE
from uniperceiver.tasks.task import Task


def check_causal(moe: MoE, tasks: Iterable[Task]) -> None:
    """Refuse routing by which a word would know of the words after it, where there is a task that writes.

    Raises:
        UserError: there is one; its name is said.
    """
    key = condition_of(moe.condition).not_causal(moe)
    writing = next((task.name for task in tasks if task.answer.causal), None)
    if key is not None and writing is not None:
        mend = "remove moe.capacity" if key == "moe.capacity" else "use moe.condition=token"
        key = key if key == "moe.capacity" else f"{key}={moe.condition}"
        raise UserError(
            f"{key}: cannot be used with task {writing!r}, which writes word after word: what is chosen for a word "
            f"would depend on the words after it; {mend}, or leave the task out"
        )


def check_experts(config: MoEConfig) -> None:
    """Refuse keys of `moe` that contradict each other, or that have no meaning or no effect with the condition.

    Raises:
        UserError: there is one, or the condition is unknown.
    """
    condition = condition_of(config.condition)
    wrong = _wrong_by_token(config, condition) if condition.by_token else _wrong_by_segment(config)
    if not condition.experts_choose:
        for key, value in (("group", config.group == "batch"), ("serve_answer", config.serve_answer)):
            if value:
                raise UserError(
                    f"moe.{key}: with moe.condition={config.condition} each token has its experts; remove the key, or "
                    "use moe.condition=expert_choice"
                )
    for line in wrong:
        raise UserError(line)
    if config.level == "ffn" and config.gates == "linear":
        raise UserError("moe.gates linear: a whole FFN is chosen by one gate; remove the key, or use moe.level=linear")


def _wrong_by_segment(config: MoEConfig) -> Iterator[str]:
    """What has no meaning where a gate decides for whole segments."""
    why = f"moe.condition={config.condition} decides for whole segments, whatever their tokens are"
    if config.capacity is not None:
        yield f"moe.capacity: {why}, so no expert is ever full; remove the key, or use moe.condition=token"
    default = BalanceConfig()
    for name in (*LOSSES, "global_entropy", "bias_rate"):
        if getattr(config.balance, name) not in (0, getattr(default, name)):
            yield f"moe.balance.{name}: {why}, so there is nothing to balance; remove the key"


def _wrong_by_token(config: MoEConfig, condition: Condition) -> Iterator[str]:
    """What has no meaning, or no effect, where tokens are routed one by one."""
    balance = config.balance
    if condition.experts_choose:
        why = f"with moe.condition={config.condition} all experts take equally many tokens"
        if config.capacity is not None:
            yield f"moe.capacity: {why} already; remove the key"
        for name in ("load", "bias_rate"):
            if getattr(balance, name):
                yield f"moe.balance.{name}: {why} already; remove the key"
        if config.renormalise:
            yield f"moe.renormalise: {why}, weighed by the probabilities themselves; remove the key"
    if balance.load and not config.noise:
        yield "moe.balance.load: a load has a gradient only under noise; set moe.noise=1, or use moe.balance.importance"
    if balance.global_entropy and balance.least_experts > config.experts:
        yield (
            f"moe.balance.least_experts: {balance.least_experts:g} is more than moe.experts {config.experts}; "
            "a modality cannot use more experts than there are"
        )

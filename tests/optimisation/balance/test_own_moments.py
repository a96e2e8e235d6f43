"""Moments of each task by itself, against torch's AdamW on each task alone."""

import torch
from torch import nn

from uniperceiver.config import OptimiserConfig, TaskBalanceConfig
from uniperceiver.optimisation.adamw import parameter_groups
from uniperceiver.optimisation.balance.method import TaskFacts
from uniperceiver.optimisation.balance.own_moments import OwnMoments
from uniperceiver.optimisation.balance.task_gradients import TaskGradients
from uniperceiver.streams import torch_stream

CONFIG = OptimiserConfig(lr=0.1, clip=0.5, weight_decay=0.1)
TASKS = {"one": TaskFacts(share=0.5), "two": TaskFacts(share=0.5)}
# A step draws these tasks; `bias` belongs to the first alone.
DRAWS = (("one",), ("one", "two"), ("two",), ("two", "one"))


def gradients_of(tasks: tuple[str, ...], step: int) -> TaskGradients:
    stream = torch_stream(step, "gradients")
    drawn = {task: {"weight": 3 * torch.randn(2, 3, generator=stream)} for task in tasks}
    if "one" in drawn:
        drawn["one"]["bias"] = torch.randn(2, generator=stream)
    return TaskGradients(by_task=drawn)


def test_each_step_is_the_mean_of_the_tasks_own_adamw_steps() -> None:
    model = nn.Linear(3, 2)
    method = OwnMoments(TASKS, TaskBalanceConfig(), 0)
    optimiser = method.optimiser(model, CONFIG)
    alone = {task: nn.Linear(3, 2) for task in TASKS}
    moments = {task: torch.optim.AdamW(parameter_groups(alone[task], CONFIG), CONFIG.lr, CONFIG.betas, CONFIG.eps)
               for task in TASKS}  # fmt: skip
    for step, tasks in enumerate(DRAWS):
        drawn = gradients_of(tasks, step)
        expected = {name: each.detach().clone() for name, each in model.named_parameters()}
        for task in tasks:
            alone[task].load_state_dict(expected)
            for group in moments[task].param_groups:
                group["lr"] = CONFIG.lr / len(tasks)
            for name, each in alone[task].named_parameters():
                each.grad = drawn.by_task[task][name].clone() if name in drawn.by_task[task] else None
            nn.utils.clip_grad_norm_(alone[task].parameters(), CONFIG.clip)
            moments[task].step()
            expected = {name: each.detach().clone() for name, each in alone[task].named_parameters()}
        method.combine(drawn, step)
        method.prepare(optimiser, tasks)
        optimiser.step()
        for name, each in model.named_parameters():
            torch.testing.assert_close(each.detach(), expected[name], rtol=1e-5, atol=1e-6)
    keys = {key for state in optimiser.state.values() for key in state}
    assert keys == {f"{key}@{task}" for key in ("exp_avg", "exp_avg_sq", "step") for task in TASKS}
    assert not any(key.endswith("@two") for key in optimiser.state[model.bias])


def test_what_is_combined_is_the_mean() -> None:
    drawn = gradients_of(("one", "two"), 0)
    found = OwnMoments(TASKS, TaskBalanceConfig(), 0).combine(drawn, 0)
    torch.testing.assert_close(found["weight"], sum(each["weight"] for each in drawn.by_task.values()) / 2)

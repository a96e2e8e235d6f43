"""Who hurts whom, on two tasks of your own: train them together, then compare their gradients.

On the command line it is three commands, here with the data set of examples/own_data.py:

    make env
    uniperceiver train my_data/recipe.yaml --out runs/mine
    uniperceiver interference runs/mine

Below the same in Python, and then for a PyTorch model that has nothing to do with this library."""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from examples import own_data
from uniperceiver.config import read_recipe
from uniperceiver.interference import TaskLoss, groups_of, measure
from uniperceiver.runs.interference.of_run import InterferenceSettings, interference_of_run
from uniperceiver.runs.prepare import prepare_run


def of_a_run(folder: Path, steps: int, batches: int | None) -> None:
    own_data.main(folder / "data")
    recipe = read_recipe(folder / "data" / "recipe.yaml", {"steps": str(steps), "log.tensorboard": "false"})
    prepare_run(recipe, folder / "data", folder / "run").train()
    measured = interference_of_run(folder / "run", InterferenceSettings(batches=batches))
    for layer in measured.layers:
        print(layer.name, measured.tasks, layer.estimate.matrix_KK.round(2).tolist())


def of_any_model() -> None:
    """Two regressions whose targets contradict each other in the first of three outputs."""
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    sign_2O = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])

    def losses() -> Iterator[TaskLoss]:  # the same batches each time
        for batch in range(40):
            x_BD = torch.randn(16, 8, generator=torch.Generator().manual_seed(batch))
            for task, sign_O in enumerate(sign_2O):
                yield TaskLoss(task=task, batch=str(batch), loss=(model(x_BD) - sign_O * x_BD[:, :3]).pow(2).mean())

    parameters = dict(model.named_parameters())
    for group, estimate in measure(("first", "second"), groups_of(parameters, "*.weight"), parameters, losses).items():
        print(group.name, estimate.matrix_KK.round(2).tolist())


def main(folder: Path, steps: int = 500, batches: int | None = None) -> None:
    of_a_run(folder, steps, batches)
    of_any_model()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/interference"))

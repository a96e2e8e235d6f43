"""What is embedded by what, in plain values, so that any process can take it up."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from uniperceiver.config import read_recipe
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import UserError, nearest
from uniperceiver.own_code import import_code
from uniperceiver.runs.steps import Step, load_saved
from uniperceiver.serving.predict.items import EmbeddedItems, FileItems, SourceItems
from uniperceiver.serving.predictor import UniPerceiver


@dataclass(frozen=True, kw_only=True)
class EmbeddingJob:
    """A model and what it is to embed: files, or the data of a recipe's task."""

    run: Path
    step: Step | None = None
    trust: bool = False
    files: tuple[str, ...] = ()  # paths
    data: Path | None = None  # a recipe, instead of files
    source: str | None = None  # which of its tasks; None: its only one
    split: str = "train"

    def model(self, device: str) -> UniPerceiver:
        """The model, on a device.

        Raises:
            UserError: there is none.
        """
        return UniPerceiver(load_saved(self.run, self.step, trust=self.trust), device)

    def items(self) -> EmbeddedItems:
        """What is embedded.

        Raises:
            UserError: a file that is no picture or clip by its name; a recipe without such a task, or without data.
        """
        if self.data is None:
            return FileItems(self.files)
        recipe = read_recipe(self.data)
        import_code(recipe.imports, self.data.parent)
        name = self.source or next(iter(recipe.tasks))
        if name not in recipe.tasks:
            raise UserError(f"--source: {self.data} has no task {name!r}; {nearest(name, recipe.tasks)}")
        if self.source is None and len(recipe.tasks) > 1:
            raise UserError(f"--source: {self.data} has the tasks {', '.join(recipe.tasks)}; say whose data are read")
        config = recipe.tasks[name]
        described = {"train": config.train, "val": config.val, "test": config.test}[self.split]
        if described is None:
            raise UserError(f"--split {self.split}: task {name!r} of {self.data} has no such data; name another split")
        (task,) = open_tasks(dataclasses.replace(recipe, tasks={name: config}), self.data.parent, (self.split,))
        return SourceItems(task.sources[self.split], described)

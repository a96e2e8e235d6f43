"""A whole run."""

import math
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, PositiveInt

from uniperceiver.config.data import CandidateConfig, DataConfig, TaskConfig
from uniperceiver.config.model import ModelConfig, TuneConfig
from uniperceiver.config.moe import MoEConfig
from uniperceiver.config.training import (
    CheckpointConfig,
    EvaluationConfig,
    InterferenceConfig,
    LogConfig,
    OptimiserConfig,
    ParallelConfig,
    SamplingConfig,
    TaskBalanceConfig,
)
from uniperceiver.strict import record

_EVALUATIONS, _LEAST_BETWEEN = 10, 10  # of a run whose recipe says nothing; steps between two of them


@record
class Recipe:
    """Say everything of a run: its tasks and data, its model, how it is trained and what is measured.

    Raises:
        ValueError: an unknown field, or a value out of its range (pydantic's ValidationError).

    Example:
        >>> from uniperceiver import ModelConfig, OptimiserConfig, Recipe, TaskConfig
        >>> things = TaskConfig(kind="image_classification", train={"format": "folder", "path": "pictures/train"})
        >>> optimiser = OptimiserConfig(lr=3e-4)
        >>> recipe = Recipe(tasks={"things": things}, model=ModelConfig(size="tiny"), optimiser=optimiser)
        >>> recipe.steps, recipe.optimiser.clip
        (1000, 1.0)
    """

    other_names: ClassVar[Mapping[str, str]] = {
        "learning_rate": "optimiser.lr",
        "lr": "optimiser.lr",
        "optimizer": "optimiser",
        "epochs": "steps",
        "num_epochs": "steps",
        "max_steps": "steps",
        "batch_size": "tasks.NAME.batch",
        "image_size": "tasks.NAME.size",
        "max_length": "tasks.NAME.length",
        "num_workers": "data.workers",
        "gpu": "device",
        "grad_clip": "optimiser.clip",
        "gradient_clipping": "optimiser.clip",
        "accumulation_steps": "optimiser.accumulate",
        "precision": "optimiser.precision",
        "fp16": "optimiser.precision",
        "datasets": "tasks",
    }
    """What others call keys of a recipe, and where they are here."""

    tasks: dict[str, TaskConfig] = Field(min_length=1)
    """The tasks, by a name of your choice."""
    imports: list[str] = Field(default_factory=list, alias="import")
    """Python files, which are executed before any name is looked up: conditions, balancing methods, formats, tasks and
    trackers of your own (docs/own_code.md). In a recipe the key is `import`; the files are saved with the model."""
    seed: int = 0
    """Everything random in the run is a function of this number and the step."""
    steps: PositiveInt = 1000
    """Updates of the weights."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0: torch's choice. Bitwise equal results need equal thread counts."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes the first accelerator."""
    late_from: float = Field(default=0.9, ge=0, le=1)
    """Share of the steps after which the tasks' `late` sizes and weights hold."""
    model: ModelConfig = ModelConfig()
    moe: MoEConfig = MoEConfig()
    tune: TuneConfig = TuneConfig()
    data: DataConfig = DataConfig()
    sampling: SamplingConfig = SamplingConfig()
    balance: TaskBalanceConfig = TaskBalanceConfig()
    candidates: CandidateConfig = CandidateConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    interference: InterferenceConfig = InterferenceConfig()
    parallel: ParallelConfig = ParallelConfig()

    @property
    def steps_between_evaluations(self) -> int:
        """As many as the recipe says, or so many that there are about ten evaluations; 0: none before the end."""
        tenth = max(_LEAST_BETWEEN, math.ceil(self.steps / _EVALUATIONS))
        return tenth if self.evaluation.every is None else self.evaluation.every

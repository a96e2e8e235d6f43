"""A study: one recipe trained in several ways, each with several seeds."""

from typing import Annotated, Any

from pydantic import Field, PositiveInt

from uniperceiver.strict import record


@record
class StudyConfig:
    """A study: one recipe trained in several ways, each with several seeds."""

    recipe: str = Field(min_length=1)
    """The recipe that all arms start from; a relative path starts at the folder of the study's file."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys of the recipe (dotted, as on the command line) with the values that they have in all arms."""
    arms: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """Arms by name, each with the keys that are its own; `tasks: [a, b]` keeps only these tasks."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Keys with lists of values: every combination is an arm, named after its values; with `arms`, each of those in
    every combination."""
    seeds: Annotated[list[int], Field(min_length=1)] | PositiveInt = 3
    """The seeds that each arm is trained with; a number n is 0 to n - 1."""
    processes: PositiveInt = 1
    """Runs that are trained at the same time."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of each run; 0: as the recipe says."""
    baseline: str | None = None
    """The arm whose tasks share everything: the gap begins there, and training times are relative to it."""
    reference: str | None = None
    """The arm whose tasks share nothing: the gap ends there."""
    single: str | dict[str, str] | None = None
    """The arm, or for each task the arm, that Δ_MTL compares with: that of the single-task runs."""
    measure: str | dict[str, str] = "loss"
    """The metric by which all tasks, or each task, are judged first."""

"""Every knob of a run. A recipe is YAML over these dataclasses; the same dataclasses are the Python way."""

from uniperceiver.config.data import AugmentConfig, CandidateConfig, DataConfig, LateConfig, ShapeConfig, TaskConfig
from uniperceiver.config.model import ModelConfig, TuneConfig
from uniperceiver.config.moe import BalanceConfig, CapacityConfig, MoEConfig
from uniperceiver.config.read import parse_recipe, read_overrides, read_recipe
from uniperceiver.config.recipe import Recipe
from uniperceiver.config.regions import RegionsConfig
from uniperceiver.config.sounds import SoundConfig
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

__all__ = [
    "AugmentConfig",
    "BalanceConfig",
    "CandidateConfig",
    "CapacityConfig",
    "CheckpointConfig",
    "DataConfig",
    "EvaluationConfig",
    "InterferenceConfig",
    "LateConfig",
    "LogConfig",
    "MoEConfig",
    "ModelConfig",
    "OptimiserConfig",
    "ParallelConfig",
    "Recipe",
    "RegionsConfig",
    "SamplingConfig",
    "ShapeConfig",
    "SoundConfig",
    "TaskBalanceConfig",
    "TaskConfig",
    "TuneConfig",
    "parse_recipe",
    "read_overrides",
    "read_recipe",
]

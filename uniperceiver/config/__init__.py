"""Every knob of a run. A recipe is YAML over these dataclasses; the same dataclasses are the Python way."""

from uniperceiver.config.balance import TaskBalanceConfig
from uniperceiver.config.data import (
    AugmentConfig,
    CandidateConfig,
    DataConfig,
    LateConfig,
    TaskConfig,
)
from uniperceiver.config.interference import InterferenceConfig
from uniperceiver.config.model import ModelConfig
from uniperceiver.config.moe import BalanceConfig, CapacityConfig, MoEConfig
from uniperceiver.config.recipe import Recipe
from uniperceiver.config.training import (
    CheckpointConfig,
    EvaluationConfig,
    LogConfig,
    OptimiserConfig,
    SamplingConfig,
)
from uniperceiver.config.tuning import TuneConfig

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
    "Recipe",
    "SamplingConfig",
    "TaskBalanceConfig",
    "TaskConfig",
    "TuneConfig",
]

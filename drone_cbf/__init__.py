"""Drone policies trained through differentiable physics and a neural control barrier function.

The public API (docs/api.md) is loaded on first use: ``import drone_cbf`` imports neither JAX nor MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drone_cbf.api.flight_records import draw_flights as draw_flights
    from drone_cbf.api.flying import evaluate as evaluate
    from drone_cbf.api.flying import fly as fly
    from drone_cbf.api.flying import make_controller as make_controller
    from drone_cbf.api.own_scenes import make_scene as make_scene
    from drone_cbf.api.recorded_flights import save_flights as save_flights
    from drone_cbf.api.registered_policies import load_controller as load_controller
    from drone_cbf.config import SystemConfig as SystemConfig
    from drone_cbf.controller import ControllerParams as ControllerParams
    from drone_cbf.errors import DroneCbfError as DroneCbfError
    from drone_cbf.evaluation.settings import EvaluationSettings as EvaluationSettings
    from drone_cbf.gym.registration import register_gymnasium as register_gymnasium
    from drone_cbf.recorder import ListRecorder as ListRecorder
    from drone_cbf.recorder import Recorder as Recorder
    from drone_cbf.serving.service import PolicyService as PolicyService
    from drone_cbf.training.curriculum.schema import Curriculum as Curriculum
    from drone_cbf.training.curriculum.schema import parse_curriculum as parse_curriculum
    from drone_cbf.training.settings import EfficiencySettings as EfficiencySettings
    from drone_cbf.training.settings import PretrainingSettings as PretrainingSettings
    from drone_cbf.training.settings import SafetySettings as SafetySettings
    from drone_cbf.training.stages.efficiency import train_efficiency as train_efficiency
    from drone_cbf.training.stages.pretraining import pretrain_barrier as pretrain_barrier
    from drone_cbf.training.stages.safety import train_safety as train_safety

__version__ = "0.1.0"
_MODULES = {
    "ControllerParams": "controller",
    "Curriculum": "training.curriculum.schema",
    "DroneCbfError": "errors",
    "EfficiencySettings": "training.settings",
    "EvaluationSettings": "evaluation.settings",
    "ListRecorder": "recorder",
    "PolicyService": "serving.service",
    "PretrainingSettings": "training.settings",
    "Recorder": "recorder",
    "SafetySettings": "training.settings",
    "SystemConfig": "config",
    "draw_flights": "api.flight_records",
    "evaluate": "api.flying",
    "fly": "api.flying",
    "load_controller": "api.registered_policies",
    "make_controller": "api.flying",
    "make_scene": "api.own_scenes",
    "parse_curriculum": "training.curriculum.schema",
    "pretrain_barrier": "training.stages.pretraining",
    "register_gymnasium": "gym.registration",
    "save_flights": "api.recorded_flights",
    "train_efficiency": "training.stages.efficiency",
    "train_safety": "training.stages.safety",
}
"""Public name -> the module below ``drone_cbf`` that defines it; keep it equal to the imports above."""
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'drone_cbf' has no attribute '{name}'; the public names are in docs/api.md")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

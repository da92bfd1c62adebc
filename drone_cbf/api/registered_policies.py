"""Registered policies as controllers, to fly them in simulation, and as what MLflow serves."""

from pathlib import Path

from drone_cbf.config import SystemConfig
from drone_cbf.controller import ControllerParams
from drone_cbf.errors import CheckpointError, ConfigError
from drone_cbf.serving.controller import controller_shapes
from drone_cbf.serving.service import PolicyService
from drone_cbf.tracking.checkpoints.certificates import (
    check_parameters,
    checked_margin,
    checked_number,
    recorded_system,
)
from drone_cbf.tracking.checkpoints.packages import Package, read_package
from drone_cbf.tracking.checkpoints.store import match
from drone_cbf.tracking.registry.scoring import hand_over_requests_as_sent
from drone_cbf.tracking.registry.served_model import ServedPolicy, download_package


def load_controller(model_uri: str) -> tuple[SystemConfig, ControllerParams]:
    """System and parameters of a registered policy, such as ``models:/drone-policy@champion``.

    Raises:
        LineageError: there is no such model version.
        CheckpointError: its files are incomplete or altered.
    """
    return unpack(download_package(model_uri))


def unpack(package: Package) -> tuple[SystemConfig, ControllerParams]:
    """The system of a package, and its parameters in that system's shapes; CheckpointError if they certify nothing."""
    what = "the registered policy"
    try:
        system = recorded_system(package.config, f"config.yaml of {what}")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    params = match(controller_shapes(system), package.tree, what)
    check_parameters({"policy": params.policy, "barrier": params.barrier}, what)
    checked_margin(params.margin, what)
    checked_number(params.blend, "blend", 1.0, what)
    return system, params


def serve(package: Path) -> ServedPolicy:
    """The policy of the package in the folder ``package``, compiled for single observations.

    The file of a stored version calls this (``projects/registration/policy_model.py``).
    """
    service = PolicyService(*unpack(read_package(package)))
    service.warm_up()
    hand_over_requests_as_sent()
    return ServedPolicy(service)

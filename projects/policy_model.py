"""The file from which MLflow loads a registered policy ("models from code"); it is stored with each version.

``mlflow.pyfunc.load_model("models:/drone-policy@champion").predict(observations)`` and ``mlflow models serve`` run it.
The version carries the package ``drone_cbf`` of its day, so this repository need not be there.
"""

from __future__ import annotations

from drone_cbf.config import SystemConfig
from drone_cbf.serving.service import PolicyService, controller_shapes
from drone_cbf.tracking.checkpoints import match
from drone_cbf.tracking.packages import Package
from drone_cbf.tracking.served import serve


def build(package: Package) -> PolicyService:
    """The service with the parameters and the system of the package, compiled for single observations."""
    system = SystemConfig.model_validate(package.config["system"])
    service = PolicyService(system, match(controller_shapes(system), package.tree, "the registered policy"))
    service.warm_up(system.scene.obstacles)
    return service


serve(build)

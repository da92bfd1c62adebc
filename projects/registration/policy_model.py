"""The file from which MLflow loads a registered policy ("models from code"); it is stored with each version.

``mlflow.pyfunc.load_model("models:/drone-policy@champion").predict(observations)`` and ``mlflow models serve`` run it.
The version carries the package ``drone_cbf`` of its day, so this repository need not be there.
"""

from __future__ import annotations

import sys

# Where this project is installed, starting MLflow has imported its store plugin from there, and with it the name of the
# package. The code stored with the version must win, unless the caller is at work with the installed one.
if "drone_cbf.config" not in sys.modules:
    for name in [name for name in sys.modules if name.partition(".")[0] == "drone_cbf"]:
        del sys.modules[name]

from drone_cbf.config import SystemConfig  # noqa: E402
from drone_cbf.serving.service import PolicyService, controller_shapes  # noqa: E402
from drone_cbf.tracking.checkpoints.packages import Package  # noqa: E402
from drone_cbf.tracking.checkpoints.store import match  # noqa: E402
from drone_cbf.tracking.registry.served_model import serve  # noqa: E402


def build(package: Package) -> PolicyService:
    """The service with the parameters and the system of the package, compiled for single observations."""
    system = SystemConfig.model_validate(package.config["system"])
    service = PolicyService(system, match(controller_shapes(system), package.tree, "the registered policy"))
    service.warm_up(system.scene.obstacles)
    return service


serve(build)

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

from drone_cbf.api.registered_policies import unpack
from drone_cbf.serving.service import PolicyService
from drone_cbf.tracking.checkpoints.packages import Package
from drone_cbf.tracking.registry.served_model import serve


def build(package: Package) -> PolicyService:
    """The service with the parameters and the system of the package, compiled for single observations."""
    system, params = unpack(package)
    service = PolicyService(system, params)
    service.warm_up(system.scene.obstacles)
    return service


serve(build)

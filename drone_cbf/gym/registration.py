"""IDs of the environments: ``DroneCbf/<family>-v0``."""

from gymnasium.envs.registration import register, registry

from drone_cbf.scenes.families import FAMILIES

NAMESPACE, VERSION = "DroneCbf", 0
IDS = {family: f"{NAMESPACE}/{family}-v{VERSION}" for family in FAMILIES}
"""Scene family -> ID."""


def register_gymnasium() -> None:
    """Makes the IDs known to ``gymnasium.make`` and ``make_vec``; those that are known stay."""
    for family, name in IDS.items():
        if name not in registry:
            register(
                name,
                entry_point="drone_cbf.gym.single:DroneEnv",
                vector_entry_point="drone_cbf.gym.vector:DroneVectorEnv",
                kwargs={"family": family},
            )

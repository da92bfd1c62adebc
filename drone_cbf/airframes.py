"""Multirotors by name: mass, inertia, rotors and drag. Numbers only; SI units but for rotor speeds, see below."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi, sqrt

GRAVITY = 9.81  # [m/s^2]
RPM = 60.0 / (2.0 * pi)  # Revolutions per minute in a radian per second
MORE, LESS = 1.2, 0.97  # Of the least and the largest thrust of the rotors together


@dataclass(frozen=True)
class AirframeData:
    """One kind of quadrotor. Speeds of rotors are in radians per second, its curves polynomials of them."""

    mass: float  # [kg]
    arm: float  # Distance of each rotor from the roll and from the pitch axis [m]
    inertia: tuple[float, float, float]  # About the body's axes [kg m^2]
    thrust: tuple[float, float]  # Of a rotor: coefficients of its speed [N s] and speed squared [N s^2]
    torque: tuple[float, float]  # The same for its drag torque [N m s], [N m s^2]
    torque_per_thrust: float  # Drag torque per thrust that the inner loop assumes [m]
    faster: tuple[float, float]
    """Rate of the speed below the one asked for: coefficients of the difference [1/s] and of that of squares [1]."""
    slower: tuple[float, float]  # The same above it
    rotor_thrust: tuple[float, float]  # Least and largest thrust of a rotor [N]
    drag: tuple[float, float, float]  # Along the body's axes [N s/m]

    def speed_at(self, thrust: float) -> float:
        """Speed of a rotor at ``thrust`` [N] in radians per second."""
        linear, square = self.thrust
        return (-linear + sqrt(linear**2 + 4.0 * square * thrust)) / (2.0 * square)

    @property
    def thrust_range(self) -> tuple[float, float]:
        """Least and largest thrust per mass that the inner loop asks for [m/s^2]; the rest is left for turning."""
        least, most = self.rotor_thrust
        return 4.0 * least * MORE / self.mass, 4.0 * most * LESS / self.mass


def _from_rpm(
    *,
    thrust: tuple[float, float],
    torque: tuple[float, float],
    faster: tuple[float, float],
    slower: tuple[float, float],
) -> dict[str, tuple[float, float]]:
    """Coefficients of speeds in revolutions per minute for speeds in radians per second."""
    curves = {"thrust": thrust, "torque": torque}
    lags = {"faster": faster, "slower": slower}
    scaled = {name: (linear * RPM, square * RPM**2) for name, (linear, square) in curves.items()}
    return scaled | {name: (linear, square * RPM) for name, (linear, square) in lags.items()}


AIRFRAMES: Mapping[str, AirframeData] = {
    # As identified: drone-models 0.1.0 (Schuck et al., learnsyslab), data/params.toml, [cf21B_500]: Crazyflie 2.1
    # Brushless. The moments of inertia are given there as diagonal.
    "crazyflie": AirframeData(
        mass=0.04338,
        arm=0.035355,
        inertia=(25e-6, 28e-6, 49e-6),
        torque_per_thrust=0.00593893393599368,
        rotor_thrust=(0.02136263065537499, 0.2),
        drag=(0.02149163, 0.02149163, 0.02359736),
        **_from_rpm(
            thrust=(-3.133427287299859e-7, 4.407354891648379e-10),
            torque=(1.65886356219615e-9, 2.4693477924534137e-12),
            faster=(13.996001897562685, 0.00011093207920685363),
            slower=(5.933168530682111, 0.00031951312393561264),
        ),
    ),
    # A nominal 5-inch racing drone, not identified: 4.5 times its weight in thrust, rotors that lag by 33 ms.
    "racing": AirframeData(
        mass=0.5,
        arm=0.08,
        inertia=(1.2e-3, 1.2e-3, 2.1e-3),
        thrust=(0.0, 8.8e-7),
        torque=(0.0, 1.23e-8),
        torque_per_thrust=0.014,
        faster=(30.0, 0.0),
        slower=(30.0, 0.0),
        rotor_thrust=(0.1, 5.5),
        drag=(0.15, 0.15, 0.2),
    ),
}
"""By ``physics.airframe``."""

"""The bodies of CustomAnt and DisabledAnt as MJCF, and the order of their motors.

The pair of the reward-transfer experiment (Fu et al. 2018): a light ant with weak motors, and the
same ant with two crippled hind legs. The model is written here from its measures; what is not
said (bones, floor, axes) follows MuJoCo's ant: legs 1 to 4 point to +x+y, -x+y, -x-y and +x-y.

**The order of the motors differs** between the two as they are used in the literature:

    CustomAnt    hip 4, ankle 4, hip 1, ankle 1, hip 2, ankle 2, hip 3, ankle 3
    DisabledAnt  hip 1, ankle 1, hip 2, ankle 2, hip 3, ankle 3, hip 4, ankle 4

Observations list joints in the order of the bodies in both, so a reward of states alone transfers
as it is; a reward of actions does not, until they are permuted: see :func:`actuator_permutation`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Ant = Literal["CustomAnt", "DisabledAnt"]

_LEGS = (1, 2, 3, 4)
_DIRECTIONS = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1)}
_HIND_LEGS = (3, 4)
_LEG_ORDER: dict[Ant, tuple[int, ...]] = {"CustomAnt": (4, 1, 2, 3), "DisabledAnt": (1, 2, 3, 4)}

TIME_STEP = 0.01  # s
FRAME_SKIP = 5  # physics steps per control step


@dataclass(frozen=True)
class _Leg:
    """Measures of a leg, m along x and along y from joint to joint, and its motors' gear."""

    thigh: float = 0.2
    shin: float = 0.4
    gear: float = 30.0


_WHOLE, _CRIPPLED = _Leg(), _Leg(thigh=0.1, shin=0.2, gear=1.0)


def actuator_names(ant: Ant) -> tuple[str, ...]:
    """The motors by the index that an action addresses them with: ("hip_4", "ankle_4", ...)."""
    return tuple(f"{joint}_{leg}" for leg in _LEG_ORDER[ant] for joint in ("hip", "ankle"))


def actuator_permutation(source: Ant, target: Ant) -> NDArray[np.int64]:
    """p [8] such that `actions_of_target[..., p]` lists the motors in the order of `source`.

    For a reward r(s, a) learned in `source` and used in `target`: r(s, a[..., p]). For actions
    recorded in `target` that a learner in `source` shall take: `a[..., p]` as well.
    """
    order = actuator_names(target)
    return np.array([order.index(name) for name in actuator_names(source)])


def motor_order(wanted: str, given: str) -> NDArray[np.int64] | None:
    """p [8] such that `actions[..., p]`, of the environment `given`, are in the order of `wanted`.

    Takes short names and gymnasium ids. None where nothing is to be done: the environments are not
    the two ants, or the same one.
    """
    first, second = (_ant(name) for name in (wanted, given))
    if first is None or second is None or first == second:
        return None
    return actuator_permutation(first, second)


def _ant(environment: str) -> Ant | None:
    """CustomAnt from "irl_align/CustomAnt-v0", or from itself."""
    plain = environment.removeprefix("irl_align/").removesuffix("-v0")
    return next((ant for ant in get_args(Ant) if ant == plain), None)


def ant_xml(ant: Ant) -> str:
    """The model as MJCF text; 14 bodies with the world, nq = 15, nv = 14, nu = 8."""
    root = ET.Element("mujoco", model=ant)
    ET.SubElement(root, "compiler", angle="degree", inertiafromgeom="true")
    ET.SubElement(root, "option", integrator="RK4", timestep=str(TIME_STEP))
    default = ET.SubElement(root, "default")
    ET.SubElement(default, "joint", armature="1", damping="1", limited="true")
    # conaffinity 0: bones touch the floor, which has 1, but not each other.
    ET.SubElement(
        default, "geom", conaffinity="0", condim="3", density="5", friction="1.5 0.5 0.5",
        margin="0.01",
    )  # fmt: skip
    world = ET.SubElement(root, "worldbody")
    ET.SubElement(world, "light", pos="0 0 3", dir="0 0 -1", directional="true")
    ET.SubElement(world, "geom", name="floor", type="plane", size="40 40 40", conaffinity="1")
    torso = ET.SubElement(world, "body", name="torso", pos="0 0 0.75")
    ET.SubElement(torso, "geom", name="torso", type="sphere", size="0.25")
    ET.SubElement(
        torso, "joint", name="root", type="free", armature="0", damping="0", limited="false",
        margin="0.01",
    )  # fmt: skip
    legs = {leg: _leg_of(ant, leg) for leg in _LEGS}
    for leg, measures in legs.items():
        _add_leg(torso, leg, measures)
    actuator = ET.SubElement(root, "actuator")
    for name in actuator_names(ant):
        gear = legs[int(name[-1])].gear
        ET.SubElement(
            actuator, "motor", name=name, joint=name, gear=str(gear), ctrllimited="true",
            ctrlrange="-1 1",
        )  # fmt: skip
    return ET.tostring(root, encoding="unicode")


def _leg_of(ant: Ant, leg: int) -> _Leg:
    return _CRIPPLED if ant == "DisabledAnt" and leg in _HIND_LEGS else _WHOLE


def _add_leg(torso: ET.Element, leg: int, measures: _Leg) -> None:
    """Hip bone (fixed), thigh (turns about z), shin (bends down 30 to 70 degrees)."""
    x, y = _DIRECTIONS[leg]

    def bone(body: ET.Element, name: str, length: float) -> str:
        end = f"{x * length} {y * length} 0"
        ET.SubElement(
            body, "geom", name=f"{name}_{leg}", type="capsule", size="0.08", fromto=f"0 0 0 {end}"
        )
        return end

    # The hip bone keeps its length in the disabled ant.
    hip_bone = ET.SubElement(torso, "body", name=f"leg_{leg}", pos="0 0 0")
    end = bone(hip_bone, "hip_bone", 0.2)
    thigh = ET.SubElement(hip_bone, "body", name=f"thigh_{leg}", pos=end)
    _hinge(thigh, f"hip_{leg}", "0 0 1", "-30 30")
    end = bone(thigh, "thigh", measures.thigh)
    shin = ET.SubElement(thigh, "body", name=f"shin_{leg}", pos=end)
    # Opposite legs share an axis, so "down" is a positive turn for the legs with x > 0 only.
    _hinge(shin, f"ankle_{leg}", f"{-x * y} 1 0", "30 70" if x > 0 else "-70 -30")
    bone(shin, "shin", measures.shin)


def _hinge(body: ET.Element, name: str, axis: str, limits: str) -> None:
    ET.SubElement(body, "joint", name=name, type="hinge", pos="0 0 0", axis=axis, range=limits)

"""The environments and spaces that an agent serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv


def check_env(env: Any) -> spaces.Box:
    """Return the observation space of an SB3 environment. :raises ValueError: for what is none, or is not flat."""
    if not isinstance(env, VecEnv):
        raise ValueError(f"expected an SB3 VecEnv, got {type(env).__name__}: wrap it, DummyVecEnv([lambda: env])")
    if not (isinstance(env.observation_space, spaces.Box) and len(env.observation_space.shape) == 1):
        raise ValueError(f"expected a flat Box observation space, got {env.observation_space}")
    return env.observation_space


def check_actions(action_space: spaces.Space, kinds: Sequence[type[spaces.Space]]) -> None:
    """Refuse actions that the experts do not take. :raises ValueError: naming the space, and the way out.

    :param kinds: of action space that they act in
    """
    if not isinstance(action_space, tuple(kinds)):
        raise ValueError(f"expected a {' or '.join(kind.__name__ for kind in kinds)} action space, got {action_space}")
    if isinstance(action_space, spaces.Discrete) and action_space.start != 0:
        raise ValueError(f"expected actions that count from 0, Discrete({action_space.n}), got {action_space}")
    if isinstance(action_space, spaces.Box) and (
        len(action_space.shape) != 1 or not action_space.is_bounded() or 0 in action_space.shape
    ):
        raise ValueError(
            f"expected a flat action space with finite bounds, such as Box(-1, 1, (n,)), got {action_space}; wrap "
            "the environment (gymnasium.ActionWrapper)"
        )

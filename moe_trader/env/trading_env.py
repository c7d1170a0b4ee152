"""One account as a Gymnasium environment."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from moe_trader.argument import whole_number
from moe_trader.env.lanes import Lanes

NOTHING_DRAWN = (
    "trading environments draw nothing (render_modes is empty); report.html and figures/ of a run show its equity and "
    "positions"
)


class TradingEnv(gym.Env[np.ndarray, Any]):
    """Trade one instrument at a time; the reward is the log change of equity.

    Observation: ``(window x n_features + 2,)`` float32, causal features and the account, and behind them what the gate
    alone sees, if it needs more. Action: what ``env.positions`` says. ``info`` holds the account, and the plain
    ``log_return`` whatever the reward is. An episode ends (*terminated*) when the account is bankrupt and (*truncated*)
    when its bars are used up.
    Made by :meth:`moe_trader.env.task.PreparedTask.env`.

    :param lanes: an engine of one lane
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self.observation_space = lanes.observation_space
        self.action_space = lanes.action_space
        self.gate_columns, self.gate_only = lanes.rules.gate_columns, lanes.rules.gate_only
        self.gate_input, self.gate_tail = lanes.gate_input, lanes.gate_tail
        self.column_names = lanes.column_names
        self._started = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, all cash, at a random bar drawn from ``seed``.

        :param options: not used
        :raises ValueError: for another seed than a whole number of at least 0
        """
        super().reset(seed=None if seed is None else whole_number(seed, "seed", least=0))
        self._lanes.reset(0, self.np_random)
        self._lanes.log_returns[0] = 0.0
        self._started = True
        return self._lanes.observe()[0], self._lanes.account(0)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Order what ``action`` says and carry the account to the next close.

        :raises ValueError: for an action outside the action space
        :raises ResetNeeded: before the first :meth:`reset`
        """
        if not self._started:
            raise ResetNeeded("expected reset() before the first step()")
        lanes = self._lanes
        lanes.step(self._checked(action))
        terminated = bool(lanes.bankrupt[0])
        truncated = bool(lanes.finished[0]) and not terminated
        return lanes.observe()[0], float(lanes.rewards[0]), terminated, truncated, lanes.account(0)

    def render(self) -> NoReturn:
        """Refuse: there is nothing to draw while an episode runs.

        :raises NotImplementedError: naming where a run's pictures are
        """
        raise NotImplementedError(NOTHING_DRAWN)

    def _checked(self, action: Any) -> np.ndarray:
        """Return an action, a number or an array of one, as the lanes take it; out of bounds a Box's is clipped."""
        space, found = self.action_space, as_actions(action, self.action_space, 1)
        if isinstance(space, gym.spaces.Discrete) and not 0 <= found.item() < space.n:
            raise _out_of_bounds(action, space)
        if not np.isfinite(found).all():
            raise _no_action(action, space, 1)
        return found


def as_actions(given: Any, space: gym.Space[Any], n: int) -> np.ndarray:
    """Return numbers as actions of ``n`` lanes, shape ``(n, *space.shape)``; the lanes check that they are in bounds.

    :param given: as many real numbers, in any shape; whole ones for a ``Discrete``
    :raises ValueError: for anything else
    """
    shape = (n, *(space.shape or ()))
    if type(given) is np.ndarray and given.dtype == space.dtype and given.shape == shape:
        return given
    try:
        found = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):  # ragged rows, a tensor with a gradient
        raise _no_action(given, space, n) from None
    if found.dtype.kind not in "iuf" or found.size != math.prod(shape):
        raise _no_action(given, space, n)
    if isinstance(space, gym.spaces.Discrete) and found.dtype.kind == "f":
        if not np.isfinite(found).all():
            raise _no_action(given, space, n)
        if (found % 1).any():
            raise _out_of_bounds(given, space)
    with np.errstate(over="ignore"):
        return found.reshape(shape).astype(space.dtype)


def _no_action(given: Any, space: gym.Space[Any], n: int) -> ValueError:
    number = "one number" if n == 1 else f"{n} numbers"
    return ValueError(f"expected {number} as an action of {space}, got {given!r:.80}")


def _out_of_bounds(given: Any, space: gym.spaces.Discrete) -> ValueError:
    return ValueError(f"expected an action from 0 to {space.n - 1}, got {given!s:.80}")

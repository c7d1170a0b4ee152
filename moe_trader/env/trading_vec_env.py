"""Many accounts as one Stable-Baselines3 vectorised environment."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from moe_trader.env.lanes import Lanes, lane_generators
from moe_trader.env.trading_env import NOTHING_DRAWN, as_actions

MOST_BARS = 2**24  # that float32 numbers one by one


class TradingVecEnv(VecEnv):
    """The rules of :class:`~moe_trader.env.trading_env.TradingEnv` for many lanes in one compiled kernel.

    ``info`` always holds the plain ``log_return``. A finished lane starts a new episode at once, as SB3 expects: its
    ``info`` then also holds ``terminal_observation``, ``TimeLimit.truncated`` and ``episode`` (``r``: log profit,
    ``l``: bars). With one seed, lane i goes through exactly what ``TradingEnv`` with seed + i goes through.

    :param lanes: the engine
    :param seed: of the start offsets; ``None``: from the operating system
    """

    render_mode = None

    def __init__(self, lanes: Lanes, seed: int | None) -> None:
        super().__init__(lanes.n, lanes.observation_space, lanes.action_space)
        self.lanes = lanes
        self.gate_columns, self.gate_only = lanes.rules.gate_columns, lanes.rules.gate_only
        self.gate_input, self.gate_tail = lanes.gate_input, lanes.gate_tail
        self.column_names = lanes.column_names
        self._generators = lane_generators(lanes.n, seed)
        self._started = False
        self._actions = np.zeros((lanes.n, *(lanes.action_space.shape or ())), dtype=lanes.action_space.dtype)

    def reset(self) -> np.ndarray:
        """Start an episode in every lane and return the observations, shape ``(n_lanes, size)``."""
        for lane, seed in enumerate(self._seeds):
            if seed is not None:
                self._generators[lane] = lane_generators(1, seed)[0]
            self.lanes.reset(lane, self._generators[lane])
        self._started = True
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self._observe()

    def _observe(self, lanes: slice | NDArray[np.int64] = slice(None)) -> NDArray[np.float32]:
        return self.lanes.observe(lanes)

    def step_async(self, actions: np.ndarray) -> None:
        """Take one action for each lane, shape ``(n_lanes, *action_space.shape)``.

        :raises ValueError: for what is no action for each lane; one outside the action space is refused by the step
        :raises ResetNeeded: before the first :meth:`reset`
        """
        if not self._started:
            raise ResetNeeded("expected reset() before the first step()")
        self._actions = as_actions(actions, self.action_space, self.num_envs)

    def step_wait(self) -> VecEnvStepReturn:
        """Step every lane; return observations, rewards (float32), dones and infos."""
        lanes = self.lanes
        lanes.step(self._actions)
        dones = lanes.finished
        observations = self._observe()
        infos: list[dict[str, Any]] = [{"log_return": value} for value in lanes.log_returns.tolist()]
        ended = dones.nonzero()[0]
        if len(ended):
            last = observations[ended]
            for number, lane in enumerate(ended.tolist()):
                infos[lane] |= {
                    "terminal_observation": last[number],
                    "TimeLimit.truncated": not bool(lanes.bankrupt[lane]),
                    "episode": {"r": lanes.log_profit(lane), "l": int(lanes.bars[lane] - lanes.starts[lane])},
                }
                lanes.reset(lane, self._generators[lane])
            observations[ended] = self._observe(ended)
        return observations, lanes.rewards.astype(np.float32), dones, infos

    def with_bar_indices(self) -> BarIndexVecEnv | None:
        """Return an environment of these very lanes that names bars; ``None`` where float32 cannot count them."""
        return BarIndexVecEnv(self.lanes, self._generators) if len(self.lanes.tape.features) <= MOST_BARS else None

    def state(self) -> dict[str, Any]:
        """Return where every lane stands: ``arrays``, and the random generators' states as ``values``."""
        return {"arrays": self.lanes.state(), "values": [one.bit_generator.state for one in self._generators]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put a state back. :raises ValueError: for one of another number of lanes."""
        if len(state["values"]) != self.num_envs:
            raise ValueError(f"state: expected one of {self.num_envs} envs, got {len(state['values'])}")
        self.lanes.load_state(state["arrays"])
        for generator, own in zip(self._generators, state["values"], strict=True):
            generator.bit_generator.state = own
        self._started = True

    def close(self) -> None:
        """Nothing to release."""

    def render(self, mode: str | None = None) -> NoReturn:
        """Refuse: see :meth:`TradingEnv.render`."""
        raise NotImplementedError(NOTHING_DRAWN)

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """Return an attribute once for each lane asked for: all lanes share one object."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Refuse: lanes share their settings."""
        raise NotImplementedError("the lanes of a TradingVecEnv share their settings; make a new one")

    def env_method(
        self, method_name: str, *method_args: Any, indices: int | Iterable[int] | None = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refuse: there is no environment object for each lane."""
        raise NotImplementedError(f"TradingVecEnv has no environment for each lane to call {method_name} on")

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        """Return False for every lane: episodes are already recorded in ``info``."""
        return [False for _ in self._get_indices(indices)]


class BarIndexVecEnv(TradingVecEnv):
    """The same lanes, but an observation is the number of its bar and the account: three numbers for a kilobyte.

    Prices do not react to the agent, so the market part of an observation is made of rows of :attr:`tables`. A learner
    that keeps them reads observations out of them and stores next to nothing.
    """

    def __init__(self, lanes: Lanes, generators: list[np.random.Generator]) -> None:
        super().__init__(lanes, None)
        self._generators = generators
        clip = lanes.rules.clip
        low, high = np.array([[0, -clip, -clip], [len(lanes.tape.features), clip, clip]], dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)

    @property
    def tables(self) -> list[tuple[NDArray[np.float32], int]]:
        """Feature rows ``(n_bars, n_features)``, and how many of them end in the bar that an observation names.

        Then the same of what the gate alone sees, where there is such a thing.
        """
        tape, window = self.lanes.tape, self.lanes.rules.window
        own = [] if tape.gate is None else [(tape.gate.rows, tape.gate.gate_input.rows)]
        return [(tape.features, window), *own]

    def _observe(self, lanes: slice | NDArray[np.int64] = slice(None)) -> NDArray[np.float32]:
        return self.lanes.bar_indices(lanes)


class UnitRewards(VecEnvWrapper):
    """Multiplies the rewards that a learner sees, and nothing else, by a constant.

    Log returns of a bar are far smaller than the first guesses of a fresh critic, which would drown them for most of a
    training run. ``info["episode"]`` keeps the log profit.

    :param scale: one over the standard deviation of a bar's log return, so that rewards are near 1
    """

    def __init__(self, venv: VecEnv, scale: float) -> None:
        super().__init__(venv)
        self.scale = np.float32(scale)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "class_attributes"}  # cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, class_attributes=dict(inspect.getmembers(type(self))))

    def with_bar_indices(self) -> UnitRewards | None:
        """Return the same around an environment that names bars."""
        inner = self.venv.with_bar_indices() if isinstance(self.venv, TradingVecEnv) else None
        return None if inner is None else UnitRewards(inner, float(self.scale))

    def state(self) -> dict[str, Any]:
        """Return that of the environment within. :raises ValueError: for one that has none."""
        return self._stateful().state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Put it back. :raises ValueError: for an environment without any, and for another number of lanes."""
        self._stateful().load_state(state)

    def _stateful(self) -> TradingVecEnv:
        if not isinstance(self.venv, TradingVecEnv):
            raise ValueError(f"env: {type(self.venv).__name__} cannot say its state; use moe_trader's own environment")
        return self.venv

    def reset(self) -> np.ndarray:
        """Reset every lane."""
        observations = self.venv.reset()
        assert isinstance(observations, np.ndarray)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step every lane; rewards are scaled."""
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, rewards * self.scale, dones, infos

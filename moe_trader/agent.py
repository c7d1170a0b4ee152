"""MoEAgent: K experts and a gate as one agent with Stable-Baselines3's verbs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv

from moe_trader import bundle
from moe_trader.acting import ActionsOfAgent
from moe_trader.argument import check_types, to_path, whole_number
from moe_trader.bounds import MOST_SEEDS
from moe_trader.device import Kernels, check_device, check_kernels
from moe_trader.expert import ExpertFamily
from moe_trader.expert.spaces import check_actions, check_env
from moe_trader.gate_input import ObservationLayout, column_names
from moe_trader.gating import Gate
from moe_trader.learner import Learner
from moe_trader.manifest import space_to_json
from moe_trader.mixture.layout import check_layout, layout_of, shown
from moe_trader.option import ConfigError, describe
from moe_trader.parts import PartsOfAgent

log = logging.getLogger(__name__)

Weights = NDArray[np.float32]


class MoEAgent(PartsOfAgent, ActionsOfAgent):
    """A mixture of SB3 policies under a gating network: ``learn``, ``predict``, ``save``, ``load``, ``gate_weights``.

    :param env: an SB3 ``VecEnv`` with flat Box observations; a :class:`~moe_trader.env.trading_vec_env.TradingVecEnv`
        says itself which columns the gate may see, any other environment shows the gate everything, as one bar. Of a
        ``TradingVecEnv`` made for it, a gate may read more: columns at the end of an observation that experts never see
    :param expert: settings of the experts
    :param gating: settings of the gate
    :param seed: of initial weights and of action draws; as in SB3 it seeds Python's, NumPy's and PyTorch's generators
    :param device: of the networks, ``"cpu"`` or ``"cuda"``
    :param kernels: ``"auto"`` uses compiled kernels where there are any, ``"off"`` plain PyTorch
    :param frozen: names of experts that do not learn, see :meth:`freeze`
    :raises ValueError: for other spaces, and for wrappers that normalise observations by running means, such as
        ``VecNormalize(norm_obs=True)``: a bundle does not hold them
    """

    def __init__(
        self,
        env: VecEnv,
        expert: ExpertFamily,
        gating: Gate,
        *,
        seed: int,
        device: str = "cpu",
        kernels: Kernels = "auto",
        frozen: Sequence[str] = (),
    ) -> None:
        observed = check_env(env)
        check_types(expert=(expert, ExpertFamily), gating=(gating, Gate))
        self.expert, self.gating = expert, gating
        self.layout = layout_of(env, gating, len(expert.names()))
        self._assemble(env, (observed, env.action_space), seed, device, kernels)
        self.model.column_names = [] if shown(env, "gate_columns") is None else shown(env, "column_names")
        if frozen:
            self.freeze(frozen)

    def _assemble(
        self, env: VecEnv | None, shapes: tuple[spaces.Box, spaces.Space], seed: int, device: str, kernels: Kernels
    ) -> None:
        """Make the learner. :param shapes: spaces of whole observations and of actions."""
        check_device(device)
        check_kernels(kernels)
        self.seed = whole_number(seed, "seed", least=0, most=MOST_SEEDS - 1)
        check_actions(shapes[1], self.expert.action_spaces)
        how: dict[str, Any] = {"seed": self.seed, "device": device, "kernels": kernels}
        self.algorithm: Learner = self.expert.learner(env, self.gating, self.layout, *shapes, **how)
        self.algorithm.save_agent = self.save
        self._learns_on = False
        self.set_logger(Logger(None, []))  # SB3's own would make a directory in the temporary one, and leave it empty

    @property
    def gate_columns(self) -> list[int]:
        """Columns of an observation that the gate sees."""
        return list(self.layout.gate)

    @property
    def expert_names(self) -> list[str]:
        """Names of the experts, in the order of every weight vector."""
        return self.expert.names()

    @property
    def gate_learns(self) -> bool:
        """Whether training can change the gate: it has parameters, and a learning rate."""
        return self.algorithm.gate_learns

    @property
    def metrics(self) -> dict[str, float]:
        """The mixture's metrics at the last update; see :func:`moe_trader.mixture.metrics.mixture_metrics`."""
        return self.algorithm.metrics

    def set_logger(self, logger: Logger) -> None:
        """Log to an SB3 logger."""
        self.algorithm.set_logger(logger)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "MoE",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train gate and experts jointly for at least ``total_timesteps`` environment steps, over all envs.

        The arguments are SB3's. Settings that work against each other are logged first, as warnings.

        :param total_timesteps: a whole number of at least 1
        :param callback: a callback of SB3's, a list of them, or a function. Where SB3's callbacks save a model
            (``CheckpointCallback``, ``EvalCallback``), a bundle is written, a directory that :meth:`load` opens
        :param log_interval: updates between two writes of the logger
        :param tb_log_name: not used: an agent writes to the logger of :meth:`set_logger`, or to none
        :raises ValueError: without an environment to learn in, for another number of steps, and where nothing learns
        :raises TrainingError: for a reward or an observation that is not finite, naming environment, step and column;
            and when training diverges. The agent then has the last weights that gave finite numbers
        """
        total_timesteps = whole_number(total_timesteps, "total_timesteps")
        log_interval = whole_number(log_interval, "log_interval")
        for one in callback if isinstance(callback, list) else [callback]:
            check_types(callback=(one, BaseCallback | Callable | None))
        if self.algorithm.env is None:
            raise ValueError("this agent was loaded without an environment: MoEAgent.load(path, env=...) can learn on")
        self.check_learns()
        if self.frozen:
            log.info("Frozen, so that they do not learn: %s", ", ".join(self.frozen))
        for line in self.expert.warnings(self.gating, self.gate_learns, self.algorithm.env.num_envs):
            log.warning("%s", line)
        if self._learns_on:
            log.info(
                "Learning on from a bundle: weights and the gate's state are kept; the optimiser's averages, the "
                "schedules (learning rate, loss weights, temperature) and the step count start from zero"
            )
            self._learns_on = False
        self.algorithm.learn(
            total_timesteps,
            callback=callback,
            log_interval=log_interval,
            tb_log_name=tb_log_name,
            reset_num_timesteps=reset_num_timesteps,
            progress_bar=progress_bar,
        )
        return self

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return the mixture's action for one observation or a batch, and ``state``; the signature is SB3's.

        :param state: of recurrent policies, and ``episode_start`` too: not used here
        :param deterministic: the most likely action of the mixture density (of a Box, the best of the experts' means);
            otherwise a draw from it. SB3's default is False. Of an ensemble by the mean, the action whose target is
            nearest to :meth:`target`
        :raises ValueError: for another shape or type, and for numbers that are not finite, naming columns and row
        :raises TypeError: for a bool as ``state``
        """
        if isinstance(state, bool | np.bool_):
            raise TypeError(f"predict: state: expected None, got {state}; write deterministic={state}")
        if self.expert.n_averaged > 1:
            return self.nearest_to_mean(observation, deterministic), state
        return self.algorithm.predict(observation, state, episode_start, deterministic=deterministic)

    def gate_weights(self, observations: np.ndarray) -> Weights:
        """Return the weight of each expert, ``(batch, K)`` for ``(batch, size)`` observations, rows summing to 1.

        A single observation, ``(size,)``, gets a single row, ``(K,)``.

        :raises ValueError: for observations of another shape or type, or with numbers that are not finite
        """
        given, is_batch = self.model.to_tensor(observations)
        with torch.no_grad():
            weights: Weights = self.model.gate_weights(given).cpu().numpy()
        return weights if is_batch else weights[0]

    def save(self, path: str | Path, task: Mapping[str, Any] | None = None) -> None:
        """Save the agent as a bundle: a directory that :meth:`load` opens anywhere, verified and without unpickling.

        :param task: what to remember of the task: feature names, scaler, data hash
        :raises BundleError: when something else is at ``path``, or ``task`` cannot be written as JSON
        """
        path = to_path(path, "path")
        check_types(task=(task, Mapping | None))
        names, model, kinds = self.expert_names, self.model, self.expert.kinds()
        bundle.write(
            path,
            config={"expert": describe(self.expert), "gating": describe(self.gating)},
            tensors=model.state_dict(),
            experts={name: self.expert.export(model, k) for k, name in enumerate(names)},
            manifest={
                "algorithm": " + ".join(dict.fromkeys(kinds)),
                "kinds": kinds,
                "experts": names,
                "frozen": self.frozen,
                "steps": self.algorithm.num_timesteps,
                "observation_space": space_to_json(model.observation_space),
                "action_space": space_to_json(model.action_space),
                "gate_columns": self.gate_columns,
                "gate_rows": self.layout.rows,
                "expert_columns": list(self.layout.experts),
                "seed": self.seed,
                "n_parameters": model.n_parameters(),
                "task": dict(task or {}),
            },
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: VecEnv | None = None,
        device: str = "cpu",
        plugins: Sequence[str] = (),
        kernels: Kernels = "auto",
    ) -> MoEAgent:
        """Load a bundle; with ``env`` the agent can learn on, and experts that were frozen stay frozen.

        :param plugins: packages of your own whose gates or experts the bundle may build
        :raises BundleError: when a file is missing, altered, malformed, or of another format version
        :raises ValueError: when ``env`` has other spaces than the agent, or does not show its gate what it reads
        """
        check_device(device)
        path = to_path(path, "path")
        check_types(env=(env, VecEnv | None))
        content = bundle.read(path, plugins)
        shapes = (content.observation_space, content.action_space)
        if env is not None:
            check_for_correct_spaces(env, *shapes)
            check_layout(env, content.gating, len(content.expert.names()), content.layout)
        parts = (content.expert, content.gating, content.layout)
        try:
            agent = cls.of_parts(*parts, shapes, seed=content.manifest["seed"], env=env, device=device, kernels=kernels)
        except ConfigError as error:
            if env is not None:  # which may be what does not fit
                raise
            raise bundle.BundleError(f"{path}: {error}") from None
        bundle.load_weights(path, agent.model, content.tensors)
        if frozen := content.manifest["frozen"]:
            agent.model.experts.freeze([agent.expert_names.index(name) for name in frozen])
        task, (size,) = content.manifest["task"], agent.model.observation_space.shape or ()
        agent.model.column_names = column_names(task.get("features"), task.get("window"), size)
        agent.remember_positions(path, task.get("positions"), plugins)
        agent._learns_on = True
        return agent

    @classmethod
    def of_parts(
        cls,
        expert: ExpertFamily,
        gating: Gate,
        layout: ObservationLayout,
        shapes: tuple[spaces.Box, spaces.Space],
        *,
        seed: int,
        env: VecEnv | None = None,
        device: str = "cpu",
        kernels: Kernels = "auto",
    ) -> MoEAgent:
        """Return an agent of fresh weights that needs no environment to act.

        :param layout: which columns of an observation gate and experts see
        :param shapes: spaces of whole observations and of actions
        """
        agent = cls.__new__(cls)
        agent.expert, agent.gating, agent.layout = expert, gating, layout
        agent._assemble(env, shapes, seed, device, kernels)
        return agent

"""Expert families: the options of ``conf/expert``. One file a family: members, checks, model, learner, export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from gymnasium import spaces

from moe_trader.option import ConfigError

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from moe_trader.device import Kernels
    from moe_trader.gate_input import ObservationLayout
    from moe_trader.gating import Gate
    from moe_trader.learner import Learner
    from moe_trader.mixture.model import MixtureModel


class ExpertFamily(ABC):
    """Settings of K experts and of their joint training: an option of ``conf/expert``."""

    action_spaces: ClassVar[tuple[type[spaces.Space], ...]]
    """Kinds of action space that the experts act in."""
    step_factor: ClassVar[float] = 1.0
    """Environment steps for each that PPO takes, where ``trainer.total_timesteps`` is ``None``."""

    @property
    def n_averaged(self) -> int:
        """Members whose target positions are averaged; 1: the mixture takes the most likely action of its density."""
        return 1

    def repeated(self, times: int) -> ExpertFamily:
        """Return the family of the experts of so many agents of this family together, agent after agent.

        :raises ConfigError: for a family that does not define it
        """
        raise ConfigError(f"expert: {type(self).__name__} does not define repeated(), which an ensemble needs")

    @abstractmethod
    def names(self) -> list[str]:
        """Return the experts' names: columns of every table."""

    @abstractmethod
    def kinds(self) -> list[str]:
        """Return the SB3 class of each expert, which opens its exported zip: ``["PPO", "PPO"]``."""

    @abstractmethod
    def parameters_each(self, n_columns: int, action_space: spaces.Space) -> int:
        """Return how many parameters one expert has, without making it.

        :param n_columns: of an observation that it sees
        """

    def shape(self) -> dict[str, Any]:
        """Return the settings without which an expert's weights mean nothing; sizes are compared in any case."""
        return {}

    @abstractmethod
    def model(
        self, gate: Gate, layout: ObservationLayout, observation_space: spaces.Box, action_space: spaces.Space
    ) -> MixtureModel:
        """Return a fresh mixture: the initial weights follow PyTorch's seed.

        :param layout: which columns of a whole observation gate and experts see
        :param observation_space: of whole observations
        """

    @abstractmethod
    def learner(
        self,
        env: VecEnv | None,
        gate: Gate,
        layout: ObservationLayout,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        *,
        seed: int,
        device: str,
        kernels: Kernels,
    ) -> Learner:
        """Return a fresh SB3 algorithm that trains :meth:`model`; without ``env`` it can act but not learn.

        :param kernels: see :data:`moe_trader.device.Kernels`
        """

    @abstractmethod
    def export(self, model: MixtureModel, expert: int) -> BaseAlgorithm:
        """Return one expert as the plain SB3 algorithm of its kind."""

    @abstractmethod
    def parameter_matched(self, model: MixtureModel) -> ExpertFamily:
        """Return the same family with one expert, widened to about as many parameters as the mixture has.

        One expert sees what gate and experts see together.
        """

    @abstractmethod
    def warnings(self, gate: Gate, gate_learns: bool, n_envs: int) -> list[str]:
        """Return a line for each pair of settings that work against each other; each is legal by itself.

        :param gate_learns: whether training can change the gate
        :param n_envs: environments that are learned in at the same time
        """

"""The expert room: families of Stable-Baselines3 policies, mixed by a gate and trained jointly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from gymnasium import spaces

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from moe_trader.expert.mixture_policy import MixturePolicy
    from moe_trader.gating import Gate
    from moe_trader.sight import View


class ExpertFamily(ABC):
    """Settings of K experts of one SB3 algorithm and of their joint training: an option of ``conf/expert``."""

    algorithm_name: str
    """The SB3 class that opens an exported expert, ``"PPO"``."""
    ent_coef: float
    """What the entropy of the mixture counts in the training loss."""
    batch_size: int
    """States in a minibatch."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the experts' names: columns of every table."""

    @abstractmethod
    def parameters_each(self, n_columns: int, action_space: spaces.Space) -> int:
        """Return how many parameters one expert has, without making it.

        :param n_columns: of an observation that it sees
        """

    @abstractmethod
    def algorithm(
        self,
        env: VecEnv | None,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        gate: Gate,
        view: View,
        seed: int,
        device: str,
    ) -> BaseAlgorithm:
        """Return a fresh SB3 algorithm whose policy is a mixture; without ``env`` it can act but not learn.

        :param observation_space: of whole observations, of which gate and experts see what ``view`` says
        """

    @abstractmethod
    def standalone(self, policy: MixturePolicy, expert: int) -> BaseAlgorithm:
        """Return one expert as the plain SB3 algorithm, for export."""

    @abstractmethod
    def matched_single(self, n_parameters: int, observation_size: int, n_actions: int) -> ExpertFamily:
        """Return the same family with one expert, widened to about ``n_parameters`` parameters."""

"""Learners: Stable-Baselines3 algorithms that train a mixture. Each overrides its update, and owns its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.type_aliases import MaybeCallback
    from stable_baselines3.common.vec_env import VecEnv

    from moe_trader.learner.state import LearnerState
    from moe_trader.mixture.model import MixtureModel


class Learner(Protocol):
    """What an agent needs of an SB3 algorithm that trains a mixture."""

    metrics: dict[str, float]
    """The mixture's metrics at the last update; see :func:`moe_trader.mixture.metrics.mixture_metrics`."""
    update_listeners: list[Callable[[], None]]
    """Called when an update is done."""
    save_agent: Callable[[str], None] | None
    """Writes the agent to a path, for SB3's callbacks that save a model."""
    env: VecEnv | None
    num_timesteps: int

    @property
    def model(self) -> MixtureModel:
        """The mixture that is trained."""

    @property
    def gate_learns(self) -> bool:
        """Whether training can change the gate."""

    @property
    def logger(self) -> Logger:
        """The SB3 logger that it logs to."""

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Any:
        """Train, as SB3 does."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Act, as SB3 does."""

    def set_logger(self, logger: Logger) -> None:
        """Log to an SB3 logger."""

    def state(self) -> LearnerState:
        """Return all that training goes on from, between two updates."""

    def load_state(self, state: LearnerState, total_timesteps: int | None = None) -> None:
        """Go on from a state, in a training of so many steps in all."""

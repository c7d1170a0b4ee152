"""The trainer room: one run from environment to saved mixture."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, configure

from moe_trader.argument import check_types, to_path
from moe_trader.bounds import Whole, Width
from moe_trader.finite import TrainingError
from moe_trader.option import option
from moe_trader.trainer.progress import Progress
from moe_trader.trainer.warm_start import WarmAgent, WarmStart

log = logging.getLogger(__name__)


class Agent(WarmAgent, Protocol):
    """What a trainer needs of an agent; :class:`~moe_trader.agent.MoEAgent` is one."""

    @property
    def gate_learns(self) -> bool:
        """Whether training can change the gate."""

    @property
    def metrics(self) -> dict[str, float]:
        """The mixture's metrics at the last update."""

    def set_logger(self, logger: Logger) -> None:
        """Log to an SB3 logger."""

    def learn(self, total_timesteps: int, callback: BaseCallback | None = None) -> Any:
        """Train for at least that many environment steps."""

    def save(self, path: str | Path, task: Mapping[str, Any] | None = None) -> None:
        """Save to a directory."""


@option
class Trainer:
    """Trains an agent and leaves logs and bundle in its run directory.

    Three settings are those of :class:`~moe_trader.trainer.warm_start.WarmStart`.

    :param total_timesteps: environment steps over all lanes; training ends with the update that reaches them
    :param n_envs: lanes that trade at the same time
    :param parallel_seeds: how many seeds a run trains, from ``seed`` on, one after the other
    :param init_from: run directory or bundle that weights are taken from; ``None``: all start from zero
    :param init_parts: which parts are taken
    :param frozen: names of experts that do not learn
    """

    total_timesteps: Annotated[Whole, Field(gt=0, le=10**12)]
    n_envs: Width
    parallel_seeds: Annotated[Whole, Field(ge=1, le=1_024)]
    init_from: Annotated[str, Field(min_length=1, max_length=4_096)] | None
    init_parts: Annotated[list[Literal["experts", "gate"]], Field(min_length=1, max_length=2)]
    frozen: Annotated[list[str], Field(max_length=1_024)]

    @property
    def warm_start(self) -> WarmStart:
        """With what an agent starts."""
        return WarmStart(self.init_from, self.init_parts, self.frozen)

    def fit(
        self, agent: Agent, run_directory: str | Path, title: str = "mixture", task: Mapping[str, Any] | None = None
    ) -> Path:
        """Train ``agent``, log the mixture's metrics, and save the agent as ``run_directory/bundle``.

        :param title: what logs and progress bar call the agent
        :param task: what the bundle should remember of the task, see :meth:`MoEAgent.save`
        :return: the bundle's path
        :raises ConfigError: when the agent cannot start from ``init_from``, or ``frozen`` names no expert
        :raises TrainingError: when training met numbers that are not finite; the last finite weights are saved
        :raises TypeError: for an agent that is none, and for another type of directory, title or task
        """
        if not all(callable(getattr(agent, verb, None)) for verb in ("learn", "save", "set_logger")):
            raise TypeError(f"agent: expected an agent, such as MoEAgent, got {type(agent).__name__}")
        check_types(title=(title, str), task=(task, Mapping | None))
        directory = to_path(run_directory, "run_directory")
        task = self.warm_start.apply(agent, task)
        directory.mkdir(parents=True, exist_ok=True)
        logger = configure(str(directory), ["csv", "tensorboard"])
        agent.set_logger(logger)
        log.info("Training %s: %s steps, %d lanes", title, f"{self.total_timesteps:,}", self.n_envs)
        progress = Progress(agent, self.total_timesteps, title)
        path = directory / "bundle"
        try:
            agent.learn(self.total_timesteps, callback=progress)
            # What the last update did: SB3 itself writes an update's figures together with the rollout after it.
            for name, value in agent.metrics.items():
                logger.record(name, value)
            logger.record("time/total_timesteps", progress.num_timesteps)
            logger.dump(progress.num_timesteps)
        except TrainingError as error:
            agent.save(path, task=task)
            raise TrainingError(f"{title}: {error}; the last finite weights were saved to {path}") from error
        except KeyboardInterrupt:
            agent.save(path, task=task)
            log.warning("Stopped after %s steps; the %s as it is was saved to %s", progress.num_timesteps, title, path)
            raise
        finally:
            progress.close()
            logger.close()
        log.info("%s at the end: %s", title.capitalize(), summarise(agent.metrics, agent.expert_names))
        agent.save(path, task=task)
        log.info("Saved the bundle to %s", path)
        return path


def summarise(metrics: Mapping[str, float], names: list[str]) -> str:
    """Return the mixture's metrics as a line."""
    if len(names) == 1:
        return "one expert"
    importance = ", ".join(f"{name} {metrics.get(f'importance/{name}', float('nan')):.2f}" for name in names)
    rest = ("mixture/gate_entropy", "mixture/effective_experts", "mixture/disagreement")
    others = ", ".join(f"{key.split('/')[1].replace('_', ' ')} {metrics.get(key, float('nan')):.2f}" for key in rest)
    return f"importance {importance}; {others}"

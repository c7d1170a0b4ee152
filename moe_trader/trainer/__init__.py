"""The trainer room: one run from environment to saved mixture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from moe_trader.argument import check_types, to_path, whole_number
from moe_trader.bounds import NonNegative, Times, Whole, Width
from moe_trader.learner import Learner
from moe_trader.option import option
from moe_trader.trainer.training import Training
from moe_trader.trainer.validation import Metric, Select, Validation, check_settings
from moe_trader.trainer.visits import steps_of_visits
from moe_trader.trainer.warm_start import WarmAgent, WarmStart

if TYPE_CHECKING:
    from moe_trader.agent import MoEAgent
    from moe_trader.env.task import PreparedTask
    from moe_trader.expert import ExpertFamily


class Agent(WarmAgent, Protocol):
    """What a trainer needs of an agent; :class:`~moe_trader.agent.MoEAgent` is one."""

    @property
    def gate_learns(self) -> bool:
        """Whether training can change the gate."""

    @property
    def metrics(self) -> dict[str, float]:
        """The mixture's metrics at the last update."""

    @property
    def algorithm(self) -> Learner:
        """The SB3 algorithm, whose state checkpoints hold."""

    def set_logger(self, logger: Logger) -> None:
        """Log to an SB3 logger."""

    def learn(
        self, total_timesteps: int, callback: BaseCallback | None = None, *, reset_num_timesteps: bool = True
    ) -> Any:
        """Train for at least that many environment steps more."""

    def save(self, path: str | Path, task: Mapping[str, Any] | None = None) -> None:
        """Save to a directory."""


@option
class Trainer:
    """Trains an agent and leaves logs and bundle in its run directory.

    Three settings are those of :class:`~moe_trader.trainer.warm_start.WarmStart`.

    :param total_timesteps: environment steps over all lanes; training ends with the update that reaches them. ``None``:
        as many as :meth:`steps` returns
    :param n_envs: lanes that trade at the same time
    :param cost_multiple: of every cost of the training environment, :meth:`PreparedTask.training_env`
    :param validate_every: steps between validations; ``None``: see :func:`~moe_trader.trainer.interval.interval`; 0:
        never
    :param select: whose weights a run keeps
    :param select_by: the metric of validations that ranks them
    :param patience: validations in a row without improvement after which training stops; ``None``: it does not
    :param init_from: run directory or bundle that weights are taken from; ``None``: all start from zero
    :param init_parts: which parts are taken
    :param frozen: names of experts that do not learn
    :param checkpoint_seconds: between two checkpoints; 0: one after every update
    :param resume: what to do in a directory that holds a run of the same config: ``never`` refuses it, ``auto`` goes on
        from its last checkpoint, and ``extend`` also trains a finished run up to more steps
    """

    total_timesteps: Annotated[Whole, Field(gt=0, le=10**12)] | None
    n_envs: Width
    cost_multiple: NonNegative
    validate_every: Annotated[Whole, Field(ge=0, le=10**12)] | None
    select: Select
    select_by: Metric
    patience: Times | None
    init_from: Annotated[str, Field(min_length=1, max_length=4_096)] | None
    init_parts: Annotated[list[Literal["experts", "gate"]], Field(min_length=1, max_length=2)]
    frozen: Annotated[list[str], Field(max_length=1_024)]
    checkpoint_seconds: NonNegative
    resume: Literal["never", "auto", "extend"]

    def __post_init__(self) -> None:
        check_settings(self.validate_every, self.select, self.patience)

    @property
    def warm_start(self) -> WarmStart:
        """With what an agent starts."""
        return WarmStart(self.init_from, self.init_parts, self.frozen)

    def steps(self, task: PreparedTask, family: ExpertFamily) -> int:
        """Return ``total_timesteps``, or ``env.visits`` x training bars x the family's ``step_factor``, rounded."""
        return steps_of_visits(task, family) if self.total_timesteps is None else self.total_timesteps

    def validation(
        self, task: PreparedTask, agent: MoEAgent, seed: int, total_timesteps: int, title: str = "mixture"
    ) -> Validation:
        """Return the validations of a training of ``agent``.

        :param seed: of the bootstrap
        :param total_timesteps: of the training, see :meth:`steps`
        """
        return Validation(
            task,
            agent,
            every=self.validate_every,
            select=self.select,
            select_by=self.select_by,
            patience=self.patience,
            total_timesteps=total_timesteps,
            seed=seed,
            title=title,
        )

    def fit(
        self,
        agent: Agent,
        run_directory: str | Path,
        title: str = "mixture",
        task: Mapping[str, Any] | None = None,
        total_timesteps: int | None = None,
        validation: Validation | None = None,
    ) -> Path:
        """Train ``agent``, log the mixture's metrics, and save the agent as ``run_directory/bundle``.

        Checkpoints go to ``run_directory/checkpoint``. Unless :attr:`resume` is ``never``, training goes on from the
        newest.

        :param title: what logs and progress bar call the agent
        :param task: what the bundle should remember of the task, see :meth:`MoEAgent.save`
        :param total_timesteps: what :meth:`steps` returned; ``None``: the setting
        :param validation: of this agent, see :meth:`validation`; ``None``: without
        :return: the bundle's path
        :raises ConfigError: when the agent cannot start from ``init_from``, or ``frozen`` names no expert
        :raises TrainingError: when training met numbers that are not finite; the last finite weights are saved
        :raises CheckpointError: for a checkpoint that does not fit this agent or its prices
        :raises TypeError: for an agent that is none, and for another type of directory, title or task
        :raises ValueError: for another number of steps, and for ``None`` where the setting is ``None`` too
        """
        if not all(callable(getattr(agent, verb, None)) for verb in ("learn", "save", "set_logger")):
            raise TypeError(f"agent: expected an agent, such as MoEAgent, got {type(agent).__name__}")
        check_types(title=(title, str), task=(task, Mapping | None), validation=(validation, Validation | None))
        directory = to_path(run_directory, "run_directory")
        training = Training(
            agent,
            directory,
            total_timesteps=self._total(total_timesteps),
            checkpoint_seconds=self.checkpoint_seconds,
            title=title,
            task=task,
            warm_start=self.warm_start,
            validation=validation,
        )
        return training.run(resume=self.resume != "never")

    def _total(self, asked: int | None) -> int:
        """Return how many steps :meth:`fit` trains."""
        if asked is None and self.total_timesteps is None:
            raise ValueError(
                "total_timesteps: expected a number of steps, because trainer.total_timesteps is null; pass "
                "total_timesteps=trainer.steps(task, expert)"
            )
        return whole_number(self.total_timesteps if asked is None else asked, "total_timesteps")

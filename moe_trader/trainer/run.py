"""A run of one seed: its stages in their order, which of them are done, and what each leaves in the run directory."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_trader.agent import MoEAgent
from moe_trader.bundle import read_manifest
from moe_trader.evaluation.evaluate import Tables, evaluate, read_tables, write_tables
from moe_trader.evaluation.report import write_report
from moe_trader.gating.fixed import Uniform
from moe_trader.run_files import BUNDLE, MANIFEST, REPORT, SINGLE_POLICY, TABLES, WEIGHTS
from moe_trader.trainer.facts import cautions, facts, notes
from moe_trader.trainer.source import INIT_FROM
from moe_trader.trainer.status import Status
from moe_trader.trainer.warm_start import UNEQUAL

if TYPE_CHECKING:
    from moe_trader.env.task import PreparedTask
    from moe_trader.settings import RunSettings
    from moe_trader.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A part of a run that is done once.

    :param needs: stages whose files it reads; where one of them is done again, so is this one
    :param leaves: files that it leaves in the run directory
    """

    name: str
    needs: tuple[str, ...]
    leaves: tuple[str, ...]
    carry_out: Callable[[], object]


class Run:
    """Trains the mixture and the single policy, evaluates both, and writes the report.

    :param directory: where everything is left
    :param record: what bundles keep besides the task's summary: the config, see :func:`moe_trader.saved_config.record`
    :raises StatusError: where the directory does not say how far an earlier process came
    """

    def __init__(self, settings: RunSettings, task: PreparedTask, directory: Path, record: Mapping[str, Any]) -> None:
        self.settings, self.task, self.directory = settings, task, directory
        self.status = Status(directory)
        self.total_timesteps = settings.trainer.steps(task, settings.expert)
        self._remembered = task.summary() | dict(record)
        self._how: dict[str, Any] = {"device": settings.device, "kernels": settings.kernels}

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        agents = [Stage("mixture", (), (MANIFEST, WEIGHTS), self._train_mixture)]
        if has_single_policy(self.settings):
            leaves = tuple(f"{SINGLE_POLICY}/{name}" for name in (MANIFEST, WEIGHTS))
            agents.append(Stage("single policy", ("mixture",), leaves, self._train_single_policy))
        trained = tuple(stage.name for stage in agents)
        return [
            *agents,
            Stage("evaluation", trained, tuple(TABLES.values()), self._evaluate),
            Stage("report", ("evaluation",), (REPORT,), self._report),
        ]

    def carry_out(self) -> None:
        """Do every stage that is not done.

        :raises ConfigError: for other prices than the run has, and for fewer steps
        """
        if self.status.total_timesteps is not None:
            self.begin(self.status)
        repeated: set[str] = set()
        for stage in self.stages():
            if repeated.isdisjoint(stage.needs) and self.status.is_done(stage.name):
                log.info("Stage %s: done before", stage.name)
                continue
            stage.carry_out()
            self.status.done(stage.name, stage.leaves)
            repeated.add(stage.name)
        self.status.finish()

    def begin(self, status: Status) -> None:
        """Note in a status what is trained on and for how many steps. :raises ConfigError: as :meth:`carry_out`."""
        status.begin(self.total_timesteps, self._remembered["market_sha256"])

    def is_done(self) -> bool:
        """Whether nothing is left to do; reads the status and every file that a stage left."""
        self.status = Status(self.directory)
        is_whole = self.status.finished and self.status.total_timesteps == self.total_timesteps
        return is_whole and all(self.status.is_done(stage.name) for stage in self.stages())

    def tables(self) -> Tables:
        """Return the tables of the evaluation."""
        return read_tables(self.directory)

    def notes(self, tables: Tables) -> list[str]:
        """Return what one must know before believing the run's results."""
        found = notes(self.settings, tables)
        if has_single_policy(self.settings):
            bundles = (BUNDLE, f"{SINGLE_POLICY}/{BUNDLE}")
            warm = {INIT_FROM in read_manifest(self.directory / bundle)["task"] for bundle in bundles}
            found += [UNEQUAL] if len(warm) > 1 else []
        return found

    def _train_mixture(self) -> None:
        settings, trainer = self.settings, self.settings.trainer
        env = self.task.training_env(trainer.n_envs, settings.seed, trainer.cost_multiple)
        agent = MoEAgent(env, settings.expert, settings.gating, seed=settings.seed, **self._how)
        self.begin(self.status)
        self._fit(trainer, agent, self.directory, "mixture")

    def _train_single_policy(self) -> None:
        settings, trainer = self.settings, self.settings.trainer
        family = settings.expert.parameter_matched(self._load(BUNDLE).model)
        env = self.task.training_env(trainer.n_envs, settings.seed, trainer.cost_multiple)
        agent = MoEAgent(env, family, Uniform(losses={}), seed=settings.seed, **self._how)  # one has all the weight
        start = trainer.warm_start.of_single_policy(agent, self._remembered)
        trainer = dataclasses.replace(trainer, **vars(start))
        self._fit(trainer, agent, self.directory / SINGLE_POLICY, "single policy")

    def _fit(self, trainer: Trainer, agent: MoEAgent, directory: Path, title: str) -> None:
        steps = self.total_timesteps
        validation = trainer.validation(self.task, agent, self.settings.seed, steps, title)
        trainer.fit(agent, directory, title, self._remembered, steps, validation)

    def _evaluate(self) -> None:
        """Evaluate the agents that were saved, as ``moe-evaluate`` does."""
        single = self._load(f"{SINGLE_POLICY}/{BUNDLE}") if has_single_policy(self.settings) else None
        tables = evaluate(self.task, self._load(BUNDLE), single, self.settings.seed, shapley=self.settings.shapley)
        write_tables(tables, self.directory)

    def _report(self) -> None:
        tables = self.tables()
        for line in cautions(self.settings, tables):
            log.warning("%s", line)
        write_report(tables, self.directory, self._facts(), self.notes(tables))

    def _facts(self) -> dict[str, object]:
        single = "not trained"
        if has_single_policy(self.settings):
            single = f"{self._n_parameters(f'{SINGLE_POLICY}/{BUNDLE}')} parameters"
        found = facts(self.settings, self.task) | {"parameters": self._n_parameters(BUNDLE), "single policy": single}
        if self.status.extended_from:
            found["extended after"] = ", ".join(f"{steps:,} steps" for steps in self.status.extended_from)
        return found

    def _n_parameters(self, bundle: str) -> str:
        return f"{read_manifest(self.directory / bundle)['n_parameters']:,}"

    def _load(self, bundle: str) -> MoEAgent:
        return MoEAgent.load(self.directory / bundle, plugins=self.settings.plugins, **self._how)


def has_single_policy(settings: RunSettings) -> bool:
    """Whether a run trains a single policy too; one expert is one already."""
    return settings.single_policy and len(settings.expert.names()) > 1

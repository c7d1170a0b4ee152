"""One agent's training in one directory: from its newest checkpoint, if it may go on from one, to its bundle."""

from __future__ import annotations

import errno
import logging
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moe_trader
from moe_trader import interrupt
from moe_trader.finite import TrainingError
from moe_trader.learner.state import LearnerState
from moe_trader.run_files import BUNDLE, CHECKPOINTS, VALIDATION
from moe_trader.trainer.checkpoint import Checkpoint, CheckpointError, Checkpoints
from moe_trader.trainer.logs import RunLogger
from moe_trader.trainer.progress import Progress, summarise
from moe_trader.trainer.source import INIT_FROM

if TYPE_CHECKING:
    from moe_trader.trainer import Agent
    from moe_trader.trainer.validation import Validation
    from moe_trader.trainer.warm_start import WarmStart

log = logging.getLogger(__name__)

_VERSIONS = ("torch", "stable-baselines3", "numpy")


class _Enough(Exception):  # noqa: N818 - no error
    """Ends a training whose patience is exhausted, between two updates."""


class Training:
    """Trains an agent; checkpoints hold all that it goes on from.

    :param directory: for logs, checkpoints and bundle
    :param total_timesteps: environment steps over all envs, those of earlier processes included
    :param checkpoint_seconds: between two checkpoints; 0: one after every update
    :param title: of the agent, for logs and the progress bar
    :param warm_start: with what the agent starts
    :param validation: of the agent; ``None``: without
    :param task: kept by the bundle; its ``market_sha256`` must be that of the checkpoint
    """

    def __init__(
        self,
        agent: Agent,
        directory: Path,
        *,
        total_timesteps: int,
        checkpoint_seconds: float,
        title: str,
        task: Mapping[str, Any] | None,
        warm_start: WarmStart,
        validation: Validation | None,
    ) -> None:
        self.agent, self.directory, self.total_timesteps = agent, directory, total_timesteps
        self.title, self.task, self._seconds = title, task, checkpoint_seconds
        self.warm_start, self.validation = warm_start, validation
        self.checkpoints = Checkpoints(directory / CHECKPOINTS)
        self.progress = Progress(agent, total_timesteps, title)
        self.path = directory / BUNDLE
        self._saved_at: int | None = None  # step of the newest checkpoint
        self._last = time.monotonic()  # when the newest checkpoint was written

    def run(self, resume: bool) -> Path:
        """Train, and save the agent; return the bundle's path.

        :param resume: whether to go on from a checkpoint that is there; else those of an earlier training are removed
        :raises TrainingError: when training met numbers that are not finite; the last finite weights are saved
        :raises CheckpointError: for a checkpoint that does not fit
        """
        if not resume:
            self.checkpoints.remove()
        found = self.checkpoints.newest()
        self.checkpoints.directory.mkdir(parents=True, exist_ok=True)
        self.logger = self._begin() if found is None else self._load(found)
        self.agent.set_logger(self.logger)
        listeners = self.agent.algorithm.update_listeners
        listeners.append(self._updated)
        try:
            with interrupt.deferred():
                self._learn(found)
            self._write_checkpoint()
            self._select()  # changes the weights, from which no training goes on
            self._record_last_update()
        except TrainingError as error:
            self._save_agent()
            raise TrainingError(f"{self.title}: {error}; the last finite weights were saved to {self.path}") from error
        except KeyboardInterrupt:
            self._stop()
            raise
        finally:
            listeners.remove(self._updated)
            self.progress.close()
            self.logger.close()
        return self._save()

    def _begin(self) -> RunLogger:
        """Have the agent start with what it is to start with; return a new logger."""
        self.task = self.warm_start.apply(self.agent, self.task)
        return RunLogger(self.directory)

    def _learn(self, found: Checkpoint | None) -> None:
        step = found.step if found else 0
        if step >= self.total_timesteps or (self.validation is not None and self.validation.exhausted):
            return
        if found is None:
            log.info("Training %s: %s steps", self.title, f"{self.total_timesteps:,}")
        else:
            log.info("Going on with the %s at step %s of %s", self.title, f"{step:,}", f"{self.total_timesteps:,}")
        with suppress(_Enough):
            self.agent.learn(self.total_timesteps - step, callback=self.progress, reset_num_timesteps=found is None)

    def _updated(self) -> None:
        """Report an update that is done, and write a checkpoint where one is due."""
        self.progress.report()
        self._validate()
        if interrupt.requested() or time.monotonic() - self._last >= self._seconds:
            self._write_checkpoint()
        interrupt.check()
        if self.validation is not None and self.validation.exhausted:
            raise _Enough

    def _validate(self) -> None:
        if self.validation is None:
            return
        known = len(self.validation.curve)
        self.validation.after_update(self.agent.algorithm.num_timesteps)
        if len(self.validation.curve) > known:
            self.validation.write_curve(self.directory / VALIDATION)

    def _write_checkpoint(self) -> None:
        step = self.agent.algorithm.num_timesteps
        if not self._can_checkpoint() or step == self._saved_at:
            return
        learner = self.agent.algorithm.state()
        values = {
            "learner": learner.values,
            "logger": self.logger.position(),
            "progress": self.progress.state(),
            "validation": None,
            INIT_FROM: (self.task or {}).get(INIT_FROM),
            "market_sha256": (self.task or {}).get("market_sha256"),
            "versions": _versions(),
        }
        tensors = {f"learner.{name}": tensor for name, tensor in learner.tensors.items()}
        if self.validation is not None:
            best, values["validation"] = self.validation.state()
            tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
        path = self.checkpoints.write(Checkpoint(step, tensors, values))
        self._saved_at, self._last = step, time.monotonic()
        log.debug("Checkpoint: %s", path)

    def _can_checkpoint(self) -> bool:
        """Whether the environment has a state; without, it is logged once."""
        env = self.agent.algorithm.env
        if callable(getattr(env, "state", None)):
            return True
        if self._seconds != float("inf"):
            log.warning("No checkpoints: %s has no state() to go on from", type(env).__name__)
            self._seconds = float("inf")
        return False

    def _load(self, found: Checkpoint) -> RunLogger:
        """Put a checkpoint back; return the logger that goes on with it."""
        values, market = found.values, (self.task or {}).get("market_sha256")
        if values["market_sha256"] != market:
            raise CheckpointError(
                f"{self.checkpoints.directory}: the prices are not those of the checkpoint; restore the data, or train "
                "again: moe-train rerun"
            )
        if values["versions"] != _versions():
            log.warning("The checkpoint was written by other versions: results may differ in the last digits")
        if values[INIT_FROM] is not None:
            self.task = {**(self.task or {}), INIT_FROM: values[INIT_FROM]}
        if self.warm_start.frozen:
            self.warm_start.freeze(self.agent)
        try:
            state = LearnerState(found.part("learner."), values["learner"])
            self.agent.algorithm.load_state(state, total_timesteps=self.total_timesteps)
            if self.validation is not None and values["validation"] is not None:
                self.validation.load_state(found.part("best."), values["validation"])
        except ValueError as error:
            raise CheckpointError(f"{self.checkpoints.directory}: {error}") from None
        self.progress.load_state(values["progress"])
        self._saved_at = found.step
        return RunLogger(self.directory, values["logger"], found.step)

    def _select(self) -> None:
        """Put the selected weights into the agent, and note for the bundle which they are."""
        if self.validation is not None and (selection := self.validation.finish(self.agent.algorithm.num_timesteps)):
            self.validation.write_curve(self.directory / VALIDATION)
            self.task = {**(self.task or {}), "selection": selection}

    def _record_last_update(self) -> None:
        """Write a row for the last update: SB3 itself writes an update's figures with the rollout after it."""
        step = self.agent.algorithm.num_timesteps
        for name, value in self.agent.metrics.items():
            self.logger.record(name, value)
        self.logger.record("time/total_timesteps", step)
        self.logger.dump(step)

    def _stop(self) -> None:
        """Save the agent of an interrupted training, and log where training can go on."""
        step = self.agent.algorithm.num_timesteps
        steps = self.checkpoints.steps()
        kept = f"the newest checkpoint is of step {steps[-1]:,}" if steps else "there is no checkpoint yet"
        try:
            self._save_agent()
            saved = f"the {self.title} was saved to {self.path}"
        except OSError as error:  # of which the interrupt is to be raised
            saved = f"the {self.title} could not be saved to {self.path} ({error.strerror})"
        log.warning("Stopped after %s steps; %s; %s", f"{step:,}", kept, saved)

    def _save(self) -> Path:
        log.info("%s at the end: %s", self.title.capitalize(), summarise(self.agent.metrics, self.agent.expert_names))
        self._save_agent()
        log.info("Saved the bundle to %s", self.path)
        return self.path

    def _save_agent(self) -> None:
        """Write the bundle. :raises FileNotFoundError: rather than create a directory that was removed."""
        if not self.directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.directory))
        self.agent.save(self.path, task=self.task)


def _versions() -> dict[str, str]:
    own = {"moe_trader": moe_trader.__version__, "python": platform.python_version()}
    return own | {name: version(name) for name in _VERSIONS}

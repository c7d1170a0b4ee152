"""The directories of runs: which of them are taken, and who may write into one.

Hydra creates a job's directory and writes ``.hydra`` before the job starts. :class:`RunDirectories` therefore refuses a
directory that is taken as soon as its name is known, and :func:`claim` takes one before anything is written into it.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from moe_trader.durable import remove_partial, write_file
from moe_trader.lock import AT_WORK, is_locked, lock_directory, unusable
from moe_trader.option import ConfigError
from moe_trader.run_files import CLAIM, CONFIG, PROGRESS, holds_run, holds_sweep, written_folders
from moe_trader.sweep import jobs_of


class Sweep(NamedTuple):
    """A sweep of this process. :ivar jobs: overrides of each job, as far as they are known beforehand."""

    directory: Path
    lock: FileLock
    jobs: list[list[str]]


sweeps: list[Sweep] = []
"""Whose claims this process holds."""


def check_free(directory: Path, setting: str) -> None:
    """Create a directory unless it is there, and refuse one that is taken or cannot be used.

    :param setting: what named the directory, for the message
    :raises ConfigError: when it holds a run or a sweep, another run claimed it, it lies in a bundle, or is no directory
    """
    try:
        taken = _taken(directory)
        if taken is None:
            directory.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, RuntimeError) as error:  # the last: links in a circle
        raise unusable(directory, setting, error) from None
    if taken:
        raise ConfigError(f"{setting}: {directory} {taken}")


def _taken(directory: Path) -> str | None:
    """Return why nothing may be written into a directory, and the way out; ``None`` where it is free."""
    if holds := _holds(directory):
        return holds
    return AT_WORK if (directory / CLAIM).exists() and is_locked(directory) else None


def _holds(directory: Path) -> str | None:
    """Return what a directory holds that is not to be written over, and the way out."""
    place = directory.resolve()
    if any(
        (folder / "manifest.json").is_file() and (folder / "experts").is_dir() for folder in (place, *place.parents)
    ):
        return "lies inside a saved bundle; choose another directory"
    if holds_run(place):
        return (
            "holds a run already; choose another directory, or go on with that run: "
            f"moe-train resume {shlex.quote(str(directory))}"
        )
    if any((folder / ".hydra").is_dir() and holds_run(folder) for folder in place.parents):
        return "lies inside the directory of a run; choose another directory"
    if holds_sweep(place):
        return (
            "holds a sweep already; choose another directory, or repeat the same command with trainer.resume=auto to "
            "go on with that sweep"
        )
    return None


def claim(directory: Path, setting: str) -> FileLock:
    """Take a directory for one run or sweep: of several that try at once, one succeeds.

    :return: the lock on the directory, which ends with the process at the latest
    :raises ConfigError: as :func:`check_free`, and when another process is at work there
    """
    check_free(directory, setting)
    lock = lock_directory(directory, setting)
    if taken := _holds(directory):  # another run may have ended since
        lock.release()
        raise ConfigError(f"{setting}: {directory} {taken}")
    return lock


def release(directory: Path, lock: FileLock, keep: bool) -> None:
    """Give a directory back. :param keep: whether something was trained there, so that the claim stays visible."""
    if not keep:
        with suppress(OSError):
            (directory / CLAIM).unlink()
    lock.release()


def end_jobs(seconds: float = 5.0) -> None:
    """Have the jobs of this process's sweeps write their checkpoints, and wait until they did, or for so long.

    :param seconds: that they have
    """
    if not sweeps:
        return
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGTERM)
    claims = [claim for sweep in sweeps for claim in sweep.directory.rglob(f"*/{CLAIM}")]
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(is_locked(claim.parent) for claim in claims):
        time.sleep(0.05)


def release_sweeps() -> None:
    """Give back the directories of this process's sweeps."""
    while sweeps:
        sweep, lock, _ = sweeps.pop()
        release(sweep, lock, keep=any(sweep.rglob(PROGRESS)) or any(sweep.rglob(f"*/{CLAIM}")))


@contextmanager
def claimed_job(config: DictConfig, keep: bool) -> Iterator[Path]:
    """Claim the directory of the Hydra job that runs now, and save ``.hydra`` there, as Hydra would have done.

    A run that may be gone on with (``trainer.resume``) keeps the ``.hydra`` that is there.

    :param config: of the job, without Hydra's own settings
    :param keep: whether a run that began to train keeps the directory for good
    :raises ConfigError: when the directory is taken
    """
    directory, setting = job_directory()
    if resumes(config) and (directory / CONFIG).is_file():
        lock = lock_directory(directory, setting)
        try:
            for folder in written_folders(directory):
                remove_partial(folder)
            yield directory
        finally:
            lock.release()
        return
    lock = claim(directory, setting)
    try:
        try:
            _save_config(config, directory)
        except OSError as error:
            raise unusable(directory, setting, error) from None
        yield directory
    finally:
        release(directory, lock, keep=keep and holds_run(directory))


def job_directory() -> tuple[Path, str]:
    """Return the directory of the Hydra job that runs now, and the setting that names it."""
    settings = HydraConfig.get()
    setting = "hydra.run.dir" if OmegaConf.is_missing(settings.job, "num") else "hydra.sweep.subdir"
    return Path(settings.runtime.output_dir), setting


def resumes(config: DictConfig) -> bool:
    """Whether a config says that a run that is there is gone on with."""
    return OmegaConf.select(config, "trainer.resume", default="never") != "never"


def _save_config(config: DictConfig, directory: Path) -> None:
    """Save a job's config, Hydra's own settings and the overrides, as Hydra does without ``output_subdir=null``."""
    folder = directory / ".hydra"
    folder.mkdir(exist_ok=True)
    hydra = HydraConfig.get()
    parts = {"hydra": OmegaConf.create({"hydra": hydra}), "overrides": hydra.overrides.task, "config": config}
    for name, part in parts.items():  # the config last: a directory that has it can be gone on with
        write_file(folder / f"{name}.yaml", OmegaConf.to_yaml(part))


class RunDirectories(Callback):
    """Refuses what a command names as its directory, before Hydra writes into it.

    Hydra turns an exception of a callback into a warning; SystemExit ends the command.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse the directory of a run, unless that run is gone on with."""
        with _refusing("hydra.run.dir"):
            directory = _named(config, "hydra.run.dir")
            if not (resumes(config) and (directory / CONFIG).is_file()):
                check_free(directory, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the directory of a sweep, which stays that sweep's once one of its jobs began to train."""
        with _refusing("hydra.sweep.dir"):
            sweep = _named(config, "hydra.sweep.dir")
            goes_on = resumes(config) and holds_sweep(sweep)
            if not goes_on:
                check_free(sweep, "hydra.sweep.dir")
            subdir = str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"])  # type: ignore[index, call-overload]
            if "${" not in subdir:  # the same for every job
                if (sweep / subdir).resolve() == sweep.resolve():
                    raise ConfigError(
                        f"hydra.sweep.subdir: {subdir!r} is the directory of the sweep itself; give each job one of "
                        "its own: hydra.sweep.subdir='${hydra.job.num}'"
                    )
                if not goes_on:
                    check_free(sweep / subdir, "hydra.sweep.subdir")
            take = lock_directory if goes_on else claim
            sweeps.append(Sweep(sweep, take(sweep, "hydra.sweep.dir"), jobs_of(config)))


@contextmanager
def _refusing(setting: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        sys.exit(f"ConfigError: {error}")
    except OmegaConfBaseException as error:
        sys.exit(f"ConfigError: {setting}: {str(error).splitlines()[0]}")


def _named(config: DictConfig, setting: str) -> Path:
    """Return the directory that a setting names. :raises ConfigError: when it names none."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # for ${hydra:...}, as Hydra does for a job
    try:
        named = str(OmegaConf.select(config, setting) or "")
    finally:
        HydraConfig.instance().cfg = before
        OmegaConf.set_readonly(config.hydra, None)
    if not named.strip():
        raise ConfigError(f"{setting}: empty; give a directory, {setting}=PATH, or leave it out")
    return Path(named)

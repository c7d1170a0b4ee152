"""The directories of runs: which of them are taken, and who may write into one.

Hydra creates a job's directory and writes ``.hydra`` before the job starts. :class:`RunDirectories` therefore refuses a
directory that is taken as soon as its name is known, and :func:`claim` takes one before anything is written into it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from moe_trader.option import ConfigError

CLAIM = ".claimed"
_sweeps: list[Path] = []  # whose claims this process holds


def holds_run(directory: Path) -> bool:
    """Whether a run began to train there, of one seed or of several."""
    return any(any(directory.glob(one)) for one in ("bundle", "progress.csv", "seed_*/progress.csv"))


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
        raise _unusable(directory, setting, error) from None
    if taken:
        raise ConfigError(f"{setting}: {directory} {taken}")


def _taken(directory: Path) -> str | None:
    """Return why nothing may be written into a directory, and the way out; ``None`` where it is free."""
    place = directory.resolve()
    if any(
        (folder / "manifest.json").is_file() and (folder / "experts").is_dir() for folder in (place, *place.parents)
    ):
        return "lies inside a saved bundle; choose another directory"
    if holds_run(place):
        return "holds a run already; choose another directory"
    if any((folder / ".hydra").is_dir() and holds_run(folder) for folder in place.parents):
        return "lies inside the directory of a run; choose another directory"
    if (place / "multirun.yaml").is_file() and any(place.rglob("progress.csv")):
        return "holds a sweep already; choose another directory"
    if (place / CLAIM).exists():
        return (
            f"is claimed by another run, which is at work or was killed ({CLAIM}); choose another directory, or delete "
            "this one if that run is gone"
        )
    return None


def claim(directory: Path, setting: str) -> None:
    """Take a directory for one run or sweep: of several that try at once, one succeeds.

    :raises ConfigError: as :func:`check_free`
    """
    check_free(directory, setting)
    try:
        os.close(os.open(directory / CLAIM, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        check_free(directory, setting)  # which says who was quicker
        raise ConfigError(f"{setting}: {directory} was claimed by another run just now; try again") from None
    except OSError as error:
        raise _unusable(directory, setting, error) from None


def release(directory: Path) -> None:
    """Give a directory back in which nothing was trained, so that a corrected command may use it."""
    with suppress(OSError):
        (directory / CLAIM).unlink()


def release_sweeps() -> None:
    """Give back the directories of this process's sweeps in which no job began to train."""
    while _sweeps:
        sweep = _sweeps.pop()
        if not (any(sweep.rglob("progress.csv")) or any(sweep.rglob(f"*/{CLAIM}"))):
            release(sweep)


@contextmanager
def claimed_job(config: DictConfig, keep: bool) -> Iterator[Path]:
    """Claim the directory of the Hydra job that runs now, and save ``.hydra`` there, as Hydra would have done.

    :param config: of the job, without Hydra's own settings
    :param keep: whether a run that began to train keeps the directory for good
    :raises ConfigError: when the directory is taken
    """
    settings = HydraConfig.get()
    directory = Path(settings.runtime.output_dir)
    setting = "hydra.run.dir" if OmegaConf.is_missing(settings.job, "num") else "hydra.sweep.subdir"
    claim(directory, setting)
    try:
        try:
            _save_config(config, directory)
        except OSError as error:
            raise _unusable(directory, setting, error) from None
        yield directory
    finally:
        if not (keep and holds_run(directory)):
            release(directory)


def _save_config(config: DictConfig, directory: Path) -> None:
    """Save a job's config, Hydra's own settings and the overrides, as Hydra does without ``output_subdir=null``."""
    folder = directory / ".hydra"
    folder.mkdir(exist_ok=True)
    hydra = HydraConfig.get()
    parts = {"config": config, "hydra": OmegaConf.create({"hydra": hydra}), "overrides": hydra.overrides.task}
    for name, part in parts.items():
        OmegaConf.save(part, folder / f"{name}.yaml")


def _unusable(directory: Path, setting: str, error: Exception) -> ConfigError:
    reason = "not a directory" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or error
    return ConfigError(f"{setting}: {directory} cannot be used ({reason}); choose another directory")


class RunDirectories(Callback):
    """Refuses what a command names as its directory, before Hydra writes into it.

    Hydra turns an exception of a callback into a warning; SystemExit ends the command.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse the directory of a run."""
        with _refusing("hydra.run.dir"):
            check_free(_named(config, "hydra.run.dir"), "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the directory of a sweep, which stays that sweep's once one of its jobs began to train."""
        with _refusing("hydra.sweep.dir"):
            sweep = _named(config, "hydra.sweep.dir")
            check_free(sweep, "hydra.sweep.dir")
            subdir = str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"])  # type: ignore[index, call-overload]
            if "${" not in subdir:  # the same for every job
                if (sweep / subdir).resolve() == sweep.resolve():
                    raise ConfigError(
                        f"hydra.sweep.subdir: {subdir!r} is the directory of the sweep itself; give each job one of "
                        "its own: hydra.sweep.subdir='${hydra.job.num}'"
                    )
                check_free(sweep / subdir, "hydra.sweep.subdir")
            claim(sweep, "hydra.sweep.dir")
            _sweeps.append(sweep)


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

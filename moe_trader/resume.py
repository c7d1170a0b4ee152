"""``moe-train resume RUN`` and ``trainer.resume``: go on with a run in its own directory."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from moe_trader.config import load_config, to_plain
from moe_trader.durable import write_file
from moe_trader.option import ConfigError
from moe_trader.rerun import quoted, saved_run_arguments
from moe_trader.run_directory import job_directory, resumes
from moe_trader.run_files import BUNDLE, CHECKPOINTS, CONFIG, STATUS, is_finished, seed_directories
from moe_trader.saved_config import difference_of_runs

USAGE = """Usage: moe-train resume RUN [--plugins PACKAGE,...] [trainer.total_timesteps=N]

Goes on with the run in directory RUN, which was interrupted or killed, from its last checkpoint: it ends as if nothing
had happened, to the last bit. Stages that are done are not repeated. More steps than the run has (N) extend it.
Packages that the run lists under `plugins` are imported only if you name them with --plugins.

A sweep: repeat its command with trainer.resume=auto and the same hydra.sweep.dir."""

EXTENDED = "trainer.total_timesteps"
MAY_CHANGE = (EXTENDED, "trainer.checkpoint_seconds", "seeds_at_once", "device", "plugins")


def resume_arguments(given: Sequence[str]) -> list[str]:
    """Turn the arguments after ``moe-train resume`` into Hydra's; exits where they cannot be used."""
    for word in given[1:]:
        name, equals, _ = word.partition("=")
        if equals and not name.startswith("-") and name not in MAY_CHANGE:
            sys.exit(
                f"ConfigError: {name}: a run goes on with its own settings; only {', '.join(MAY_CHANGE)} may change. "
                f"For a new run with changes: moe-train rerun {given[0]} {word}"
            )
    if given and (Path(given[0]) / "multirun.yaml").is_file():
        sys.exit(
            f"{given[0]}: the directory of a sweep; repeat the command of the sweep with trainer.resume=auto and "
            f"hydra.sweep.dir={given[0]}, or give one of its jobs"
        )
    return saved_run_arguments(
        "resume", USAGE, given, lambda run: [f"hydra.run.dir={quoted(str(run))}", "++trainer.resume=extend"]
    )


def finished_before(config: DictConfig) -> bool:
    """Whether a job's run is in its directory and finished already, and nothing is to be done under ``auto``.

    :raises ConfigError: when the run there has another config, naming the first setting that differs; and when it was
        made by a version that wrote no checkpoints
    """
    directory, _ = job_directory()
    if not (resumes(config) and (directory / CONFIG).is_file()):
        return False
    _check_has_checkpoints(directory)
    plain, saved = to_plain(config), to_plain(load_config(directory / CONFIG))
    extends = plain["trainer"]["resume"] == "extend"
    found = difference_of_runs(plain, _with_total(saved, plain) if extends else saved)
    if found:
        key, now, then = found
        raise ConfigError(
            f"{key}: {now}, and the run in {directory} has {then}; choose another directory, or the setting of the run"
        )
    return not extends and is_finished(directory)


def save_extended_config(plain: Mapping[str, Any], directory: Path) -> None:
    """Save how many steps an extended run has in its ``.hydra``, and in those of its seeds.

    :raises ConfigError: for fewer steps than the run has
    """
    from moe_trader.trainer.status import Status

    total = plain["trainer"]["total_timesteps"]
    places = [directory, *seed_directories(directory).values()]
    if total is not None:
        for place in places:
            Status(place).check_total(total)
    for place in places:
        if not (place / CONFIG).is_file():
            continue
        config = load_config(place / CONFIG)
        if config.trainer.total_timesteps != total:
            config.trainer.total_timesteps = total
            write_file(place / CONFIG, OmegaConf.to_yaml(config))


def _with_total(saved: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    return {**saved, "trainer": {**saved["trainer"], "total_timesteps": plain["trainer"]["total_timesteps"]}}


def _check_has_checkpoints(directory: Path) -> None:
    for place in (directory, *seed_directories(directory).values()):
        if (place / BUNDLE).is_dir() and not any((place / name).exists() for name in (STATUS, CHECKPOINTS)):
            raise ConfigError(
                f"{place}: has no {STATUS} and no {CHECKPOINTS}/: this run was made by a version that wrote none; "
                f"repeat it: moe-train rerun {directory}"
            )

"""After a sweep that was interrupted, or in which a job failed: which jobs are unfinished, and how to go on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from moe_trader.overrides import override
from moe_trader.run_files import CONFIG, holds_run, is_finished

BY_NUMBER = "${hydra.job.num}"  # hydra.sweep.subdir at first
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def jobs_of(config: DictConfig) -> list[list[str]]:
    """Return the overrides of each job of a sweep, in order; empty where only the sweeper knows them.

    :param config: of the sweep, with Hydra's own node
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    hydra = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(hydra, dict)
    if hydra["sweeper"].get("_target_") != BASIC_SWEEPER or hydra["sweep"].get("subdir") != BY_NUMBER:
        return []
    try:
        parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        (batch,) = BasicSweeper.split_arguments(parsed, None)
    except Exception:  # a glob of options needs Hydra's own loader
        return []
    return [list(job) for job in batch]


def unfinished_lines(sweep: Path, jobs: Sequence[Sequence[str]], typed: Sequence[str]) -> list[str]:
    """Return a line for each unfinished job of a sweep, and the command that goes on with all; empty if there is none.

    :param jobs: as :func:`jobs_of` returns them
    :param typed: arguments of the command
    """
    shared = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    places = {sweep / str(number): [word for word in job if word not in shared] for number, job in enumerate(jobs)}
    for file in sorted(sweep.rglob(CONFIG)):  # other names, and sweepers that choose jobs as they go
        run = file.parents[1]
        if not any((folder / CONFIG).is_file() for folder in run.parents):  # a run of seeds holds runs
            places.setdefault(run, [])
    lines = []
    for run, words in places.items():
        if is_finished(run):
            continue
        how = "unfinished" if holds_run(run) else "not begun"
        lines.append(f"  {os.path.relpath(run)}{f' ({shlex.join(words)})' if words else ''}: {how}")
    if not lines:
        return []
    own = ("hydra.sweep.dir=", "trainer.resume=")
    kept = [word for word in typed if not word.startswith(own)]
    command = f"moe-train {shlex.join(kept)} {override('hydra.sweep.dir', os.path.relpath(sweep))} trainer.resume=auto"
    return [f"{len(lines)} of {len(places)} jobs of the sweep are not done:", *lines, f"To go on: {command}"]

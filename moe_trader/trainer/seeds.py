"""A run of several seeds: one process a seed, some at once, then what the seeds have in common."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from moe_trader import interrupt
from moe_trader.evaluation.evaluate import read_table
from moe_trader.evaluation.over_seeds import strategies_over_seeds, write_seeds
from moe_trader.option import ConfigError
from moe_trader.run_files import ENSEMBLE, ENSEMBLES_TABLE, REPORT, SEEDS_TABLES
from moe_trader.terminal import in_parallel_sweep
from moe_trader.trainer.ensemble import write_ensembles
from moe_trader.trainer.facts import facts
from moe_trader.trainer.joining import joining_refused
from moe_trader.trainer.seed_process import DONE, FAILED, MISTAKEN, SeedProcess
from moe_trader.trainer.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from moe_trader.evaluation.evaluate import Tables
    from moe_trader.settings import RunSettings
    from moe_trader.trainer.run import Run

SUMMARY = "summary of the seeds"
"""The stage that follows the seeds."""
STOP_PATIENCE = 10.0  # seconds for all processes to write their checkpoints

_TICK = 0.2  # seconds between looks for an interrupt

log = logging.getLogger(__name__)


class SeedsResults(NamedTuple):
    """Tables of what seeds have in common; without ensembles where none could be made."""

    strategies: pd.DataFrame
    ensembles: pd.DataFrame | None


class Seeds:
    """Runs of one config that differ in their seed.

    :param runs: by seed, in their order
    :param directory: that holds their directories; the means and the status of the whole are left there
    """

    def __init__(self, runs: Mapping[int, Run], directory: Path) -> None:
        self.runs, self.directory = runs, directory
        self.status = Status(directory)
        self.failed: dict[int, str] = {}
        """Why a seed failed."""
        self._mistake: str | None = None
        self._is_stopping = False
        self._at_work: list[SeedProcess] = []
        self._shown: dict[str, int] = {}

    def train(self, at_once: int, begin: Callable[[int], None]) -> None:
        """Carry out the runs that are not done, each in a process. A seed that fails does not stop the others.

        :param at_once: how many processes
        :param begin: called with a seed before its process starts
        :raises ConfigError: a user's mistake, which ends all; and for fewer steps than the run has
        :raises KeyboardInterrupt: after every process wrote its checkpoint and ended
        """
        if self.status.total_timesteps is not None:
            next(iter(self.runs.values())).begin(self.status)
        expert = next(iter(self.runs.values())).settings.expert
        if reason := joining_refused(expert, len(self.runs)):
            log.warning("No ensemble will be made of these seeds: %s", reason)
        left = [seed for seed, run in self.runs.items() if not run.is_done()]
        if before := [seed for seed in self.runs if seed not in left]:
            log.info("Done before: %s", named(before))
        if not left:
            return
        log.info("Training %s (%d at once: seeds_at_once); each logs to its own seed_N/train.log", named(left), at_once)
        try:
            with interrupt.deferred():
                while left or self._at_work:
                    while left and len(self._at_work) < at_once:
                        self._start(left.pop(0), begin)
                    self._receive()
                    interrupt.check()
                    if self._mistake:
                        raise ConfigError(self._mistake)
        finally:
            self._stop()

    def write_results(self) -> SeedsResults | None:
        """Write what the seeds that are done have in common; ``None`` for fewer than two.

        An interrupted run writes no ensembles.
        """
        done = {seed: run for seed, run in self.runs.items() if run.is_done()}
        if len(done) < 2:
            return None
        tables = {seed: run.tables() for seed, run in done.items()}
        if len(done) == len(self.runs) and self.status.finished and self.status.is_done(SUMMARY):
            kept = self.directory / ENSEMBLES_TABLE
            ensembles = read_table(kept) if kept.is_file() else None
            return SeedsResults(strategies_over_seeds(list(tables.values())), ensembles)
        ensembles = self._write_ensembles(list(done.values()))
        strategies = write_seeds(tables, self._notes(tables), self.directory, self._facts(list(done)), ensembles)
        if len(done) == len(self.runs) and not interrupt.requested():
            own = [] if ensembles is None else [ENSEMBLES_TABLE, f"{ENSEMBLE}/manifest.json"]
            next(iter(done.values())).begin(self.status)
            self.status.done(SUMMARY, [*SEEDS_TABLES.values(), REPORT, *own])
            self.status.finish()
        return SeedsResults(strategies, ensembles)

    def _write_ensembles(self, runs: list[Run]) -> pd.DataFrame | None:
        first = runs[0]
        if interrupt.requested() or joining_refused(first.settings.expert, len(runs)):
            return None
        return write_ensembles(self.directory, [run.directory for run in runs], first.task, first.settings).table

    def _start(self, seed: int, begin: Callable[[int], None]) -> None:
        begin(seed)
        self._at_work.append(SeedProcess(seed, self.runs[seed], self._shown))

    def _receive(self) -> None:
        """Take what the processes sent, and let go of those that ended."""
        ready = wait([one.connection for one in self._at_work], timeout=_TICK)
        for one in [one for one in self._at_work if one.connection in ready]:
            one.receive()
            if one.ending is not None:
                self._at_work.remove(one)
                one.join()
                self._note(one.seed, *one.ending)

    def _note(self, seed: int, kind: str, reason: str) -> None:
        if kind == DONE:
            log.info("Seed %d is done", seed)
        elif kind == MISTAKEN:
            self._mistake = reason
        elif kind == FAILED or not self._is_stopping:
            log.error("Seed %d failed: %s", seed, reason)
            self.failed[seed] = reason

    def _stop(self) -> None:
        """Have every process that is at work write its checkpoint, and wait until all ended."""
        self._is_stopping = True
        until = time.monotonic() + STOP_PATIENCE
        try:
            for one in self._at_work:
                one.stop()
            while self._at_work and time.monotonic() < until:
                self._receive()
        finally:
            for one in self._at_work:
                one.kill()

    def _notes(self, tables: Mapping[int, Tables]) -> list[str]:
        """Return what one must know before believing the results, each line once, with the seeds that it is true of."""
        seeds_of: dict[str, list[int]] = {}
        for seed, found in tables.items():
            for note in self.runs[seed].notes(found):
                seeds_of.setdefault(note, []).append(seed)
        return [
            note if len(seeds) == len(tables) else f"Seed {', '.join(map(str, seeds))}: {note}"
            for note, seeds in seeds_of.items()
        ]

    def _facts(self, seeds: list[int]) -> dict[str, object]:
        run = self.runs[seeds[0]]
        return facts(run.settings, run.task) | {"seed": named(seeds).partition(" ")[2]}


def seeds_at_once(settings: RunSettings) -> int:
    """Return how many seeds train at once: the setting, or one for each ``threads`` usable cores."""
    if settings.seeds_at_once is not None:
        return settings.seeds_at_once
    if in_parallel_sweep():
        log.info("Seeds train one after the other, because jobs of a sweep share the cores (seeds_at_once)")
        return 1
    return max(usable_cores() // settings.threads, 1) if settings.device == "cpu" else 1


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def named(seeds: list[int]) -> str:
    """Return seeds as text: ``seed 3``, ``seeds 0 to 4``, ``seeds 0, 2, 5``."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    first, last = seeds[0], seeds[-1]
    together = last - first + 1 == len(seeds) > 2
    return f"seeds {first} to {last}" if together else f"seeds {', '.join(map(str, seeds))}"

"""``moe-train``: compose a run, train the mixture, evaluate it, and leave everything in the run directory."""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from moe_trader import interrupt
from moe_trader.command import Failure, naming, refusing, run_directory, start, way_on
from moe_trader.config import run_settings, to_plain
from moe_trader.run_files import ENSEMBLE, LOG, holds_run, seed_directory
from moe_trader.saved_config import as_of_seed, record, save_as_of_seed

if TYPE_CHECKING:
    from moe_trader.env.task import PreparedTask
    from moe_trader.evaluation.evaluate import Tables
    from moe_trader.settings import RunSettings
    from moe_trader.trainer.run import Run
    from moe_trader.trainer.seeds import SeedsResults

log = logging.getLogger("moe_trader.train")


def run(settings: RunSettings, directory: Path, config: Mapping[str, Any] | None = None) -> None:
    """Carry out a run; this is the whole story of ``moe-train``, top to bottom.

    :param config: the plain config of the settings, which bundles then keep
    :raises ConfigError: when a run began to train in the directory already, unless ``trainer.resume`` goes on with it
    """
    import torch

    from moe_trader.fast.towers import are_compiled
    from moe_trader.option import ConfigError
    from moe_trader.trainer.facts import seen_by_gate_alone, training_costs
    from moe_trader.trainer.source import find_bundle
    from moe_trader.trainer.visits import log_steps

    if settings.trainer.resume == "never" and holds_run(directory):
        raise ConfigError(f"{directory} holds a run already; choose another directory")
    if settings.trainer.init_from is not None and not holds_run(directory):
        find_bundle(settings.trainer.init_from)  # refused before the market is read
    torch.set_num_threads(settings.threads)
    log.info("Run directory: %s", directory)
    task = settings.env.prepare(gate_input=settings.gating.gate_input())
    for line in task.split_lines():
        log.info("%s", line)
    if alone := seen_by_gate_alone(settings):
        log.info("No expert sees %s, but the gate and a single policy do (env.gate_only)", alone)
    log_steps(settings.trainer, task, settings.expert)
    if settings.trainer.cost_multiple != 1:
        log.info("Costs in training: %s; evaluation pays those of env.costs", training_costs(settings, task))
    if settings.kernels != "off" and not are_compiled():
        log.info("Compiling kernels for this CPU (about 15 s, first run only)")
    if settings.seeds > 1:
        run_seeds(settings, task, directory, config)
    else:
        tables = run_seed(settings, task, directory, config)
        _show(tables, settings.plugins, directory)


def run_seed(
    settings: RunSettings,
    task: PreparedTask,
    directory: Path,
    config: Mapping[str, Any] | None = None,
) -> Tables:
    """Train and evaluate the mixture and the single policy, and leave everything in a directory.

    :param config: the plain config of this seed, which bundles then keep
    :return: what evaluation found
    """
    from moe_trader.trainer.run import Run

    made = Run(settings, task, directory, record(config) if config else {})
    made.carry_out()
    return made.tables()


def run_seeds(
    settings: RunSettings, task: PreparedTask, directory: Path, config: Mapping[str, Any] | None = None
) -> None:
    """Train and evaluate several seeds, each in a run directory of its own, and print what they have in common.

    :raises Failure: when a seed failed; the others are done
    """
    from moe_trader.trainer.seeds import Seeds, named, seeds_at_once

    runs = {seed: _run_of_seed(settings, task, directory, config, seed) for seed in settings.each_seed()}
    seeds = Seeds(runs, directory)

    def begin(seed: int) -> None:
        save_as_of_seed(directory / ".hydra", runs[seed].directory / ".hydra", seed)

    try:
        seeds.train(seeds_at_once(settings), begin)
    finally:
        if (results := seeds.write_results()) is not None:
            _show_seeds(results, min(runs), settings.plugins, directory)
    if seeds.failed:
        failed = sorted(seeds.failed)
        logs = ", ".join(os.path.relpath(runs[seed].directory / LOG) for seed in failed)
        of_all = f"{named(failed).capitalize()} of {len(runs)}"
        raise Failure(f"{of_all} failed, see {logs}. {way_on(directory, settings.plugins)}")


def _run_of_seed(
    settings: RunSettings, task: PreparedTask, directory: Path, config: Mapping[str, Any] | None, seed: int
) -> Run:
    """Return the run of one seed of several: what ``moe-train seed=N`` carries out."""
    from moe_trader.trainer.run import Run

    own = record(as_of_seed(config, seed)) if config else {}
    return Run(dataclasses.replace(settings, seed=seed, seeds=1), task, seed_directory(directory, seed), own)


def _show_seeds(results: SeedsResults, first: int, plugins: Sequence[str], directory: Path) -> None:
    """Print what seeds have in common, and what one can do next."""
    from moe_trader.evaluation.ensembles import ensembles_verdict, ensembles_view
    from moe_trader.evaluation.over_seeds import seeds_view, verdict
    from moe_trader.terminal import console, say

    strategies, ensembles = results
    console().print(seeds_view(strategies, "test"))
    if ensembles is not None:
        console().print(ensembles_view(ensembles, "test"))
    for rival in ("single_policy", "buy_and_hold"):
        if line := verdict(strategies, rival, "test"):
            log.debug("%s", line)
            say(line)
    for line in [] if ensembles is None else ensembles_verdict(ensembles, "test"):
        log.debug("%s", line)
        say(line)
    where = os.path.relpath(directory)
    say(
        f"\nLook at the report:  {where}/report.html\n"
        f"Curves:              tensorboard --logdir {shlex.quote(where)}\n"
        + ("" if ensembles is None else f"Ensemble, a bundle:  {where}/{ENSEMBLE}\n")
        + f"Evaluate one again:  moe-evaluate {shlex.quote(f'{where}/seed_{first}')}{naming(plugins)}\n"
        f"Repeat:              moe-train rerun {shlex.quote(where)}{naming(plugins)}"
    )


def _show(tables: Tables, plugins: Sequence[str], directory: Path) -> None:
    """Print the test table, and say what one can do next."""
    from moe_trader.evaluation.console import performance_view, verdict
    from moe_trader.terminal import console, say

    console().print(performance_view(tables.experts, "test", console().width))
    for rival in ("single_policy", "buy_and_hold"):
        if line := verdict(tables.comparisons, rival, "test"):
            log.debug("%s", line)
            say(line)
    where = shlex.quote(os.path.relpath(directory))
    say(
        f"\nLook at the report:  {os.path.relpath(directory / 'report.html')}\n"
        f"Curves:              tensorboard --logdir {where}\n"
        f"Evaluate again:      moe-evaluate {where}{naming(plugins)}\n"
        f"Repeat:              moe-train rerun {where}{naming(plugins)}"
    )


def _job(config: DictConfig) -> None:
    from moe_trader.rerun import changed_config, rerun_report
    from moe_trader.resume import finished_before, save_extended_config
    from moe_trader.run_directory import job_directory
    from moe_trader.terminal import say
    from moe_trader.trainer.source import changed_source

    interrupt.listen_in_job()
    with refusing():
        if finished_before(config):
            say(f"Finished before, nothing to do: {os.path.relpath(job_directory()[0])}")
            return
        with run_directory(config) as directory:
            plain = to_plain(config)
            settings = run_settings(plain)
            if settings.trainer.resume == "extend":
                save_extended_config(plain, directory)
            original = None if settings.rerun_of is None else Path(settings.rerun_of)
            if original and (changed := changed_config(original)):
                log.warning("%s", changed)
            if original and (changed := changed_source(original, settings.trainer.init_from)):
                log.warning("%s", changed)
            run(settings, directory, plain)
            if original:
                log.info("%s", rerun_report(original, directory))


VERBS = {"rerun": "moe_trader.rerun:rerun_arguments", "resume": "moe_trader.resume:resume_arguments"}
"""First words of ``moe-train``, and the function that turns the words after them into Hydra's arguments."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``moe-train``."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] and given[0] in VERBS:
        module, _, function = VERBS[given[0]].partition(":")
        given = getattr(import_module(module), function)(given[1:])
    start(_job, "train", given)


if __name__ == "__main__":
    main()

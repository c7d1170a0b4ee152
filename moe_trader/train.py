"""``moe-train``: compose a run, train the mixture, evaluate it, and leave everything in the run directory."""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

import moe_trader
from moe_trader.command import run_directory, start
from moe_trader.config import run_settings, to_plain
from moe_trader.run_directory import holds_run
from moe_trader.saved_config import as_of_seed, record, save_as_of_seed

if TYPE_CHECKING:
    from moe_trader.env.task import PreparedTask
    from moe_trader.evaluation.evaluate import Tables
    from moe_trader.settings import RunSettings

log = logging.getLogger("moe_trader.train")


def run(settings: RunSettings, directory: Path, config: Mapping[str, Any] | None = None) -> None:
    """Carry out a run; this is the whole story of ``moe-train``, top to bottom.

    :param config: the plain config of the settings, which bundles then keep
    :raises ConfigError: when a run began to train in the directory already
    """
    import torch

    from moe_trader.fast.towers import are_compiled
    from moe_trader.option import ConfigError
    from moe_trader.trainer.source import find_bundle

    if holds_run(directory):
        raise ConfigError(f"{directory} holds a run already; choose another directory")
    if settings.trainer.init_from is not None:
        find_bundle(settings.trainer.init_from)  # refused before the market is read
    torch.set_num_threads(settings.threads)
    log.info("Run directory: %s", directory)
    task = settings.env.prepare(gate_input=settings.gating.gate_input())
    for line in task.split_lines():
        log.info("%s", line)
    if alone := _seen_by_gate_alone(settings):
        log.info("No expert sees %s, but the gate and a single policy do (env.gate_only)", alone)
    if settings.kernels != "off" and not are_compiled():
        log.info("Compiling kernels for this CPU (about 15 s, first run only)")
    if settings.trainer.parallel_seeds > 1:
        run_seeds(settings, task, directory, config)
    else:
        tables, _ = run_seed(settings, task, directory, config)
        _show(tables, settings.plugins, directory)


def run_seed(
    settings: RunSettings,
    task: PreparedTask,
    directory: Path,
    config: Mapping[str, Any] | None = None,
) -> tuple[Tables, list[str]]:
    """Train and evaluate the mixture and the single policy, and leave everything in a directory.

    :param config: the plain config of this seed, which bundles then keep
    :return: what evaluation found, and what one must know before believing it
    """
    from moe_trader.agent import MoEAgent
    from moe_trader.evaluation.evaluate import evaluate, write_tables
    from moe_trader.evaluation.report import write_report
    from moe_trader.gating.fixed import Uniform
    from moe_trader.trainer.warm_start import UNEQUAL

    trainer, seed = settings.trainer, settings.seed
    how: dict[str, Any] = {"seed": seed, "device": settings.device, "kernels": settings.kernels}

    remembered = task.summary() | (record(config) if config else {})
    env = task.training_env(trainer.n_envs, seed)
    agent = MoEAgent(env, settings.expert, settings.gating, **how)
    trainer.fit(agent, directory, task=remembered)

    single, is_equal = None, True
    if settings.single_policy and len(agent.expert_names) > 1:
        family = settings.expert.parameter_matched(agent.model)
        env = task.training_env(trainer.n_envs, seed)
        single = MoEAgent(env, family, Uniform(losses={}), **how)  # one has all the weight
        start = trainer.warm_start.of_single_policy(single, remembered)
        is_equal = (start.init_from is None) == (trainer.init_from is None)
        fresh = dataclasses.replace(trainer, **vars(start))
        fresh.fit(single, directory / "single_policy", title="single policy", task=remembered)

    tables = evaluate(task, agent, single, seed, shapley=settings.shapley)
    write_tables(tables, directory)
    notes = _notes(settings, tables) + ([] if is_equal else [UNEQUAL])
    facts = _facts(settings, task) | {
        "parameters": f"{agent.model.n_parameters():,}",
        "single policy": f"{single.model.n_parameters():,} parameters" if single else "not trained",
    }
    write_report(tables, directory, facts, notes)
    return tables, notes


def run_seeds(
    settings: RunSettings, task: PreparedTask, directory: Path, config: Mapping[str, Any] | None = None
) -> None:
    """Train and evaluate several seeds, each in a run directory of its own, and say what they have in common."""
    from moe_trader.finite import TrainingError
    from moe_trader.option import ConfigError
    from moe_trader.terminal import log_prefix

    numbers = range(settings.seed, settings.seed + settings.trainer.parallel_seeds)
    if settings.device == "cpu":
        listed = f"range({numbers.start},{numbers.stop})"
        log.info("On CPU, seeds run sequentially. To run one per core, without means: moe-train -m 'seed=%s'", listed)
    one_seed = dataclasses.replace(settings.trainer, parallel_seeds=1)
    done: dict[int, tuple[Tables, list[str]]] = {}
    failures: list[Exception] = []
    try:
        for seed in numbers:
            mine = directory / f"seed_{seed}"
            save_as_of_seed(directory / ".hydra", mine / ".hydra", seed)
            own = as_of_seed(config, seed) if config else None
            with log_prefix(f"seed {seed}"):
                try:
                    done[seed] = run_seed(dataclasses.replace(settings, seed=seed, trainer=one_seed), task, mine, own)
                except ConfigError:  # of every seed
                    raise
                except TrainingError as error:  # one line is enough
                    log.error("%s", error)
                    failures.append(error)
                except Exception as error:
                    log.exception("This seed failed; partial results are in %s", mine)
                    failures.append(error)
    finally:
        if len(done) > 1:
            _show_seeds(done, _facts(settings, task), settings.plugins, directory)
    if failures:
        raise failures[0]


def _show_seeds(
    done: Mapping[int, tuple[Tables, list[str]]], facts: dict[str, object], plugins: Sequence[str], directory: Path
) -> None:
    """Write and print what seeds have in common, and say what one can do next."""
    from moe_trader.evaluation.over_seeds import seeds_view, verdict, write_seeds
    from moe_trader.terminal import console, say

    of_note: dict[str, list[int]] = {}
    for seed, (_, notes) in done.items():
        for note in notes:
            of_note.setdefault(note, []).append(seed)
    shared = [
        note if len(seeds) == len(done) else f"Seed {', '.join(map(str, seeds))}: {note}"
        for note, seeds in of_note.items()
    ]
    tables = {seed: tables for seed, (tables, _) in done.items()}
    first, last = min(done), max(done)
    facts |= {"seed": f"{first} to {last}" if len(done) == last - first + 1 else ", ".join(map(str, done))}
    strategies = write_seeds(tables, shared, directory, facts)
    console().print(seeds_view(strategies, "test"))
    for rival in ("single_policy", "buy_and_hold"):
        if line := verdict(strategies, rival, "test"):
            log.debug("%s", line)
            say(line)
    where = os.path.relpath(directory)
    say(
        f"\nLook at the report:  {where}/report.html\n"
        f"Curves:              tensorboard --logdir {shlex.quote(where)}\n"
        f"Evaluate one again:  moe-evaluate {shlex.quote(f'{where}/seed_{first}')}{_naming(plugins)}\n"
        f"Repeat:              moe-train rerun {shlex.quote(where)}{_naming(plugins)}"
    )


def _seen_by_gate_alone(settings: RunSettings) -> str:
    """Return the features that no expert sees, as text; of one expert, or a gate that reads regimes, there are none."""
    hidden = len(settings.expert.names()) > 1 and settings.gating.gate_input().of == "features"
    return ", ".join(settings.env.seen_by_gate_alone) if hidden else ""


def _notes(settings: RunSettings, tables: Tables) -> list[str]:
    """Return what one must know before believing a run's results."""
    notes = []
    if settings.env.fill == "this_close":
        notes.append("Orders were filled at the close they were decided on. Nobody can trade like that.")
    if "bayes_filter" in tables.equity:
        notes.append("The Bayes filter knows the market's true parameters: a reference, not tradable.")
    if caveat := settings.gating.caveat():
        notes.append(caveat)
        log.warning("%s", caveat)
    if "oracle_routing" in tables.equity and not settings.env.regimes.causal:
        notes.append("Oracle routing is told the market's true regimes: a reference, not tradable.")
    broke = tables.comparisons.query("bankrupt != ''")
    for split, found in broke.groupby("split", sort=False)["bankrupt"]:
        who = ", ".join(dict.fromkeys(name for names in found for name in names.split(" and ")))
        notes.append(f"Bankrupt on the {split} split, closed and earning nothing after: {who}.")
        log.warning("%s", notes[-1])
    return notes


def _facts(settings: RunSettings, task: PreparedTask) -> dict[str, object]:
    """Return what a report's head says of a run."""
    from moe_trader.env.costs import describe_costs
    from moe_trader.env.margin import describe_margin

    kinds = Counter(settings.expert.kinds())
    return {
        "market": task.market.name,
        "instruments": len(task.market.instruments),
        "experts": ", ".join(f"{n} {kind} expert{'s' if n > 1 else ''}" for kind, n in kinds.items()),
        "gate": f"{type(settings.gating).__name__}; losses: {', '.join(settings.gating.losses) or 'none'}",
        "seen by the gate alone": _seen_by_gate_alone(settings) or "nothing",
        "training steps": f"{settings.trainer.total_timesteps:,}",
        "seed": settings.seed,
        "fill": settings.env.fill.replace("_", " "),
        "costs": describe_costs(task.rules.costs),
        "margin": describe_margin(settings.env.margin),
        "moe_trader": moe_trader.__version__,
    }


def _naming(plugins: Sequence[str]) -> str:
    """Return how a command names the packages that a run imports: nothing of a saved run is imported without."""
    return f" --plugins {','.join(plugins)}" if plugins else ""


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
        f"Evaluate again:      moe-evaluate {where}{_naming(plugins)}\n"
        f"Repeat:              moe-train rerun {where}{_naming(plugins)}"
    )


def _job(config: DictConfig) -> None:
    from moe_trader.rerun import changed_config, rerun_report
    from moe_trader.trainer.source import changed_source

    with run_directory(config) as directory:
        plain = to_plain(config)
        settings = run_settings(plain)
        original = None if settings.rerun_of is None else Path(settings.rerun_of)
        if original and (changed := changed_config(original)):
            log.warning("%s", changed)
        if original and (changed := changed_source(original, settings.trainer.init_from)):
            log.warning("%s", changed)
        run(settings, directory, plain)
        if original:
            log.info("%s", rerun_report(original, directory))


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``moe-train``."""
    from moe_trader.rerun import rerun_arguments

    given = sys.argv[1:] if arguments is None else arguments
    start(_job, "train", rerun_arguments(given[1:]) if given[:1] == ["rerun"] else given)


if __name__ == "__main__":
    main()

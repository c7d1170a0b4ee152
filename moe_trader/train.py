"""``moe-train``: compose a run, train the mixture, evaluate it, and leave everything in the run directory."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

import moe_trader
from moe_trader.command import run_directory, start
from moe_trader.config import config_directory, run_settings, save_as_of_seed, to_plain

if TYPE_CHECKING:
    from moe_trader.env.task import PreparedTask
    from moe_trader.evaluation.evaluate import Tables
    from moe_trader.expert.seeds import Seeds
    from moe_trader.settings import RunSettings

log = logging.getLogger("moe_trader.train")


USED = "hydra.run.dir: {} holds a run already; choose another directory"


def holds_run(directory: Path) -> bool:
    """Whether a run began to train there, of one seed or of several."""
    return any(any(directory.glob(one)) for one in ("bundle", "progress.csv", "seed_*/progress.csv"))


def run(settings: RunSettings, directory: Path) -> None:
    """Carry out a run; this is the whole story of ``moe-train``, top to bottom."""
    import torch

    from moe_trader.expert import towers
    from moe_trader.option import ConfigError

    if holds_run(directory):
        raise ConfigError(USED.format(directory))
    torch.set_num_threads(settings.threads)
    log.info("Run directory: %s", directory)
    task = settings.env.prepare(sight=settings.gating.sight())
    for line in task.split_lines():
        log.info("%s", line)
    if alone := _seen_by_gate_alone(settings):
        log.info("No expert sees %s, but the gate and a single policy do (env.gate_only)", alone)
    if not towers.are_compiled():
        log.info("Compiling for this processor: a quarter of a minute, in the first run alone")
    if settings.trainer.parallel_seeds > 1:
        run_seeds(settings, task, directory)
    else:
        tables, _ = run_seed(settings, task, directory)
        _show(tables, directory)


def run_seed(
    settings: RunSettings, task: PreparedTask, directory: Path, beside: Seeds | None = None
) -> tuple[Tables, list[str]]:
    """Train and evaluate the mixture and the single policy, and leave everything in a directory.

    :param beside: the seeds among which this one is trained
    :return: what evaluation found, and what one must know before believing it
    """
    from moe_trader.agent import MoEAgent
    from moe_trader.evaluation.evaluate import evaluate, write_tables
    from moe_trader.evaluation.report import write_report
    from moe_trader.gating.fixed import Uniform

    trainer, seed = settings.trainer, settings.seed
    how: dict[str, Any] = {"seed": seed, "device": settings.device, "compiles": trainer.compile, "beside": beside}

    env = task.training_env(trainer.n_envs, seed)
    agent = MoEAgent(env, settings.expert, settings.gating, **how)
    trainer.fit(agent, directory, task=task.summary())

    single = None
    if settings.single_policy and len(agent.expert_names) > 1:
        family = settings.expert.matched_single(agent.policy.n_parameters(), *agent.sizes)
        env = task.training_env(trainer.n_envs, seed)
        single = MoEAgent(env, family, Uniform(losses={}), **how)  # one has all the weight
        trainer.fit(single, directory / "single_policy", title="single policy", task=task.summary())

    tables = evaluate(task, agent, single, seed, shapley=settings.shapley)
    write_tables(tables, directory)
    notes = _notes(settings, tables)
    facts = _facts(settings, task) | {
        "parameters": f"{agent.policy.n_parameters():,}",
        "single policy": f"{single.policy.n_parameters():,} parameters" if single else "not trained",
    }
    write_report(tables, directory, facts, notes)
    return tables, notes


def run_seeds(settings: RunSettings, task: PreparedTask, directory: Path) -> None:
    """Train and evaluate several seeds, each in a run directory of its own, and say what they have in common."""
    from moe_trader.expert.seeds import Seeds
    from moe_trader.finite import TrainingError
    from moe_trader.option import ConfigError
    from moe_trader.terminal import speaking_of

    numbers = range(settings.seed, settings.seed + settings.trainer.parallel_seeds)
    if settings.device == "cpu" and not settings.trainer.compile:
        listed = f"range({numbers.start},{numbers.stop})"
        log.info("On a CPU seeds are trained in turn; moe-train -m 'seed=%s' trains one a core, without means", listed)
    beside, alone = Seeds(), dataclasses.replace(settings.trainer, parallel_seeds=1)
    done: dict[int, tuple[Tables, list[str]]] = {}

    def job(seed: int) -> None:
        mine = directory / f"seed_{seed}"
        save_as_of_seed(directory / ".hydra", mine / ".hydra", seed)
        with speaking_of(f"seed {seed}"):
            try:
                done[seed] = run_seed(dataclasses.replace(settings, seed=seed, trainer=alone), task, mine, beside)
            except ConfigError:  # not of this seed alone
                raise
            except TrainingError as error:  # a line says it all
                log.error("%s", error)
                raise
            except Exception:
                log.exception("This seed failed; what there is of it is in %s", mine)
                raise

    try:
        beside.run([functools.partial(job, seed) for seed in numbers])
    finally:
        if len(done) > 1:  # of those that came to their end
            _show_seeds({seed: done[seed] for seed in sorted(done)}, _facts(settings, task), directory)


def _show_seeds(done: Mapping[int, tuple[Tables, list[str]]], facts: dict[str, object], directory: Path) -> None:
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
        f"Evaluate one again:  moe-evaluate {shlex.quote(f'{where}/seed_{first}')}\n"
        f"Repeat:              moe-train rerun {shlex.quote(where)}"
    )


def _seen_by_gate_alone(settings: RunSettings) -> str:
    """Return the features that no expert sees, as text; of one expert, or a gate that reads regimes, there are none."""
    hidden = len(settings.expert.names()) > 1 and settings.gating.sight().of == "features"
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

    n = len(settings.expert.names())
    return {
        "market": task.market.name,
        "instruments": len(task.market.instruments),
        "experts": f"{n} {settings.expert.algorithm_name} expert{'s' if n > 1 else ''}",
        "gate": f"{type(settings.gating).__name__}; losses: {', '.join(settings.gating.losses) or 'none'}",
        "seen by the gate alone": _seen_by_gate_alone(settings) or "nothing",
        "training steps": f"{settings.trainer.total_timesteps:,}",
        "seed": settings.seed,
        "fill": settings.env.fill.replace("_", " "),
        "costs": describe_costs(task.rules.costs),
        "moe_trader": moe_trader.__version__,
    }


def _show(tables: Tables, directory: Path) -> None:
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
        f"Evaluate again:      moe-evaluate {where}\nRepeat:              moe-train rerun {where}"
    )


@hydra.main(version_base="1.3", config_path=config_directory(), config_name="train")
def _hydra_main(config: DictConfig) -> None:
    from moe_trader.rerun import rerun_report

    with run_directory() as directory:
        settings = run_settings(to_plain(config))
        run(settings, directory)
        if settings.rerun_of is not None:
            log.info("%s", rerun_report(Path(settings.rerun_of), directory))


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``moe-train``."""
    from moe_trader.rerun import rerun_arguments

    given = sys.argv[1:] if arguments is None else arguments
    for word in given:  # before Hydra writes the new config over that of the old run
        name, _, value = word.partition("=")
        if name == "hydra.run.dir" and holds_run(Path(value.strip("'\""))):
            sys.exit(USED.format(value))
    start(_hydra_main, rerun_arguments(given[1:]) if given[:1] == ["rerun"] else given)


if __name__ == "__main__":
    main()

"""Do gates specialise, and does it pay? All gates on two markets over several seeds, and what is asked of the default.

    python benchmarks/specialisation.py --seeds 5 --jobs 2 --json specialisation.json
    python benchmarks/specialisation.py --only gates --markets nasdaq --seeds 3 expert.count=6

Trains `moe-train` with the given overrides once for each market, gate and seed, and reads the files of its run
directories; a run that is there already is not repeated, so an interrupted benchmark goes on. Intervals are 95 %
t-intervals over seeds: prices stay the same, so they say how much training varies, not how much markets do.

claims    the default gate on the synthetic market, against what is asked of it
collapse  training from a gate that gives one expert everything (a bias of 8)
gates     a table of all gates: return, regret, effective experts, switch rate, cost of a training step
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from torch import nn

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, config_directory, run_settings
from moe_trader.evaluation.statistics import t_interval
from moe_trader.train import run

SPLIT = "test"
DEFAULT = "softmax"
GATES = sorted(path.stem for path in Path(config_directory(), "gating").glob("*.yaml"))
KNOWS_REGIMES = {"synthetic"}  # markets that `gating=oracle` can be trained on
BIAS = 8.0
Seeds = list[dict[str, float]]  # what one configuration measured, for each seed


def trained(market: str, gate: str, seed: int, given: argparse.Namespace) -> Path:
    """Train and evaluate unless that was done before; return the run directory."""
    directory: Path = given.output / "_".join([market, *given.overrides]) / gate / str(seed)
    if not (directory / "report.html").exists():
        shutil.rmtree(directory, ignore_errors=True)  # what an interrupted benchmark left
        chosen = [f"env={market}", f"gating={gate}", f"seed={seed}", f"single_policy={gate == DEFAULT}"]
        run(run_settings(compose([*chosen, *given.overrides])), directory)
    return directory


def measured(directory: Path) -> dict[str, float]:
    """Return what a run directory says of the test split."""
    experts = pd.read_csv(directory / "evaluation" / "experts.csv")
    chosen = experts[(experts["split"] == SPLIT) & (experts["instrument"] == "all")]
    found: dict[str, float] = chosen.set_index("strategy")["log_return"].to_dict()
    measures = pd.read_csv(directory / "evaluation" / "specialisation.csv")
    found |= measures[measures["split"] == SPLIT].set_index("measure")["value"].to_dict()
    regimes = pd.read_csv(directory / "activations" / "by_regime.csv").query(f"split == '{SPLIT}' and bars > 0")
    importance = (regimes["importance"] * regimes["bars"]).groupby(regimes["expert"]).sum()
    found["least_importance"] = float(importance.min() / importance.sum())
    return found


def costs(market: str, gates: Sequence[str], overrides: Sequence[str]) -> dict[str, np.ndarray]:
    """Return gate -> processor seconds of a training step, in five stretches of some 30,000 steps, taken in turns."""
    agents = {}
    for gate in gates:
        settings = run_settings(compose([f"env={market}", f"gating={gate}", *overrides]))
        env = settings.env.prepare(gate_input=settings.gating.gate_input()).training_env(settings.trainer.n_envs, 0)
        agents[gate] = MoEAgent(env, dataclasses.replace(settings.expert, target_kl=None), settings.gating, seed=0)
    spent: dict[str, list[float]] = {gate: [] for gate in gates}
    for _ in range(6):  # the first one warms up
        for gate, agent in agents.items():
            start = time.process_time()
            agent.learn(30_000)
            spent[gate].append((time.process_time() - start) / agent.algorithm.num_timesteps)
    return {gate: np.array(values[1:]) for gate, values in spent.items()}


def runs(market: str, gates: Sequence[str], given: argparse.Namespace) -> dict[str, Seeds]:
    """Return gate -> what each seed measured."""
    jobs = [(gate, seed) for gate in gates for seed in range(given.seeds)]
    parallel = joblib.Parallel(n_jobs=given.jobs)
    directories = parallel(joblib.delayed(trained)(market, gate, seed, given) for gate, seed in jobs)
    found: dict[str, Seeds] = {gate: [] for gate in gates}
    for (gate, _), directory in zip(jobs, directories, strict=True):
        found[gate].append(measured(directory))
    return found


def over_seeds(seeds: Seeds, figure: Callable[[dict[str, float]], float]) -> tuple[float, float]:
    """Return mean and half width of a figure's interval; seeds at which it does not exist are left out."""
    values = np.array([figure(one) for one in seeds])
    values = values[~np.isnan(values)]
    return t_interval(values) if len(values) else (float("nan"), float("nan"))


def claims(given: argparse.Namespace) -> dict[str, object]:
    """Print what is asked of the default gate beside what it does."""
    found = runs("synthetic", [DEFAULT, "oracle", "uniform"], given)
    default, oracle, uniform = found[DEFAULT], found["oracle"], found["uniform"]
    gaps = {
        "single policy of its size": [a["mixture"] - a["single_policy"] for a in default],
        "oracle gate": [b["mixture"] - a["mixture"] for a, b in zip(default, oracle, strict=True)],
        "uniform gate": [a["mixture"] - b["mixture"] for a, b in zip(default, uniform, strict=True)],
    }
    rows = {
        "share of the Bayes filter": ("at least 85 %", over_seeds(default, lambda a: a["mixture"] / a["bayes_filter"])),
        "single policy of its size, share": ("", over_seeds(default, lambda a: a["single_policy"] / a["bayes_filter"])),
        "mixture - single policy": ("0 or more", t_interval(np.array(gaps["single policy of its size"]))),
        "lost by shuffling the gate": (
            "at least 40 %",
            over_seeds(default, lambda a: 1 - a["shuffled_gate"] / a["mixture"]),
        ),
        "least importance": ("above 5 %", over_seeds(default, lambda a: a["least_importance"])),
        "regret share": ("below 25 %", over_seeds(default, lambda a: a["regret_share"])),
        "regret share of the Bayes filter": ("", over_seeds(default, filter_regret_share)),
        "oracle gate - default": ("above 0", t_interval(np.array(gaps["oracle gate"]))),
        "default - uniform gate": ("above 0", t_interval(np.array(gaps["uniform gate"]))),
    }
    print(f"\n| synthetic, {given.seeds} seeds | asked | measured |\n|---|---|---|")
    for name, (asked, (mean, half)) in rows.items():
        print(f"| {name} | {asked} | {mean:+.3f} ± {half:.3f} |")
    return {name: {"mean": mean, "half_width": half} for name, (_, (mean, half)) in rows.items()} | {"by_seed": default}


def filter_regret_share(one: dict[str, float]) -> float:
    """Return the regret share of the Bayes filter against the same oracle: what finding the regime costs anybody."""
    headroom = (one["oracle_routing"] - one["mixture"]) / one["regret_share"]
    return (one["oracle_routing"] - one["bayes_filter"]) / headroom


def recovered(seed: int, overrides: Sequence[str]) -> float:
    """Train from a collapsed gate; return the effective number of experts at the end."""
    settings = run_settings(compose(["env=synthetic", f"seed={seed}", *overrides]))
    task, trainer = settings.env.prepare(), settings.trainer
    env = task.training_env(trainer.n_envs, seed, trainer.cost_multiple)
    agent = MoEAgent(env, settings.expert, settings.gating, seed=seed)
    scores = [module for module in agent.model.gate.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.constant_(scores.bias[:1], BIAS)
    return agent.learn(trainer.steps(task, settings.expert)).metrics["mixture/effective_experts"]


def collapse(given: argparse.Namespace) -> dict[str, object]:
    """Print how many experts work again after training from a collapsed start."""
    jobs = (joblib.delayed(recovered)(seed, given.overrides) for seed in range(given.seeds))
    found = joblib.Parallel(n_jobs=given.jobs)(jobs)
    mean, half = t_interval(np.array(found))
    shown = ", ".join(f"{value:.2f}" for value in found)
    print(f"\nEffective experts from a gate bias of {BIAS:g} (asked: 3): {mean:.2f} ± {half:.2f} ({shown})")
    return {"by_seed": found, "mean": mean, "half_width": half}


def cell(mean: float, half: float) -> str:
    """Return an interval as text: without its width if one seed has it, empty if none has."""
    if np.isnan(mean):
        return ""
    return f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"


def gates(given: argparse.Namespace) -> dict[str, object]:
    """Print a table of all gates for each market."""
    written: dict[str, object] = {}
    for market in given.markets:
        names = [gate for gate in GATES if gate != "oracle" or market in KNOWS_REGIMES]
        found = runs(market, names, given)
        spent = costs(market, names, given.overrides)
        figures = {"log return": "mixture", "regret share": "regret_share", "effective experts": "effective_experts"}
        figures |= {"switch rate": "switch_rate"}
        print(f"\n| {market}, {given.seeds} seeds | {' | '.join(figures)} | cost of a step |")
        print("|---" * (len(figures) + 2) + "|")
        for gate, seeds in found.items():
            cells = [over_seeds(seeds, lambda one, key=key: one.get(key, float("nan"))) for key in figures.values()]
            shown = " | ".join(cell(mean, half) for mean, half in cells)
            print(f"| `{gate}` | {shown} | {np.median(spent[gate] / spent[DEFAULT]):.2f} x |")
        written[market] = {
            "by_seed": found,
            "seconds of a step": {gate: float(np.median(values)) for gate, values in spent.items()},
        }
    return written


PARTS = {"claims": claims, "collapse": collapse, "gates": gates}


def main() -> None:
    """Train, read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds: 0, 1, ...")
    parser.add_argument("--markets", nargs="+", default=["synthetic", "nasdaq"], help="of the table of all gates")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/specialisation"))
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("overrides", nargs="*", help="as for moe-train")
    given = parser.parse_args()
    figures = {part: PARTS[part](given) for part in given.only}
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Last weights, the best on validation, and ensembles of both, walked forward on three markets.

Each (market, fold, seed) is trained once: the bundle keeps the weights that were best on validation, and the newest
checkpoint the last ones, because validation changes nothing of training. All of them, and two ensembles over the seeds
of either, are then backtested on validation and test. Folds are stitched in time, and stocks are held as one portfolio
of equal weights.

Intervals over time are a stationary bootstrap of all strategies together. Intervals over seeds are Student's: of an
ensemble they hold the ensemble fixed, and vary the seed that it is compared with. The validation columns of the best
weights are flattered, because these were chosen there. Settings are chosen by validation; test is for reading once.

Finished runs and backtests are skipped, killed ones are gone on with: repeat the command.

    python benchmarks/selection.py
    python benchmarks/selection.py --markets nasdaq --folds 0 --out /tmp/a --result /tmp/a trainer.total_timesteps=16384
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, run_settings
from moe_trader.evaluation.ensembles import backtest_together
from moe_trader.evaluation.metrics import sharpe_of_sums
from moe_trader.evaluation.statistics import intervals_of_sums, t_interval
from moe_trader.run_files import BUNDLE, CHECKPOINTS
from moe_trader.trainer.checkpoint import Checkpoints
from moe_trader.trainer.joining import joined

HERE = Path(__file__).resolve().parent
MARKETS = ("stocks", "nasdaq", "sp500")  # the longest first
FOLDS = range(6)
SPLITS = ("validation", "test")
HOW = ("trainer.resume=auto", "trainer.select=best_validation", "single_policy=false", "shapley=false")
WEIGHTS = ("last", "best")
COMPARED = [  # strategy, and what it is compared with
    ("best", "last"),
    *((f"{rule}_of_{weights}", weights) for weights in WEIGHTS for rule in ("mean", "density")),
    ("mean_of_best", "last"),
    ("mean_of_last", "buy_and_hold"),
    ("mean_of_best", "buy_and_hold"),
]


def train(run: Path, overrides: list[str]) -> None:
    """Train a run, go on with one that was killed, or leave a finished one as it is."""
    command = [sys.executable, "-m", "moe_trader", *overrides, f"hydra.run.dir={run}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{said}")


def weights_of(run: Path) -> dict[str, MoEAgent]:
    """Return the agents of a run: with its last weights, and with those that were best on validation."""
    agents = {name: MoEAgent.load(run / BUNDLE) for name in WEIGHTS}
    newest = Checkpoints(run / CHECKPOINTS).newest()
    assert newest is not None, run
    agents["last"].model.load_state_dict(newest.part("learner.model."))
    return agents


def carry_out(market: str, fold: int, seeds: int, out: Path, overrides: list[str]) -> str:
    """Train a fold with every seed, backtest all strategies, and keep the portfolio's returns; return a line."""
    began, place = time.monotonic(), out / market / f"fold_{fold}"
    chosen = [f"env={market}", "env/split=walk_forward", f"env.split.fold={fold}", *HOW, *overrides]
    runs = [place / f"seed_{seed}" for seed in range(seeds)]
    for seed, run in enumerate(runs):
        train(run, [*chosen, f"seed={seed}"])
    trained, kept = time.monotonic() - began, place / f"returns_{seeds}.npz"
    if not kept.is_file() or kept.stat().st_mtime < max((run / BUNDLE).stat().st_mtime for run in runs):
        torch.set_num_threads(1)
        settings = run_settings(compose(chosen))
        task = settings.env.prepare(gate_input=settings.gating.gate_input())
        found = [weights_of(run) for run in runs]
        members = {f"{name}_{seed}": agents[name] for name in WEIGHTS for seed, agents in enumerate(found)}
        ensembles = {
            f"{rule}_of_{name}": joined({f"seed_{seed}": agents[name] for seed, agents in enumerate(found)}, rule)
            for name in WEIGHTS
            for rule in ("mean", "density")
        }
        arrays = {}
        for split in SPLITS:
            trace = backtest_together(task, split, members, ensembles, seed=0)
            arrays |= {f"{split}.{name}": values for name, values in portfolio(trace).items()}
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, **arrays)
        partial.replace(kept)
    whole = time.monotonic() - began
    return f"{market}, fold {fold}: {trained:.0f} s of training, {whole - trained:.0f} s of backtests"


def portfolio(trace) -> dict[str, np.ndarray]:
    """Return each strategy's simple returns in a portfolio of equal weights over the instruments that have a bar."""
    pooling, n = trace.pooling, len(trace.instruments)
    there = pooling.instrument_rows(np.ones((len(trace.gate), n)))
    found = {"bars_per_year": np.array(pooling.bars_per_year.mean())}
    for s, strategy in enumerate(trace.strategies):
        returns = np.expm1(pooling.instrument_rows(trace.reward[:, s]))
        found[strategy.name] = (returns * there).sum(1) / there.sum(1)
    return found


def summary(folds: list[dict[str, np.ndarray]], split: str, seeds: int) -> dict[str, object]:
    """Return the Sharpe ratios of the stitched folds, and their paired differences with both intervals."""
    names = [name.partition(".")[2] for name in folds[0] if name.startswith(split)]
    names.remove("bars_per_year")
    bars_per_year = float(np.mean([fold[f"{split}.bars_per_year"] for fold in folds]))
    series = np.stack([np.concatenate([fold[f"{split}.{name}"] for fold in folds]) for name in names], axis=1)
    groups = {name: [f"{name}_{seed}" for seed in range(seeds)] for name in WEIGHTS}
    groups |= {name: [name] for name in names if not name.startswith(tuple(f"{one}_" for one in WEIGHTS))}
    place = {name: [names.index(one) for one in members] for name, members in groups.items()}

    def sharpes(sums: np.ndarray) -> np.ndarray:
        return sharpe_of_sums(sums[0], sums[1 : 1 + len(names)], sums[1 + len(names) :], bars_per_year)

    def measures(sums: np.ndarray) -> np.ndarray:
        mean = {name: sharpes(sums)[at].mean() for name, at in place.items()}
        return np.array([*mean.values(), *(mean[one] - mean[other] for one, other in COMPARED)])

    rows = np.concatenate([np.ones((len(series), 1)), series, np.square(series)], axis=1)
    low, high = intervals_of_sums(rows, measures, 0, float(np.sqrt(len(series))))
    each, found = sharpes(rows.sum(0)), {}
    for at, (name, members) in enumerate(place.items()):
        row = {"sharpe": float(each[members].mean()), "bootstrap": [float(low[at]), float(high[at])]}
        row["log_return_a_year"] = float(np.log1p(series[:, members]).mean() * bars_per_year)
        found[name] = row | {"sharpe_of_each_seed": each[members].tolist()}
    gaps = {}
    for at, (one, other) in enumerate(COMPARED, start=len(place)):
        of_seeds = np.broadcast_arrays(each[place[one]], each[place[other]])
        mean, half = t_interval(of_seeds[0] - of_seeds[1])
        over_seeds = None if len(of_seeds[0]) < 2 else [mean - half, mean + half]
        gaps[f"{one} - {other}"] = {
            "sharpe": mean,
            "over_seeds": over_seeds,
            "bootstrap": [float(low[at]), float(high[at])],
        }
    return {"bars": len(series), "strategies": found, "differences": gaps}


def markdown(results: dict[str, dict[str, dict]]) -> str:
    """Return the tables as text."""
    lines = []
    for market, by_split in results.items():
        bars = ", ".join(f"{found['bars']:,} bars of {split}" for split, found in by_split.items())
        lines += [f"**{market}**, {bars}", "", "| Sharpe ratio | validation | test |", "|---|---|---|"]
        for name in by_split["test"]["strategies"]:
            cells = []
            for split in SPLITS:
                row = by_split[split]["strategies"][name]
                spread = row["sharpe_of_each_seed"]
                seeds = f", seeds {min(spread):+.2f} to {max(spread):+.2f}" if len(spread) > 1 else ""
                cells.append(f"{row['sharpe']:+.2f} {interval(row['bootstrap'])}{seeds}")
            lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
        head = "| difference | validation, over time | over seeds | test, over time | over seeds |"
        lines += ["", head, "|---|---|---|---|---|"]
        for name in by_split["test"]["differences"]:
            cells = []
            for split in SPLITS:
                row = by_split[split]["differences"][name]
                over_seeds = "-" if row["over_seeds"] is None else interval(row["over_seeds"])
                cells += [f"{row['sharpe']:+.2f} {interval(row['bootstrap'])}", over_seeds]
            lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def interval(ends: list[float]) -> str:
    """Return an interval as text."""
    return f"[{ends[0]:+.2f}, {ends[1]:+.2f}]"


def main() -> None:
    """Train and backtest every fold that is not done, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of moe-train for every run")
    parser.add_argument("--markets", nargs="+", default=MARKETS, choices=MARKETS)
    parser.add_argument("--folds", nargs="+", type=int, default=list(FOLDS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE.parent / "outputs" / "selection", help="of the runs")
    parser.add_argument("--result", type=Path, default=HERE / "selection", help="of the tables: PATH.md and PATH.json")
    given = parser.parse_intermixed_args()
    jobs = [(market, fold) for market in given.markets for fold in sorted(given.folds, reverse=True)]
    out = given.out.resolve()
    with ProcessPoolExecutor(given.processes, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(carry_out, market, fold, given.seeds, out, given.overrides) for market, fold in jobs]
        for number, done in enumerate(as_completed(waiting), start=1):
            print(f"{number} of {len(jobs)}: {done.result()}", flush=True)
    results: dict[str, dict[str, dict]] = {}
    for market in given.markets:
        files = [out / market / f"fold_{fold}" / f"returns_{given.seeds}.npz" for fold in sorted(given.folds)]
        folds = [dict(np.load(file)) for file in files]
        results[market] = {split: summary(folds, split, given.seeds) for split in SPLITS}
    text = markdown(results)
    given.result.with_suffix(".md").write_text(text, encoding="utf-8")
    given.result.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\n{text}")


if __name__ == "__main__":
    main()

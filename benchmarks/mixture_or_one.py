"""Does a mixture of experts trade better than one policy of the same size? Train both over several seeds and compare.

    python benchmarks/mixture_or_one.py --seeds 5 --json synthetic.json env=synthetic
    python benchmarks/mixture_or_one.py --seeds 5 --json nasdaq.json env=nasdaq

Trains `moe-train` with the given overrides once for each seed and prints every strategy's log return on the test split,
and mixture minus strategy paired seed by seed; on the synthetic market also the share of what the Bayes-filter trader
earns, which knows the market's true parameters, not its regime. Intervals are 95 % t-intervals over seeds: prices stay
the same, so they say how much training varies, not how much markets do. Experts are matched across seeds by the regimes
they act in (`moe_trader/evaluation/alignment.py`): the first expert of one seed need not be the first of another.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from moe_trader.config import compose, run_settings
from moe_trader.evaluation.alignment import expert_names
from moe_trader.train import run

REFERENCE = "bayes_filter"


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return mean and half width of the 95 % t-interval."""
    if len(values) < 2:
        return float(values.mean()), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def named(names: dict[str, str]) -> Callable[[str], str]:
    """Return what renames the experts in a strategy's name, ``without_expert_1`` too."""
    return lambda strategy: re.sub(
        "|".join(sorted(names, key=len, reverse=True)), lambda found: names[found[0]], strategy
    )


def main() -> None:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds: 0, 1, ...")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"), help="run directories")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("overrides", nargs="*", help="as for moe-train")
    given = parser.parse_args()

    columns, by_regime = [], []
    for seed in range(given.seeds):
        directory = given.output / "_".join([*given.overrides, f"seed={seed}"])
        run(run_settings(compose([*given.overrides, f"seed={seed}"])), directory)
        experts = pd.read_csv(directory / "evaluation" / "experts.csv")
        test = experts[(experts["split"] == "test") & (experts["instrument"] == "all")]
        columns.append(test.set_index("strategy")["log_return"])
        by_regime.append(pd.read_csv(directory / "activations" / "by_regime.csv"))
    matched = expert_names(by_regime, "validation")
    columns = [column.rename(index=named(names)) for column, names in zip(columns, matched, strict=True)]
    table = pd.concat(columns, axis=1, keys=range(given.seeds))

    known = REFERENCE in table.index
    print(f"\nLog return on the test split, {given.seeds} seeds")
    print(
        f"{'':18s}{'log return':>18s}{'mixture minus it':>22s}"
        + (f"{'share of the Bayes filter':>28s}" if known else "")
    )
    figures: dict[str, dict[str, object]] = {}
    for strategy, row in table.iterrows():
        measured = {"log_return": row, "mixture_minus": table.loc["mixture"] - row}
        if known:
            measured["share"] = row / table.loc[REFERENCE]
        found = {name: interval(values.to_numpy()) for name, values in measured.items()}
        figures[str(strategy)] = {name: {"mean": m, "half_width": h} for name, (m, h) in found.items()}
        figures[str(strategy)]["by_seed"] = row.tolist()
        line = f"{strategy:18s}{found['log_return'][0]:+10.3f} ± {found['log_return'][1]:.3f}"
        line += f"{found['mixture_minus'][0]:+14.3f} ± {found['mixture_minus'][1]:.3f}"
        print(line + (f"{found['share'][0]:+20.1%} ± {found['share'][1]:.1%}" if known else ""))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

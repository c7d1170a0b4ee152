"""Measure what share of what can be earned on the synthetic market the mixture earns, and what one policy does.

    python benchmarks/synthetic.py --seeds 5 --json synthetic.json

Trains `moe-train env=synthetic` once for each seed and prints, for every strategy, the log return on series that
training never saw, as a share of what the Bayes-filter trader earns on the same series. The Bayes filter knows the
market's true parameters, not its regime. Intervals are 95 % t-intervals over seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from moe_trader.config import compose, run_settings
from moe_trader.train import run

REFERENCE = "bayes_filter"


def main() -> None:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds: 0, 1, ...")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/synthetic"), help="run directories")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("overrides", nargs="*", help="further overrides, as for moe-train")
    given = parser.parse_args()

    shares = []
    for seed in range(given.seeds):
        directory = given.output / f"seed_{seed}"
        run(run_settings(compose(["env=synthetic", f"seed={seed}", *given.overrides])), directory)
        experts = pd.read_csv(directory / "evaluation" / "experts.csv")
        test = experts[(experts["split"] == "test") & (experts["instrument"] == "all")].set_index("strategy")
        shares.append(test["log_return"] / test["log_return"][REFERENCE])
    table = pd.concat(shares, axis=1, keys=range(given.seeds))

    figures = {}
    print(f"\nShare of the Bayes filter's log return on unseen series, {given.seeds} seeds")
    for strategy, row in table.iterrows():
        values = row.to_numpy()
        half = (
            stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        )
        figures[str(strategy)] = {"mean": values.mean(), "half_width": half, "seeds": values.tolist()}
        print(f"{strategy:20s} {values.mean():+8.1%} +- {half:.1%}   {' '.join(f'{value:+.0%}' for value in values)}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

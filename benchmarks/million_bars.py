"""Measure how long one million bars of csv take from the file to the first step of 64 environments, and the memory.

    python benchmarks/million_bars.py --json million_bars.json

The file (minutes of a random walk, 60 MB) is made first, by another process; it costs neither time nor memory here.
`seconds` counts from before the config is composed, Python's imports apart (`import_seconds`), to after the first step.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARS = 1_000_000

WRITE = """
import sys
import numpy as np
import pyarrow as pa
from pyarrow import csv

rng = np.random.default_rng(0)
n = int(sys.argv[2])
close = 100 * np.exp(np.cumsum(rng.normal(0, 5e-4, n)))
opening = np.append(100.0, close[:-1]) * np.exp(rng.normal(0, 1e-4, n))
time = np.datetime64("2015-01-01T00:00:00") + np.arange(n) * np.timedelta64(60, "s")
columns = {
    "time": np.datetime_as_string(time),
    "open": opening,
    "high": np.maximum(opening, close) * 1.0002,
    "low": np.minimum(opening, close) * 0.9998,
    "close": close,
}
table = {name: column if name == "time" else column.round(4) for name, column in columns.items()}
csv.write_csv(pa.table({**table, "volume": rng.integers(1, 10**6, n)}), sys.argv[1])
"""


def measure(path: Path) -> dict[str, float]:
    """Load the file, compute the features and step once; return the figures."""
    began = time.perf_counter()
    import numpy as np

    from moe_trader.config import compose, run_settings
    from moe_trader.env import trading_vec_env  # noqa: F401 - with SB3 and PyTorch, as a run has them

    imported = time.perf_counter()
    task = run_settings(compose(["env=csv", f"env.path={path}"])).env
    prepared = task.prepare()
    ready = time.perf_counter()
    env = prepared.training_env(64, seed=0)
    env.reset()
    env.step(np.zeros(64, dtype=np.int64))
    stepped = time.perf_counter()
    return {
        "bars": sum(len(one) for one in prepared.market.instruments),
        "import_seconds": imported - began,
        "prepare_seconds": ready - imported,
        "first_step_seconds": stepped - ready,
        "seconds": stepped - imported,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Make the file, measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--bars", type=int, default=BARS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        subprocess.run([sys.executable, "-c", WRITE, path, str(args.bars)], check=True)
        figures = measure(path)
    for name, value in figures.items():
        print(f"{name:20} {value:.2f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

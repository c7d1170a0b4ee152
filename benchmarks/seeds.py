"""How much faster two cores train four seeds than one does: ``seeds_at_once=2`` against 1, in turn, and the same bits.

Other work on the machine distorts the ratio; the load is printed. A seed should take a minute or more: each process
loads PyTorch first.

    python benchmarks/seeds.py
    python benchmarks/seeds.py --rounds 3 env=nasdaq trainer.total_timesteps=1_000_000
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from moe_trader.run_files import COMPARED, SEEDS_TABLES, seed_directory

SEEDS, AT_ONCE = 4, 2
OVERRIDES = ("env=synthetic", "trainer.total_timesteps=800_000")
ROW = "| {:>5} | {:>14} | {:>14} | {:>8} | {:>5} | {:>9} |"


def processor() -> str:
    """Return the processor's name, where Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {len(os.sched_getaffinity(0))} usable cores"


def train(directory: Path, at_once: int, overrides: list[str]) -> float:
    """Train the seeds, and return the seconds of the whole command."""
    command = [sys.executable, "-m", "moe_trader", f"seeds={SEEDS}", f"seeds_at_once={at_once}", *overrides]
    began = time.monotonic()
    subprocess.run([*command, f"hydra.run.dir={directory}"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def fingerprint(run: Path) -> str:
    """Return the sha256 over weights and tables of all seeds, and over their means."""
    files = [seed_directory(run, seed) / file for seed in range(SEEDS) for file in COMPARED.values()]
    files += [run / file for file in SEEDS_TABLES.values()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def main() -> None:
    """Print a row for each round, and the median ratio; exit status 1 where the bits differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", default=OVERRIDES, help="overrides of moe-train")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    print(f"{processor()}; {SEEDS} seeds, {' '.join(given.overrides)}")
    print(ROW.format("round", "1 at once", f"{AT_ONCE} at once", "a seed", "ratio", "load"))
    print(ROW.format(*(["---"] * 6)))
    ratios, prints = [], set()
    with tempfile.TemporaryDirectory() as name:
        for number in range(given.rounds):
            load = os.getloadavg()[0]
            seconds = {}
            for at_once in (1, AT_ONCE):
                run = Path(name) / f"{number}_{at_once}"
                seconds[at_once] = train(run, at_once, list(given.overrides))
                prints.add(fingerprint(run))
            ratios.append(seconds[1] / seconds[AT_ONCE])
            times = (f"{one:.0f} s" for one in (seconds[1], seconds[AT_ONCE], seconds[1] / SEEDS))
            print(ROW.format(number + 1, *times, f"{ratios[-1]:.2f}", f"{load:.1f}"), flush=True)
    same = "differ" if len(prints) > 1 else "are equal"
    print(f"Median ratio {statistics.median(ratios):.2f}; weights and tables {same}")
    sys.exit(len(prints) > 1)


if __name__ == "__main__":
    main()

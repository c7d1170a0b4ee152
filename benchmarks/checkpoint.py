"""What a checkpoint costs: size, seconds of a write, and the share of a run's time at the default interval.

python benchmarks/checkpoint.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, run_settings
from moe_trader.trainer.training import Training

CASES = {
    "the default run": [],
    "16 experts of [256, 256]": ["expert.count=16", "expert.net_arch=[256,256]"],
}
UPDATES, WRITES = 2, 15


def main() -> None:
    """Train for some updates, write checkpoints, and print a line for each case."""
    print(f"{'':26} {'MB':>6} {'seconds, median':>16} {'largest':>8} {'of 60 s':>8}")
    for name, overrides in CASES.items():
        settings = run_settings(compose(overrides))
        torch.set_num_threads(settings.threads)
        trainer = settings.trainer
        env = settings.env.prepare(gate_input=settings.gating.gate_input()).training_env(trainer.n_envs, 0)
        agent = MoEAgent(env, settings.expert, settings.gating, seed=0)
        with tempfile.TemporaryDirectory(dir=".") as place:
            seconds = written(agent, Path(place), UPDATES * trainer.n_envs * settings.expert.n_steps)
            newest = max(Path(place, "checkpoint").iterdir())
            size = sum(file.stat().st_size for file in newest.iterdir()) / 1e6
        middle, largest = statistics.median(seconds), max(seconds)
        share = middle / trainer.checkpoint_seconds
        print(f"{name:26} {size:6.1f} {middle:16.3f} {largest:8.3f} {share:8.2%}", flush=True)


def written(agent: MoEAgent, directory: Path, steps: int) -> list[float]:
    """Train an agent, and return how long each of several writes of a checkpoint took."""
    seconds: list[float] = []
    write = Training._write_checkpoint

    def timed(training: Training) -> None:
        for _ in range(WRITES - len(seconds)):
            training._saved_at = None  # of the same step once more
            began = time.perf_counter()
            write(training)
            seconds.append(time.perf_counter() - began)

    Training._write_checkpoint = timed
    try:
        trainer = run_settings(compose([])).trainer
        trainer.fit(agent, directory, total_timesteps=steps)
    finally:
        Training._write_checkpoint = write
    return seconds


if __name__ == "__main__":
    main()

"""What several seeds at once gain, and what `torch.compile` does, beside this package's own compiled code.

    python benchmarks/seeds.py --json seeds.json
    python benchmarks/seeds.py --device cuda

compile   updates by `torch.compile` against the default, at three sizes of minibatch, and what compiling costs at first
seeds     1, 4 and 16 seeds at once (`trainer.parallel_seeds`) by PyTorch, against the same one after the other, and on
          a CPU against this package's compiled code

K = 4 joint PPO, experts [64, 64], window 32 x 8, 64 lanes, 10 epochs, minibatches of 1024 unless said; one thread.
Contenders take turns within a round; ratios are taken round by round and their median is shown. On a GPU seconds are
those of the clock, on a CPU those of the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from training import LANES, SETTINGS, STEPS, TASK, Figures

from moe_trader.agent import MoEAgent
from moe_trader.expert.seeds import Seeds

UPDATES = 2


def fresh(seed: int, device: str, batch: int = 1024, compiles: bool = False, beside: Seeds | None = None) -> MoEAgent:
    """Return a mixture of four; updates are never stopped early."""
    expert = dataclasses.replace(SETTINGS.expert, batch_size=batch, n_steps=STEPS, n_epochs=10, target_kl=None)
    env = TASK.training_env(LANES, seed)
    given = {"device": device, "compiles": compiles, "beside": beside}
    return MoEAgent(env, expert, SETTINGS.gating, seed=seed, **given)  # type: ignore[arg-type]


def seconds(device: str, work: Callable[[], object]) -> float:
    """Return how long something takes."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def compile_(device: str, rounds: int) -> Figures:
    """Compare updates by `torch.compile`, and say what the first one costs in a process with empty caches."""
    figures = {}
    for batch in (64, 256, 1024):
        agents = {"default": fresh(0, device, batch), "torch.compile": fresh(0, device, batch, compiles=True)}
        for agent in agents.values():
            agent.learn(1)  # warms up
        spent = {name: [] for name in agents}
        for _ in range(rounds):
            for name, agent in agents.items():
                spent[name].append(seconds(device, lambda agent=agent: agent.learn(UPDATES * LANES * STEPS)))
        ratio = float(np.median(np.divide(spent["torch.compile"], spent["default"])))
        with tempfile.TemporaryDirectory() as cache:
            cold = subprocess.run(
                [sys.executable, __file__, "--device", device, "--cold", str(batch)],
                env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache},
                check=True,
                capture_output=True,
                text=True,
            )
        figures[f"minibatch {batch}, default over torch.compile"] = ratio
        figures[f"minibatch {batch}, seconds of compiling"] = float(cold.stdout)
        print(f"minibatch {batch}: default {ratio:.2f} x torch.compile, which compiles for {float(cold.stdout):.0f} s")
    return figures


def cold(device: str, batch: int) -> None:
    """Print how much longer making an agent and its first rollout and update take than the second, by the clock."""
    start = time.perf_counter()
    agent = fresh(0, device, batch, compiles=True)
    agent.learn(1)
    first = time.perf_counter()
    agent.learn(1)
    print(2 * first - start - time.perf_counter())


def seeds(device: str, rounds: int) -> Figures:
    """Compare seeds at once with seeds one after the other; steps of all seeds together, without making the agents."""

    def at_once(n: int) -> Callable[[], object]:
        beside = Seeds(always=True)
        agents = [fresh(seed, device, beside=beside) for seed in range(n)]
        return lambda: beside.run([lambda agent=agent: agent.learn(UPDATES * LANES * STEPS) for agent in agents])

    def in_turn(n: int) -> Callable[[], object]:
        alone = [at_once(1) for _ in range(n)]
        return lambda: [one() for one in alone]

    def ours(n: int) -> Callable[[], object]:
        agents = [fresh(seed, device) for seed in range(n)]
        return lambda: [agent.learn(UPDATES * LANES * STEPS) for agent in agents]

    ways = {"at once": at_once, "in turn": in_turn} | ({"compiled code of ours": ours} if device == "cpu" else {})
    figures = {}
    for n in (1, 4, 16):
        work = {name: way(n) for name, way in ways.items()}
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):  # the first one warms up
            for name, learn in work.items():
                took = seconds(device, learn)
                if number:
                    spent[name].append(took)
        for name, values in spent.items():
            speed = n * UPDATES * LANES * STEPS / float(np.median(values))
            figures[f"{n} seeds, at once over {name}"] = ratio = float(np.median(np.divide(values, spent["at once"])))
            print(f"{n:2d} seeds {name:24s}{speed:12,.0f} steps/s    at once is {ratio:5.2f} x", flush=True)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--cold", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.cold:
        cold(given.device, given.cold)
        return
    figures: Figures = {}
    for part in given.only:
        figures |= PARTS[part](given.device, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


PARTS = {"compile": compile_, "seeds": seeds}

if __name__ == "__main__":
    main()

"""How fast a mixture trains, beside Stable-Baselines3 and beside the plain way of writing it.

    pip install --no-deps gym-anytrading gym-trading-env finrl
    python benchmarks/training.py --json training.json            # all of it, half an hour
    python benchmarks/training.py --only update experts           # some of it
    python benchmarks/training.py --against benchmarks/training.json

update      K = 4 joint PPO, experts [64, 64], window 32 x 8, 64 lanes, 10 epochs, at three sizes of minibatch, against
            SB3's PPO with one policy of an expert's size, with one of the mixture's number of parameters, and against
            the mixture in plain PyTorch (`kernels=off`)
parts       where the time of a minibatch goes
experts     what K experts cost, and the share reached of what their arithmetic needs at the fastest product there is
run         the default mixture against SB3's PPO at its defaults on eight copies of each public environment
memory      a rollout of a million steps
evaluation  every strategy and coalition of an evaluation over 100,000 bars, in one long series and in eight
curves      whether the fast way learns what the plain way learns: the same settings and seeds, as many as rounds
quality     how long learning takes to 80 % of the Bayes filter's return, against SB3's PPO of as many parameters
defaults    the same for other lanes, epochs, learning rates and minibatches, and what is earned at the end

One thread; contenders take turns within a round, ratios are taken round by round and their median is shown. Times are
those of the processor, so that what else runs on the machine weighs little. `--against` prints every ratio beside the
one of an earlier file, and fails if one fell by more than a fifth.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import FEATURES, PEERS, WINDOW
from profile_update import profile_update
from scipy import stats
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, run_settings
from moe_trader.device import Kernels
from moe_trader.env.lanes import Lanes
from moe_trader.env.task import PreparedTask
from moe_trader.evaluation.routing import best_experts
from moe_trader.evaluation.walk import walk
from moe_trader.fast.product import multiply

LANES, STEPS, EPOCHS = 64, 64, 10
SETTINGS = run_settings(compose([*FEATURES, f"env.window={WINDOW}"]))
TASK = SETTINGS.env.prepare()
Figures = dict[str, float]


def mixture(batch: int, count: int = 4, kernels: Kernels = "auto", **changes: int) -> MoEAgent:
    """Return a fresh mixture; updates are never stopped early."""
    given = {"batch_size": batch, "count": count, "n_steps": STEPS, "n_epochs": EPOCHS, "target_kl": None, **changes}
    expert = dataclasses.replace(SETTINGS.expert, **given)  # type: ignore[arg-type]
    return MoEAgent(TASK.training_env(LANES, 0), expert, SETTINGS.gating, seed=0, kernels=kernels)


def sb3(batch: int, width: int) -> PPO:
    """Return SB3's own PPO on the same lanes."""
    arch = {"net_arch": [width, width]}
    env = TASK.training_env(LANES, 0)
    given = {"n_steps": STEPS, "batch_size": batch, "n_epochs": EPOCHS, "policy_kwargs": arch}
    return PPO("MlpPolicy", env, device="cpu", seed=0, **given)


def speeds(contenders: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, np.ndarray]:
    """Return steps per second of every contender in every round; a contender says how many steps it has made."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):  # the first one warms up
        for name, contender in contenders.items():
            start = time.process_time()
            steps = contender()
            if number:
                found[name].append(steps / (time.process_time() - start))
    return {name: np.array(values) for name, values in found.items()}


def learner(agent: MoEAgent | PPO, steps: int) -> Callable[[], int]:
    """Return a round of learning; SB3 counts from zero in every call of `learn`."""
    algorithm = agent if isinstance(agent, PPO) else agent.algorithm

    def round_() -> int:
        agent.learn(steps)
        return algorithm.num_timesteps

    return round_


def compared(found: Mapping[str, np.ndarray], ours: str, prefix: str = "") -> Figures:
    """Print the speeds and return the median ratios of ours over each."""
    figures = {}
    for name, values in found.items():
        line = f"{prefix + name:44s}{np.median(values):14,.0f} steps/s"
        if name != ours:
            figures[f"{prefix}over {name}"] = float(np.median(found[ours] / values))
            line += f"    ours is {figures[f'{prefix}over {name}']:6.2f} x"
        print(line, flush=True)
    return figures


def update(rounds: int) -> Figures:
    """Time rollout and update together, at three sizes of minibatch."""
    probe = mixture(64)
    wide = SETTINGS.expert.parameter_matched(probe.model).net_arch[0]
    figures = {}
    for batch in (64, 256, 1024):
        steps = LANES * STEPS * max(1, batch // 256)
        contenders = {
            "mixture of four": learner(mixture(batch), steps),
            "SB3, one policy [64, 64]": learner(sb3(batch, 64), steps),
            f"SB3, one policy [{wide}, {wide}]": learner(sb3(batch, wide), steps),
            "mixture of four, plain PyTorch": learner(mixture(batch, kernels="off"), steps),
        }
        figures |= compared(speeds(contenders, rounds), "mixture of four", f"minibatch {batch}, ")
    return figures


def parts(rounds: int) -> Figures:
    """Show where the time of a minibatch goes, at three sizes of it."""
    spent = {}
    for batch in (64, 256, 1024):
        agent = mixture(batch)
        agent.learn(LANES * STEPS)  # warms up
        spent[batch] = profile_update(agent, LANES * STEPS * max(1, batch // 128) * rounds)
    print(f"{'minibatch of':44s}" + "".join(f"{batch:10d}" for batch in spent))
    figures = {}
    for name in sorted(spent[64], key=lambda name: -spent[64][name]):
        shares = {batch: found[name] / sum(found.values()) for batch, found in spent.items()}
        print(f"{name:44s}" + "".join(f"{share:10.0%}" for share in shares.values()))
        figures |= {f"minibatch {batch}, share of {name}": share for batch, share in shares.items()}
    print(f"{'milliseconds':44s}" + "".join(f"{sum(found.values()):10.2f}" for found in spent.values()))
    return figures


def experts(rounds: int) -> Figures:
    """Measure what K experts cost at minibatch 1024, and how near that comes to the arithmetic they need."""
    a = torch.randn(1024, 1024)
    ways = {"PyTorch's product": torch.mm, "our product": our_product}
    found = speeds({name: lambda way=way: multiplied(way, a) for name, way in ways.items()}, rounds)
    for name, values in found.items():
        print(f"{name + ', 1024 x 1024':44s}{np.median(values) / 1e9:14,.0f} GFLOP/s")
    flops = max(float(np.median(values)) for values in found.values())  # the limit is that of the fastest
    figures = {}
    counts = (1, 2, 4, 8, 16)
    found = speeds({str(k): learner(mixture(1024, k), LANES * STEPS * 2) for k in counts}, rounds)
    for k in counts:
        bank = mixture(1024, k).model.experts
        weights = bank.weights.numel()
        first = bank.sizes[0]  # its input needs no gradient
        needed = 2 * weights + EPOCHS * (6 * weights - 2 * first)  # per step: rollout, then epochs
        share = float(np.median(found[str(k)])) * needed / flops
        figures |= {f"{k} experts over one": float(np.median(found[str(k)] / found["1"]))}
        figures |= {f"{k} experts, share of the arithmetic limit": share}
        print(f"{k:2d} experts {np.median(found[str(k)]):43,.0f} steps/s   {share:.0%} of the arithmetic limit")
    return figures


def our_product(a: torch.Tensor, b: torch.Tensor) -> None:
    """Multiply as the experts' layers do."""
    multiply(a.numpy(), b.numpy(), np.empty((len(a), b.shape[1]), np.float32), False)


def multiplied(way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], a: torch.Tensor) -> int:
    """Multiply a square matrix with itself and return the floating point operations of that."""
    for _ in range(20):
        way(a, a)
    return 20 * 2 * len(a) ** 3


def run(rounds: int) -> Figures:
    """Measure the default mixture end to end, against SB3's defaults on the public environments."""
    settings = run_settings(compose())
    env = settings.env.prepare().training_env(settings.trainer.n_envs, 0)
    agent = MoEAgent(env, settings.expert, settings.gating, seed=0)
    contenders = {"default mixture": learner(agent, 32_768)}
    for name, (make, _) in PEERS.items():
        try:
            copies: VecEnv = DummyVecEnv([make] * 8)  # type: ignore[list-item]
        except ImportError as error:
            print(f"{name} left out: {error}")
            continue
        contenders[f"SB3 on {name}"] = learner(PPO("MlpPolicy", copies, device="cpu", seed=0), 1)
    return compared(speeds(contenders, rounds), "default mixture")


def memory(rounds: int) -> Figures:
    """Measure a rollout of a million steps; the peak is of the whole process, so run it by itself."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    agent = mixture(1024, n_steps=16_384, n_epochs=1)
    agent.learn(1)  # one rollout: 1,048,576 steps
    buffer = agent.algorithm.rollout_buffer  # type: ignore[attr-defined]
    held = sum(array.nbytes for array in vars(buffer).values() if isinstance(array, np.ndarray)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"rollout of 2^20 steps: {held:.0f} MiB; process {peak:,.0f} MiB at its peak, {before:,.0f} before")
    return {"MiB of 2^20 steps": held, "MiB of the process more at its peak": peak - before}


def evaluation(rounds: int) -> Figures:
    """Time every strategy of an evaluation, in seconds for 100,000 bars."""
    figures = {}
    for series in (1, 8):
        bars = 2_000  # a strategy's cost grows with the bars: a twentieth tells
        changes = ["env=synthetic", f"env.market.bars={bars + 400}", f"env.market.series.test={series}"]
        task = run_settings(compose([*changes, "env.market.series.train=2"])).env.prepare()
        agent = MoEAgent(task.training_env(LANES, 0), SETTINGS.expert, SETTINGS.gating, seed=0)
        family = SETTINGS.expert.parameter_matched(agent.model)
        single = MoEAgent(task.training_env(LANES, 0), family, SETTINGS.gating, seed=0)
        n = sum(len(one) for one in task.evaluated("test"))
        routing = best_experts(task, agent)

        def round_(task=task, agent=agent, single=single, routing=routing, n=n) -> int:
            walk(task, "test", agent, single, 0, routing, coalitions=True)
            return n

        seconds = 100_000 / float(np.median(speeds({"": round_}, rounds)[""]))
        figures[f"seconds for 100,000 bars in {series} series"] = seconds
        print(f"evaluation of 100,000 bars in {series} series: {seconds:.0f} s")
    return figures


def curves(rounds: int) -> Figures:
    """Compare what the fast and the plain way learn on the synthetic market from the same seeds; ``rounds`` of them."""
    settings = run_settings(compose(["env=synthetic", "trainer.total_timesteps=200_000"]))
    task = settings.env.prepare()
    total = settings.trainer.steps(task, settings.expert)
    gaps = []
    for seed in range(rounds):
        ways = []
        for kernels in ("auto", "off"):  # an agent is made just before it learns, which seeds all draws
            curve = Curve(total // 5)  # the first episodes end after a sixth
            env = task.training_env(settings.trainer.n_envs, seed)
            MoEAgent(env, settings.expert, settings.gating, seed=seed, kernels=kernels).learn(total, callback=curve)
            ways.append(curve.points[:5])
        gaps.append(np.subtract(*ways))
    half = stats.t.ppf(0.975, rounds - 1) * np.std(gaps, axis=0, ddof=1) / np.sqrt(rounds)
    figures = {}
    for fifth, (mean, width) in enumerate(zip(np.mean(gaps, axis=0), half, strict=True), start=1):
        print(f"log profit of an episode after {fifth * 20:3d} %: fast less plain {mean:+.4f} ± {width:.4f}")
        figures |= {f"curve at {fifth * 20} %, fast less plain": float(mean), f"curve at {fifth * 20} %, ±": width}
    return figures


class Curve(BaseCallback):
    """Notes the mean log profit of the last hundred episodes every so many steps."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every, self.points = every, []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps >= self.every * (len(self.points) + 1):
            self.points.append(np.mean([episode["r"] for episode in self.model.ep_info_buffer]))


def quality(rounds: int) -> Figures:
    """Time learning until the agent earns 80 % of the Bayes filter on the synthetic market's validation series."""
    settings = run_settings(compose(["env=synthetic"]))
    task, expert = settings.env.prepare(), settings.expert
    total = settings.trainer.steps(task, expert)
    seconds: dict[str, list[float]] = {}

    def race(name: str, algorithm: PPO) -> None:
        reached = Reached(task, 0.8, total // 20)
        algorithm.learn(total, callback=reached)
        seconds.setdefault(name, []).append(reached.seconds)

    for seed in range(rounds):
        envs = [task.training_env(settings.trainer.n_envs, seed) for _ in range(3)]
        agent = MoEAgent(envs[0], expert, settings.gating, seed=seed)
        race("mixture of four", agent.algorithm)
        wide = expert.parameter_matched(agent.model)
        given = wide.hyperparameters() | {"policy_kwargs": wide.architecture(), "seed": seed, "device": "cpu"}
        given["learning_rate"] = wide.learning_rate_at
        race("SB3, one policy of its size", PPO("MlpPolicy", envs[1], **given))
        given |= {"learning_rate": 3e-4, "n_epochs": 10}  # what SB3 would choose
        race("SB3, ... at SB3's learning rate and epochs", PPO("MlpPolicy", envs[2], **given))
    for name, found in seconds.items():
        shown = ", ".join(f"{second:.1f}" if np.isfinite(second) else "never" for second in found)
        print(f"{name:44s}seconds to 80 % of the Bayes filter: {shown}")
    return {f"{name}, median seconds to 80 %": float(np.median(found)) for name, found in seconds.items()}


class Reached(BaseCallback):
    """Notes when the most likely actions first earn a share of the Bayes filter; its own time does not count.

    :param every: steps between looks
    :param stops: whether to end learning then
    """

    def __init__(self, task: PreparedTask, share: float, every: int, stops: bool = True) -> None:
        super().__init__()
        self.task, self.every, self.looks, self.stops, self.seconds = task, every, 0, stops, float("inf")
        evaluated = task.evaluated("validation")
        self.wanted = share * self._earned(
            lambda at, _: np.array([one.references["bayes_filter"][at] for one in evaluated])
        )

    def _on_training_start(self) -> None:
        self.start = time.process_time()

    def _on_step(self) -> bool:
        return not (self.stops and np.isfinite(self.seconds))

    def _on_rollout_end(self) -> None:
        if self.num_timesteps < self.every * (self.looks + 1):
            return
        before, self.looks = time.process_time(), self.looks + 1
        if not np.isfinite(self.seconds) and self._earned(self._acted) >= self.wanted:
            self.seconds = before - self.start
        self.start += time.process_time() - before

    def _on_training_end(self) -> None:
        self.total = time.process_time() - self.start
        self.share = 0.8 * self._earned(self._acted) / self.wanted

    def _acted(self, at: int, lanes: Lanes) -> np.ndarray:
        actions = self.model.predict(lanes.observe(), deterministic=True)[0]
        return self.task.task.positions.targets(actions, lanes.target)[0]

    def _earned(self, targets: Callable[[int, Lanes], np.ndarray]) -> float:
        lanes = self.task.walk("validation", 1)
        for lane in range(lanes.n):
            lanes.reset(lane, np.random.default_rng(0))
        for at in range(len(self.task.evaluated("validation")[0])):
            lanes.move(targets(at, lanes))
        return float(np.mean([lanes.log_profit(lane) for lane in range(lanes.n)]))


def defaults(rounds: int) -> Figures:
    """Compare settings on the synthetic market by what it takes to learn and what is learnt, ``rounds`` seeds each."""
    settings = run_settings(compose(["env=synthetic"]))
    task = settings.env.prepare()
    total = settings.trainer.steps(task, settings.expert)
    slow = {"n_epochs": 10, "learning_rate": 3e-4}
    ways: dict[str, tuple[int, dict[str, Any]]] = {  # lanes, settings of the experts
        "the defaults": (settings.trainer.n_envs, {}),
        "64 lanes of 64 steps": (64, {"n_steps": 64}),
        "256 lanes of 16 steps": (256, {"n_steps": 16}),
        "10 epochs at 0.0003, 64 lanes (SB3's)": (64, {"n_steps": 64, **slow}),
        "5 epochs at 0.0006": (settings.trainer.n_envs, {"n_epochs": 5, "learning_rate": 6e-4}),
        "minibatches of 512": (settings.trainer.n_envs, {"batch_size": 512}),
    }
    figures: Figures = {}
    for name, (lanes, changes) in ways.items():
        expert, found = dataclasses.replace(settings.expert, **changes), []  # type: ignore[type-var]
        expert = dataclasses.replace(expert, final_learning_rate=expert.learning_rate / 10)
        for seed in range(rounds):
            agent = MoEAgent(task.training_env(lanes, seed), expert, settings.gating, seed=seed)
            reached = Reached(task, 0.8, total // 20, stops=False)
            agent.algorithm.learn(total, callback=reached)
            found.append((reached.seconds, reached.total, reached.share))
        seconds, whole, share = np.median(found, axis=0)
        shown = ", ".join(f"{one:.2f}" for _, _, one in found)
        print(
            f"{name:40s}80 % after {seconds:5.1f} s, all {whole:5.1f} s; share at the end {share:.2f} ({shown})",
            flush=True,
        )
        figures |= {f"{name}, seconds to 80 %": seconds, f"{name}, seconds": whole, f"{name}, share": share}
    return figures


PARTS = {
    "update": update,
    "parts": parts,
    "experts": experts,
    "run": run,
    "memory": memory,
    "evaluation": evaluation,
    "curves": curves,
    "quality": quality,
    "defaults": defaults,
}


def fell(figures: Figures, earlier: Figures) -> list[str]:
    """Print every ratio beside the earlier one; return those that fell by more than a fifth."""
    worse = []
    for name, value in figures.items():
        if name not in earlier or "over" not in name:
            continue
        print(f"{name:64s}{earlier[name]:8.2f} ->{value:8.2f}")
        if value < 0.8 * earlier[name]:
            worse.append(name)
    return worse


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--against", type=Path, help="compare with the figures of this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures: Figures = {}
    for part in given.only:
        print(f"\n{part}")
        figures |= PARTS[part](given.rounds)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    if given.against:
        worse = fell(figures, json.loads(given.against.read_text()))
        if worse:
            sys.exit(f"Slower by more than a fifth than {given.against} says: {'; '.join(worse)}")


if __name__ == "__main__":
    main()

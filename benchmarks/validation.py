"""What validation while training costs: training steps a walked bar, and its share of a run over a minute.

``moe_trader/trainer/interval.py`` holds the two constants that this measures. Times are processor times (one thread).

    python benchmarks/validation.py
    python benchmarks/validation.py --steps 400_000 env=nasdaq
"""

from __future__ import annotations

import argparse
import time

import torch

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, run_settings
from moe_trader.trainer.interval import STEPS_PER_BAR, STEPS_PER_DECISION
from moe_trader.trainer.validation import Validation

MARKETS = (
    "env=nasdaq",
    "env=synthetic",
    "env=stocks",
    "env=synthetic env.market.bars=1000 env.market.series.validation=100",
)
ROW = "| {:<70} | {:>18} | {:>8} | {:>11} | {:>12} | {:>8} | {:>8} | {:>7} |"


class Timed(Validation):
    """Measures the processor time that validations take."""

    seconds = 0.0

    def after_update(self, step):
        """Validate if due."""
        began = time.process_time()
        stop = super().after_update(step)
        self.seconds += time.process_time() - began
        return stop


def measure(market: str, steps: int) -> str:
    """Train once with the default settings, and return a row of the table."""
    settings = run_settings(compose(market.split()))
    task = settings.env.prepare(gate_input=settings.gating.gate_input())
    trainer, seed = settings.trainer, settings.seed
    agent = MoEAgent(task.training_env(trainer.n_envs, seed), settings.expert, settings.gating, seed=seed)
    how = {"select": trainer.select, "select_by": trainer.select_by, "patience": trainer.patience, "seed": seed}
    agent.learn(2 * trainer.n_envs * settings.expert.n_steps)  # compiles, and the first validation imports
    Validation(task, agent, every=1, total_timesteps=steps, **how).after_update(1)

    validation = Timed(task, agent, every=None, total_timesteps=steps, **how)
    listeners = agent.algorithm.update_listeners
    listeners.append(lambda: validation.after_update(agent.algorithm.num_timesteps))
    began = time.process_time()
    agent.learn(steps)
    whole = time.process_time() - began

    number, training = len(validation.curve), whole - validation.seconds
    backtest = validation._backtest
    decisions, bars = backtest.n_decisions, backtest.n_bars
    in_steps = validation.seconds / number * steps / training
    planned = STEPS_PER_DECISION * decisions + STEPS_PER_BAR * bars
    return ROW.format(
        f"`{market}`",
        f"{decisions:,} x {len(backtest.instruments)}",
        f"{whole:.0f} s",
        f"{steps / training:,.0f}",
        f"{1000 * validation.seconds / number:,.0f} ms",
        f"{in_steps:,.0f}",
        f"{planned:,.0f}",
        f"{number}: {validation.seconds / whole:.1%}".replace("%", " %"),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("markets", nargs="*", default=MARKETS, help="overrides of moe-train, a text for each run")
    parser.add_argument("--steps", type=int, default=2_500_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    heads = ("run", "bars x instruments", "time", "steps/s", "a validation", "in steps", "planned", "share")
    print(ROW.format(*heads))
    print(ROW.format(*("---" for _ in heads)))
    for market in given.markets:
        print(measure(market, given.steps), flush=True)


if __name__ == "__main__":
    main()

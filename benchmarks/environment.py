"""Raw speed of the vectorised environment beside the public ones, in one process on one core.

    pip install --no-deps gym-anytrading gym-trading-env finrl
    python benchmarks/environment.py --json environment.json

Every environment steps through random actions with automatic resets. Ours has a window of 32 bars of eight features and
the infos that SB3 needs; peers run at their own defaults with the nearest observation they offer, one at a time, and
those that are not installed are left out. Each figure is the median of several rounds, the ratios are taken round by
round. The memory copy moves as many observations from one array to another, once through memory (128 MiB of them, as a
rollout keeps) and once the same batch over and over, which never leaves the processor's cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from moe_trader.config import compose, run_settings

WINDOW = 32
FEATURES = [  # eight columns
    "env.features.returns.horizons=[1,5]",
    "env.features.trend.spans=[10,40]",
    "env.features.volatility.spans=[5,20]",
    "env.features.autocorrelation.spans=[20,40]",
]


def ours(n_lanes: int) -> tuple[Callable[[], int], np.ndarray]:
    """Return a round of 2,000 steps of all lanes, and one batch of its observations."""
    settings = run_settings(compose([*FEATURES, f"env.window={WINDOW}"]))
    env = settings.env.prepare().vec_env("train", n_lanes, seed=0)
    actions = np.random.default_rng(0).integers(3, size=(2_000, n_lanes))
    batch = env.reset()

    def round_() -> int:
        for chosen in actions:
            env.step(chosen)
        return actions.size

    return round_, batch


def copy(batch: np.ndarray, n_batches: int) -> Callable[[], int]:
    """Return a round of plain copies of ``n_batches`` batches of observations."""
    source = np.repeat(batch[None], n_batches, axis=0)
    target = np.empty_like(source)

    def round_() -> int:
        for _ in range(2_000 // n_batches + 1):
            np.copyto(target, source)
        return (2_000 // n_batches + 1) * n_batches * len(batch)

    return round_


def single(env: object, steps: int) -> Callable[[], int]:
    """Return a round of a Gymnasium environment with resets."""
    env.action_space.seed(0)  # type: ignore[attr-defined]
    env.reset(seed=0)  # type: ignore[attr-defined]
    actions = [env.action_space.sample() for _ in range(steps)]  # type: ignore[attr-defined]

    def round_() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)  # type: ignore[attr-defined]
            if terminated or truncated:
                env.reset()  # type: ignore[attr-defined]
        return steps

    return round_


def bars() -> pd.DataFrame:
    """Return the NASDAQ bars as peers want them."""
    (one,) = run_settings(compose()).env.market.load().instruments
    columns = {name: getattr(one, name) for name in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(one.time, name="date"))


def gym_anytrading() -> object:
    """Return gym-anytrading's stock environment."""
    from gym_anytrading.envs import StocksEnv

    table = bars().rename(columns=str.capitalize)
    return StocksEnv(df=table, window_size=WINDOW, frame_bound=(WINDOW, len(table)))


def gym_trading_env() -> object:
    """Return gym-trading-env's environment."""
    import warnings

    with warnings.catch_warnings():
        from gym_trading_env.environments import TradingEnv

    warnings.resetwarnings()  # importing it turns every warning into an error
    table = bars()
    for number in range(8):
        table[f"feature_{number}"] = table["close"].pct_change(number + 1).fillna(0.0)
    return TradingEnv(df=table, positions=[-1, 0, 1], windows=WINDOW, trading_fees=2e-4, verbose=0)


def finrl() -> object:
    """Return FinRL's stock environment with one stock and eight indicators."""
    # Importing the package loads its brokers and data vendors too: the environment's own file needs none of them.
    package = importlib.util.find_spec("finrl")
    if package is None or package.origin is None:
        raise ImportError("No module named 'finrl'")
    file = Path(package.origin).parent / "meta" / "env_stock_trading" / "env_stocktrading.py"
    spec = importlib.util.spec_from_file_location("env_stocktrading", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = bars().reset_index()
    indicators = [f"feature_{number}" for number in range(8)]
    for number, name in enumerate(indicators):
        table[name] = table["close"].pct_change(number + 1).fillna(0.0)
    table["tic"] = "IXIC"
    return module.StockTradingEnv(
        df=table,
        stock_dim=1,
        hmax=100,
        initial_amount=1_000_000,
        num_stock_shares=[0],
        buy_cost_pct=[2e-4],
        sell_cost_pct=[2e-4],
        reward_scaling=1e-4,
        state_space=3 + len(indicators),
        action_space=1,
        tech_indicator_list=indicators,
    )


PEERS: dict[str, tuple[Callable[[], object], int]] = {  # environment, steps of a round
    "gym-anytrading": (gym_anytrading, 5_000),
    "gym-trading-env": (gym_trading_env, 2_000),
    "finrl": (finrl, 1_000),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()

    rounds: dict[str, Callable[[], int]] = {}
    for n_lanes in (64, 256):
        rounds[f"ours, {n_lanes} lanes"], batch = ours(n_lanes)
        rounds[f"memory copy, {n_lanes} lanes"] = copy(batch, 2**27 // batch.nbytes)
        rounds[f"cached copy, {n_lanes} lanes"] = copy(batch, 1)
    for name, (make, steps) in PEERS.items():
        try:
            rounds[name] = single(make(), steps)
        except ImportError as error:
            print(f"{name} left out: {error}")
    speeds: dict[str, list[float]] = {name: [] for name in rounds}
    for round_ in rounds.values():
        round_()  # warm up: compilation, caches
    for _ in range(given.rounds):
        for name, round_ in rounds.items():
            start = time.perf_counter()
            steps = round_()
            speeds[name].append(steps / (time.perf_counter() - start))
    figures = {name: {"steps_per_second": float(np.median(values))} for name, values in speeds.items()}
    print(f"\n{'':28s}{'steps/s':>14s}")
    for name, figure in figures.items():
        print(f"{name:28s}{figure['steps_per_second']:14,.0f}")
    for n_lanes in (64, 256):
        mine = np.array(speeds[f"ours, {n_lanes} lanes"])
        for name in (
            f"memory copy, {n_lanes} lanes",
            f"cached copy, {n_lanes} lanes",
            "gym-anytrading",
            "gym-trading-env",
            "finrl",
        ):
            if name in speeds:
                ratio = float(np.median(mine / np.array(speeds[name])))
                figures[f"ours, {n_lanes} lanes"][f"over {name}"] = ratio
                print(f"ours, {n_lanes} lanes / {name}: {ratio:,.2f}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

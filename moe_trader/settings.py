"""A whole run as one option: what ``conf/train.yaml`` describes."""

from __future__ import annotations

from moe_trader.bounds import MOST_SEEDS, Count, Seed
from moe_trader.device import Kernels, check_device
from moe_trader.env.task import TradingTask
from moe_trader.expert import ExpertFamily
from moe_trader.gating import Gate
from moe_trader.option import option
from moe_trader.parts import check_names
from moe_trader.trainer import Trainer


@option
class RunSettings:
    """Every choice of a run; the meaning of each stands in ``conf/train.yaml``."""

    env: TradingTask
    expert: ExpertFamily
    gating: Gate
    trainer: Trainer
    seed: Seed
    seeds: Count
    seeds_at_once: Count | None
    threads: Count
    device: str
    kernels: Kernels
    single_policy: bool
    shapley: bool
    plugins: list[str]
    rerun_of: str | None

    def each_seed(self) -> range:
        """Return the seeds that the run trains."""
        return range(self.seed, self.seed + self.seeds)

    def __post_init__(self) -> None:
        last = self.each_seed()[-1]
        if last >= MOST_SEEDS:
            raise ValueError(f"seed: with seeds={self.seeds} the last is {last}; the greatest is {MOST_SEEDS - 1}")
        check_names(self.trainer.frozen, self.expert.names(), "trainer.frozen")
        check_device(self.device)

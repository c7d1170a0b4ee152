"""A whole run as one option: what ``conf/train.yaml`` describes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveInt

from moe_trader.env.task import TradingTask
from moe_trader.expert import ExpertFamily
from moe_trader.gating import Gate
from moe_trader.option import option
from moe_trader.trainer import Trainer

SEEDS = 2**31


@option
class RunSettings:
    """Every choice of a run; the meaning of each stands in ``conf/train.yaml``."""

    env: TradingTask
    expert: ExpertFamily
    gating: Gate
    trainer: Trainer
    seed: Annotated[int, Field(ge=0, lt=SEEDS)]
    threads: PositiveInt
    device: str
    single_policy: bool
    shapley: bool
    plugins: list[str]
    rerun_of: str | None

    def __post_init__(self) -> None:
        last = self.seed + self.trainer.parallel_seeds - 1
        if last >= SEEDS:
            raise ValueError(f"seed: with trainer.parallel_seeds the last is {last}; the greatest is {SEEDS - 1}")
        try:
            torch.zeros(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"device: {self.device!r} cannot be used here ({reason}); use device=cpu") from None

"""What one sees while training: a live line on a terminal, a log line every tenth elsewhere, and warnings."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from stable_baselines3.common.callbacks import BaseCallback

from moe_trader import interrupt
from moe_trader.option import describe
from moe_trader.terminal import console, current_prefix
from moe_trader.trainer.collapse import CollapseWatch

if TYPE_CHECKING:
    from moe_trader.trainer import Agent

log = logging.getLogger(__name__)

BLOCKS = " ▁▂▃▄▅▆▇█"


class Progress(BaseCallback):
    """Reports steps, speed, time left, mean episode log profit, each expert's importance and the gate's entropy.

    A gate that collapses is reported as :class:`~moe_trader.trainer.collapse.CollapseWatch` finds it.

    :param agent: whose ``metrics`` are shown
    :param total_timesteps: what a full bar means
    :param title: the bar's label
    """

    def __init__(self, agent: Agent, total_timesteps: int, title: str) -> None:
        super().__init__()
        self._agent, self._total, self._title = agent, total_timesteps, title
        watch = CollapseWatch(agent.expert_names, describe(agent.gating), agent.frozen)
        self._watch = watch if agent.gate_learns else None
        self._tenths = 0
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=console(),
            transient=True,
            disable=not console().is_interactive,
        )
        self._row = self._bar.add_task(f"{current_prefix()} {title}".strip(), total=total_timesteps, state="")

    def _on_training_start(self) -> None:
        self._started, self._from = time.perf_counter(), self.model.num_timesteps
        self._bar.start()

    def _on_step(self) -> bool:
        interrupt.check_late()
        return True

    def close(self) -> None:
        """Remove the live line."""
        self._bar.stop()

    def state(self) -> dict[str, Any]:
        """Return what was reported so far, as JSON holds it."""
        return {"tenths": self._tenths, "watch": self._watch.state() if self._watch else None}

    def load_state(self, state: dict[str, Any]) -> None:
        """Report no more what was reported already."""
        self._tenths = state["tenths"]
        if self._watch and state["watch"] is not None:
            self._watch.load_state(state["watch"])

    def report(self) -> None:
        """Show where training stands; called after every update."""
        speed = (self.num_timesteps - self._from) / max(time.perf_counter() - self._started, 1e-9)
        metrics, names = self._agent.metrics, self._agent.expert_names
        episodes = self.model.ep_info_buffer
        state = f"{speed:,.0f} steps/s"
        if episodes:
            state += f"  log profit/episode {np.mean([episode['r'] for episode in episodes]):+.3f}"
        if metrics and len(names) > 1:
            importance = [metrics[f"importance/{name}"] for name in names]
            state += f"  experts {blocks(importance)}  gate entropy {metrics['mixture/gate_entropy']:.2f}"
            for line in self._watch.look(metrics, self.num_timesteps / self._total) if self._watch else ():
                log.warning("%s", line)
        self._bar.update(self._row, completed=min(self.num_timesteps, self._total), state=state)
        tenths = 10 * self.num_timesteps // self._total
        if tenths > self._tenths:
            self._tenths = tenths
            level = logging.INFO if self._bar.disable else logging.DEBUG  # a terminal shows the live line instead
            log.log(level, "%s %d %%: %s", self._title, min(100 * self.num_timesteps // self._total, 100), state)


def blocks(values: Sequence[float]) -> str:
    """Return numbers in [0, 1] as a row of block characters."""
    return "".join(BLOCKS[round(min(max(value, 0.0), 1.0) * (len(BLOCKS) - 1))] for value in values)


def summarise(metrics: Mapping[str, float], names: list[str]) -> str:
    """Return the mixture's metrics as a line."""
    if len(names) == 1:
        return "one expert"
    importance = ", ".join(f"{name} {metrics.get(f'importance/{name}', float('nan')):.2f}" for name in names)
    rest = ("mixture/gate_entropy", "mixture/effective_experts", "mixture/disagreement")
    others = ", ".join(f"{key.split('/')[1].replace('_', ' ')} {metrics.get(key, float('nan')):.2f}" for key in rest)
    return f"importance {importance}; {others}"

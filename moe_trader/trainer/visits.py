"""How long a run trains: so many visits of each training bar."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_trader.env.task import PreparedTask
    from moe_trader.expert import ExpertFamily
    from moe_trader.trainer import Trainer

log = logging.getLogger(__name__)

MANY_VISITS = 60
"""Above it, mixture and single policy learned the training years of NASDAQ by heart."""


def steps_of_visits(task: PreparedTask, family: ExpertFamily) -> int:
    """Return ``env.visits`` x training bars x the family's ``step_factor``, rounded; at least 1."""
    return max(1, round(task.task.visits * task.training_bars * family.step_factor))


def log_steps(trainer: Trainer, task: PreparedTask, family: ExpertFamily) -> None:
    """Log a run's steps as visits of each training bar, and warn above :data:`MANY_VISITS`."""
    steps, one_visit = trainer.steps(task, family), task.training_bars * family.step_factor
    kind = ", ".join(dict.fromkeys(kind.lower() for kind in family.kinds()))
    product = f"visits x {task.training_bars:,} training bars x {family.step_factor:g} ({kind})"
    if trainer.total_timesteps is None:
        visits, shown = task.task.visits, f"{task.task.visits:,g}"
        log.info("Training steps: %s = %s %s", f"{steps:,}", shown, product)
        way_out = f"set env.visits to at most {MANY_VISITS}"
    else:
        visits = steps / one_visit
        shown = f"{visits:,.1f}"
        log.info("Training steps: %s (trainer.total_timesteps), about %s %s", f"{steps:,}", shown, product)
        most = max(int(MANY_VISITS * one_visit), 1)
        way_out = f"set trainer.total_timesteps to at most {most:,}, or to null for {task.task.visits:g} (env.visits)"
    if visits > MANY_VISITS:
        heart = "mixture and single policy learn the training years by heart"
        log.warning("%s visits of each training bar (above %d): %s; %s", shown, MANY_VISITS, heart, way_out)

"""Validation while an agent trains: backtests on the validation split, their curve, and the weights that were best.

It is an insurance against too many steps. It does not find the good seed, and does not foretell the result on test.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd
from torch import Tensor

from moe_trader.durable import write_file
from moe_trader.evaluation.backtest import Backtest
from moe_trader.trainer.interval import interval
from moe_trader.trainer.progress import BLOCKS

if TYPE_CHECKING:
    from moe_trader.agent import MoEAgent
    from moe_trader.env.task import PreparedTask

log = logging.getLogger(__name__)

Select = Literal["last", "best_validation"]
Metric = Literal["sharpe", "log_return", "lower_bound"]

_WORDS = {"sharpe": "Sharpe", "log_return": "log return", "lower_bound": "lower bound of the log return"}
_FORMATS = {"sharpe": "+.2f", "log_return": "+.3f", "lower_bound": "+.3f"}


class Row(NamedTuple):
    """One validation; a metric that does not exist is NaN.

    ``lower_bound`` is the lower end of the 95 % bootstrap interval of the log return (``log_return_low`` in the
    tables).
    """

    step: int
    sharpe: float
    log_return: float
    lower_bound: float


def check_settings(every: int | None, select: Select, patience: int | None) -> None:
    """Refuse settings that contradict each other. :raises ValueError: with the way out."""
    if select == "best_validation" and every == 0:
        raise ValueError(
            "select=best_validation needs validations, but validate_every is 0; set trainer.validate_every=null or "
            "trainer.select=last"
        )
    if select == "last" and patience is not None:
        raise ValueError(
            f"patience={patience} ends training {patience} validations after the best one, but select=last keeps the "
            "weights of the end; set trainer.select=best_validation or trainer.patience=null"
        )


class Validation:
    """Backtests an agent on the validation split while it trains, keeps the curve, and the weights that were best.

    Between :meth:`after_update` and the next one nothing of training changes: no random generator is drawn from, and
    the gate's state stays.

    :param every: steps between validations; ``None``: :func:`interval`; 0: no validation
    :param select: whose weights :meth:`finish` leaves in the agent
    :param select_by: the metric that ranks validations; one that does not exist (NaN) is never the best
    :param patience: validations in a row without improvement after which training stops; ``None``: it does not. They
        count from the first validation that has the metric
    :param total_timesteps: of the training
    :param seed: of the bootstrap, as in the tables
    :param title: what logs call the agent
    :raises ValueError: for settings that contradict each other
    """

    def __init__(
        self,
        task: PreparedTask,
        agent: MoEAgent,
        *,
        every: int | None,
        select: Select,
        select_by: Metric,
        patience: int | None,
        total_timesteps: int,
        seed: int,
        title: str = "mixture",
    ) -> None:
        check_settings(every, select, patience)
        self._agent, self._title = agent, title
        self._select, self._metric, self._patience = select, select_by, patience
        self._backtest = Backtest(task, "validation", seed)
        if every is None:
            every = interval(total_timesteps, self._backtest.n_decisions, self._backtest.n_bars)
        self.every = every
        self.curve: list[Row] = []
        self.selected: int | None = None
        """Index in :attr:`curve` of the validation whose weights the agent has; ``None`` until :meth:`finish`."""
        self._best: int | None = None  # index in the curve
        self._weights: dict[str, Tensor] = {}  # of the best, where they may be selected
        self._without = 0  # validations in a row without improvement
        self._updated = 0  # step of the last update

    def after_update(self, step: int) -> bool:
        """Validate if a multiple of :attr:`every` was passed since the update before.

        :param step: environment steps taken
        :return: whether patience is exhausted, so that training should stop
        """
        due = self.every > 0 and step // self.every > self._updated // self.every
        self._updated = step
        if due:
            self._validate(step)
        return self.exhausted

    def finish(self, step: int) -> dict[str, Any] | None:
        """Validate the last update unless that was done, and put the selected weights into the agent.

        :param step: environment steps taken
        :return: for the bundle: ``step`` of the weights, ``rule`` that chose them, ``metric`` and its ``value``
            (``None`` for NaN), number of ``validations``, and ``why``, a sentence. ``None`` without validations
        """
        if self.every == 0:
            return None
        if not self.curve or self.curve[-1].step < self._updated:
            self._validate(step)
        last = len(self.curve) - 1
        keep_best = self._select == "best_validation" and self._best is not None
        self.selected = self._best if keep_best else last
        assert self.selected is not None
        if keep_best:
            self._agent.model.load_state_dict(self._weights)
        why, row = self._why(), self.curve[self.selected]
        if line := self._line():
            log.info("%s, validation %s over training: %s", self._title.capitalize(), _WORDS[self._metric], line)
        log.info("%s keeps the weights of step %s: %s", self._title.capitalize(), f"{row.step:,}", why)
        value = getattr(row, self._metric)
        return {
            "step": row.step,
            "rule": self._select,
            "metric": self._metric,
            "value": None if math.isnan(value) else value,
            "validations": len(self.curve),
            "why": why,
        }

    def write_curve(self, path: Path) -> None:
        """Write a row for each validation; ``selected`` is 1 where the agent's weights are from."""
        table = pd.DataFrame(self.curve, columns=Row._fields)
        table["selected"] = [int(at == self.selected) for at in range(len(table))]
        write_file(path, table.to_csv(index=False))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the best weights by name, and values that JSON holds; NaN is ``None`` there."""
        values = {
            "select": self._select,
            "select_by": self._metric,
            "curve": [[None if math.isnan(one) else one for one in row] for row in self.curve],
            "best": self._best,
            "without_improvement": self._without,
            "updated": self._updated,
        }
        return {name: tensor.clone() for name, tensor in self._weights.items()}, values

    def load_state(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a state. :raises ValueError: for one under another ``select`` or ``select_by``, naming both."""
        for setting, now in (("select", self._select), ("select_by", self._metric)):
            if values[setting] != now:
                raise ValueError(
                    f"trainer.{setting}: expected {values[setting]}, under which the run was validated so far, got "
                    f"{now}; keep it, or start a new run"
                )
        rows = [[math.nan if one is None else one for one in row] for row in values["curve"]]
        self.curve = [Row(int(step), *metrics) for step, *metrics in rows]
        self._best, self._without = values["best"], values["without_improvement"]
        self._updated = values["updated"]
        self._weights = {name: tensor.clone() for name, tensor in tensors.items()}
        self.selected = None

    @property
    def exhausted(self) -> bool:
        """Whether patience is."""
        return self._patience is not None and self._without >= self._patience

    def _validate(self, step: int) -> None:
        found = self._backtest.run(self._agent)
        row = Row(step, float(found["sharpe"]), float(found["log_return"]), float(found["log_return_low"]))
        self.curve.append(row)
        improved = self._improves(row)
        if improved:
            self._best, self._without = len(self.curve) - 1, 0
            if self._select == "best_validation":
                state = self._agent.model.state_dict()
                self._weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        elif self._best is not None:
            self._without += 1
        for name in Row._fields[1:]:
            self._agent.algorithm.logger.record(f"validation/{name}", getattr(row, name))
        self._log(row, improved)

    def _improves(self, row: Row) -> bool:
        value = getattr(row, self._metric)
        if self._best is None:
            return not math.isnan(value)
        return bool(value > getattr(self.curve[self._best], self._metric))

    def _log(self, row: Row, improved: bool) -> None:
        shown = ["sharpe", "log_return"] + (["lower_bound"] if self._metric == "lower_bound" else [])
        values = ", ".join(f"{_WORDS[name]} {_number(row, name)}" for name in shown)
        note = " (best so far)" if improved else ""
        if self._patience is not None and self._without:
            note = f" (no improvement in {self._without} of {self._patience})"
        log.info("%s, step %s: validation %s%s", self._title, f"{row.step:,}", values, note)
        if math.isnan(getattr(row, self._metric)) and len(self.curve) == 1:
            log.warning(
                "%s: validation has no %s (no trades, or less than four weeks of bars), so it is never the best; "
                "trainer.select_by=log_return always exists",
                self._title,
                _WORDS[self._metric],
            )

    def _line(self) -> str:
        """Return the curve as a row of blocks from its lowest value to its highest; empty for fewer than three."""
        values = [getattr(row, self._metric) for row in self.curve]
        known = [value for value in values if not math.isnan(value)]
        if len(known) < 3:
            return ""
        low, high = min(known), max(known)
        span = (high - low) or 1.0
        shown = [BLOCKS[0] if math.isnan(one) else BLOCKS[1 + round((one - low) / span * 7)] for one in values]
        return f"{''.join(shown)} ({' to '.join(format(one, _FORMATS[self._metric]) for one in (low, high))})"

    def _why(self) -> str:
        """Return why the weights of :attr:`selected` are kept."""
        number, word, last = len(self.curve), _WORDS[self._metric], self.curve[-1]
        of_all = f"of {number} validations" if number > 1 else "of the only validation"
        if self._best is None:
            return f"the last weights; no validation has a {word}"
        best = self.curve[self._best]
        if self._select == "last":
            found = (
                "which are the best" if best is last else f"the best {word} was {_number(best, self._metric)} at step"
            )
            tail = f" {of_all}" if best is last else f" {best.step:,}"
            return f"the last weights (trainer.select=last), {found}{tail}"
        stopped = f"; training stopped after {self._without} without improvement" if self.exhausted else ""
        return f"the highest {word} {of_all}, up to step {last.step:,}{stopped}"


def _number(row: Row, name: str) -> str:
    value = getattr(row, name)
    return "-" if math.isnan(value) else format(value, _FORMATS[name])

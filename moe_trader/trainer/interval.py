"""How often a training is validated where no setting says it: by steps and bars, never by a clock."""

from __future__ import annotations

# What a backtest costs, in training steps of the default agent. `benchmarks/validation.py` measures both, and the share
# of training that validations take.
STEPS_PER_DECISION = 7  # of all instruments together: they are walked side by side
STEPS_PER_BAR = 0.3  # of each instrument
SHARE = 0.05  # of training that validations may cost
MINUTE = 1_000_000  # steps that train in about a minute or less; shorter runs have FEW validations at any cost
FEW, MOST = 5, 20


def interval(total_timesteps: int, n_decisions: int, n_bars: int) -> int:
    """Return the steps between two validations where no setting says it.

    Up to 20 validations, as many as :data:`SHARE` of training pays for. A run below a minute (:data:`MINUTE`, the
    validations included) has at least 5. It is computed from these three numbers alone, so that runs repeat.

    :param n_decisions: bars of the longest instrument of the validation split
    :param n_bars: bars of all its instruments
    """
    cost = STEPS_PER_DECISION * n_decisions + STEPS_PER_BAR * n_bars
    number = int(SHARE * total_timesteps / cost)
    if total_timesteps + FEW * cost <= MINUTE:
        number = max(number, FEW)
    return max(total_timesteps // min(max(number, 1), MOST), 1)

"""The gate's losses: what keeps every expert alive, and makes the gate say something.

They are minimised together with the policy loss, each with a weight that may change over training. Balancing to equal
use is offered, but not the default: real market regimes are not equally frequent, and an equal share for every expert
would have to split the common ones.
"""

from __future__ import annotations

from moe_trader.bounds import Fraction, NonNegative
from moe_trader.gating import GateLoss
from moe_trader.option import option


@option
class ScheduledLoss(GateLoss):
    """A loss that may be ramped in, and may fade or grow after: what every loss here is.

    :param weight: of the term in the training loss once it is ramped in
    :param ramp_start: fraction of training at which it begins to count
    :param ramp_end: fraction of training from which it counts in full
    :param final_weight: what the weight moves to from there, linearly, until the end of training; ``None``: it stays
    """

    weight: NonNegative
    ramp_start: Fraction
    ramp_end: Fraction
    final_weight: NonNegative | None

    def __post_init__(self) -> None:
        if self.ramp_start > self.ramp_end:
            raise ValueError(f"expected ramp_start <= ramp_end, got {self.ramp_start} and {self.ramp_end}")
        if self.final_weight is not None and self.ramp_end == 1:
            raise ValueError(f"final_weight: {self.final_weight} is never reached, as ramp_end is 1; lower ramp_end")

    def weight_at(self, progress: float) -> float:
        """Return the weight, ramped in linearly, then moving to the final one."""
        if progress < self.ramp_end:
            if progress <= self.ramp_start:
                return 0.0
            return self.weight * (progress - self.ramp_start) / (self.ramp_end - self.ramp_start)
        if self.final_weight is None:
            return self.weight
        return self.weight + (self.final_weight - self.weight) * (progress - self.ramp_end) / (1 - self.ramp_end)

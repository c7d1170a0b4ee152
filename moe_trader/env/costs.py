"""What trading costs, in pieces: each adds its part to the rates that the ledger charges."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from moe_trader.bounds import AnnualRate, Fee, NonNegative, Positive, Real
from moe_trader.option import ConfigError, option, shown

BasisPoints = Annotated[Real, Field(ge=0, lt=10_000)]


class CostRates(NamedTuple):
    """Costs in the units of the kernel.

    :param rate: fraction of the amount traded
    :param entry: currency for a fill that opens or enlarges a position
    :param exit: currency for a fill that closes or reduces one
    :param slippage: fraction of the amount traded, times a bar's volatility
    :param impact: the same, times the root of the share of the bar's volume
    :param volume_cap: largest share of a bar's volume that is traded
    :param borrow: fraction of a short position's value per year
    :param credit: fraction of positive cash per year, earned
    :param debit: fraction of negative cash per year, paid
    """

    rate: float
    entry: float
    exit: float
    slippage: float
    impact: float
    volume_cap: float
    borrow: float
    credit: float
    debit: float

    def times(self, multiple: float) -> CostRates:
        """Return the rates with every charge multiplied; 1 leaves every bit as it is.

        Charges are commission and half-spread (``rate``), fees per fill, slippage, impact, and interest on borrowed
        shares and on negative cash. Interest earned and the volume cap are no charges: they stay.

        :param multiple: a number from 0 to 1e9
        :raises ConfigError: for another number, or one with which trading takes all of what is traded
        """
        if not (isinstance(multiple, numbers.Real) and not isinstance(multiple, bool) and 0 <= multiple <= 1e9):
            raise ConfigError(f"trainer.cost_multiple: expected a number from 0 to 1e9, got {shown(multiple)}")
        multiple = float(multiple)
        if multiple * self.rate >= 1:
            raise ConfigError(
                f"trainer.cost_multiple: {multiple:g} times {1e4 * self.rate:g} bp are {multiple * self.rate:.0%} of "
                f"the amount traded; expected less than all of it: a multiple below {1 / self.rate:g}"
            )
        scaled = {name: multiple * getattr(self, name) for name in CHARGES}
        return self._replace(**scaled)


CHARGES = ("rate", "entry", "exit", "slippage", "impact", "borrow", "debit")
FREE = CostRates(0.0, 0.0, 0.0, 0.0, 0.0, np.inf, 0.0, 0.0, 0.0)


class Cost(ABC):
    """A piece of what trading costs: an entry of ``env.costs``."""

    @abstractmethod
    def rates(self) -> CostRates:
        """Return this piece's part; everything else is :data:`FREE`'s."""


def total(costs: Iterable[Cost]) -> CostRates:
    """Return the rates of all pieces together: sums, and the tightest volume cap.

    :raises ValueError: rates that are no numbers, that leave nothing of what is traded, or impact without a cap
    """
    parts = [FREE]
    for cost in costs:
        rates = cost.rates()
        if not (np.isfinite(rates._replace(volume_cap=1.0)).all() and rates.volume_cap > 0):
            raise ValueError(
                f"costs: expected {type(cost).__name__}.rates() to give finite numbers and a volume_cap above 0, got "
                f"{rates}"
            )
        parts.append(rates)
    summed = CostRates(*(float(sum(column)) for column in zip(*parts, strict=True)))
    summed = summed._replace(volume_cap=float(min(part.volume_cap for part in parts)))
    if summed.rate >= 1:
        raise ValueError(
            f"costs: together they take {summed.rate:.0%} of the amount traded; expected less than all of it"
        )
    if summed.impact > 0 and summed.volume_cap == np.inf:
        raise ValueError(
            f"costs: expected a volume_cap beside an impact of {summed.impact:g}, got none: in a bar without volume no "
            "trade is small; give one, as SquareRootImpact does"
        )
    return summed


def describe_costs(costs: CostRates) -> str:
    """Return what is charged, in words."""
    words = {
        "rate": f"{1e4 * costs.rate:g} bp of the amount traded",
        "entry": f"{costs.entry:g} per entry",
        "exit": f"{costs.exit:g} per exit",
        "slippage": f"{costs.slippage:g} x volatility",
        "impact": f"{costs.impact:g} x volatility x root of the share of volume",
        "borrow": f"{costs.borrow:.2%} a year on shorts",
        "debit": f"{costs.debit:.2%} a year on debt",
    }
    return ", ".join(text for name, text in words.items() if getattr(costs, name) > 0) or "none"


@option
class Proportional(Cost):
    """Commission on the amount traded.

    :param bp: basis points
    """

    bp: BasisPoints

    def rates(self) -> CostRates:
        """Return the rate per unit of currency."""
        return FREE._replace(rate=self.bp * 1e-4)


@option
class HalfSpread(Cost):
    """Half the bid-ask spread, paid on every amount traded.

    :param bp: basis points of the price
    """

    bp: BasisPoints

    def rates(self) -> CostRates:
        """Return the rate per unit of currency."""
        return FREE._replace(rate=self.bp * 1e-4)


@option
class FixedPerOrder(Cost):
    """A fee for each fill, whatever its size; one that reverses the position is an exit and an entry.

    :param entry: of a fill that opens or enlarges a position, in currency
    :param exit: of a fill that closes or reduces one
    """

    entry: Fee
    exit: Fee

    def rates(self) -> CostRates:
        """Return the fees."""
        return FREE._replace(entry=self.entry, exit=self.exit)


@option
class VolatilitySlippage(Cost):
    """Slippage in proportion to how much the price moves: amount x fraction x volatility of a bar's log return.

    :param fraction: of one bar's volatility (exponential, span 20, known at the decision)
    """

    fraction: NonNegative

    def rates(self) -> CostRates:
        """Return the fraction."""
        return FREE._replace(slippage=self.fraction)


@option
class SquareRootImpact(Cost):
    """Market impact: amount x coefficient x volatility x sqrt(units traded / units the bar traded).

    The square-root law of Almgren et al. (2005) and Toth et al. (arXiv 1105.1694). What exceeds the cap is not traded;
    it can be ordered again at the next bar.

    :param coefficient: about 1 in the literature
    :param volume_cap: largest share of a bar's volume that one order may take
    """

    coefficient: NonNegative
    volume_cap: Positive

    def rates(self) -> CostRates:
        """Return coefficient and cap."""
        return FREE._replace(impact=self.coefficient, volume_cap=self.volume_cap)


@option
class Borrow(Cost):
    """Interest on the value of a short position held overnight, by elapsed calendar time.

    :param annual: fraction per year of 365.25 days
    """

    annual: AnnualRate

    def rates(self) -> CostRates:
        """Return the rate."""
        return FREE._replace(borrow=self.annual)


@option
class CashInterest(Cost):
    """Interest on cash, by elapsed calendar time: earned on what one has, paid on what leverage borrows.

    :param credit_annual: fraction per year on positive cash
    :param debit_annual: fraction per year on negative cash
    """

    credit_annual: AnnualRate
    debit_annual: AnnualRate

    def rates(self) -> CostRates:
        """Return the rates."""
        return FREE._replace(credit=self.credit_annual, debit=self.debit_annual)

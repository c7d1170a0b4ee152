"""What trading costs, in pieces: each adds its part to the rates that the ledger charges."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat

from moe_trader.env.ledger import FREE, Cost, CostRates
from moe_trader.option import option

NonNegative = Annotated[float, Field(ge=0)]


@option
class Proportional(Cost):
    """Commission on the amount traded.

    :param bp: basis points
    """

    bp: NonNegative

    def rates(self) -> CostRates:
        """Return the rate per unit of currency."""
        return FREE._replace(rate=self.bp * 1e-4)


@option
class HalfSpread(Cost):
    """Half the bid-ask spread, paid on every amount traded.

    :param bp: basis points of the price
    """

    bp: NonNegative

    def rates(self) -> CostRates:
        """Return the rate per unit of currency."""
        return FREE._replace(rate=self.bp * 1e-4)


@option
class FixedPerOrder(Cost):
    """A fee for each order, whatever its size; a reversal is an exit and an entry.

    :param entry: of an order that opens or enlarges a position, in currency
    :param exit: of an order that closes or reduces one
    """

    entry: NonNegative
    exit: NonNegative

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
    volume_cap: PositiveFloat

    def rates(self) -> CostRates:
        """Return coefficient and cap."""
        return FREE._replace(impact=self.coefficient, volume_cap=self.volume_cap)


@option
class Borrow(Cost):
    """Interest on the value of a short position held overnight, by elapsed calendar time.

    :param annual: fraction per year of 365.25 days
    """

    annual: NonNegative

    def rates(self) -> CostRates:
        """Return the rate."""
        return FREE._replace(borrow=self.annual)


@option
class CashInterest(Cost):
    """Interest on cash, by elapsed calendar time: earned on what one has, paid on what leverage borrows.

    :param credit_annual: fraction per year on positive cash
    :param debit_annual: fraction per year on negative cash
    """

    credit_annual: NonNegative
    debit_annual: NonNegative

    def rates(self) -> CostRates:
        """Return the rates."""
        return FREE._replace(credit=self.credit_annual, debit=self.debit_annual)

"""What the learner is rewarded for; ``info`` carries the plain log return all the same, and reports show only that."""

from __future__ import annotations

from moe_trader.bounds import NonNegative, Probability
from moe_trader.env import Reward
from moe_trader.env.ledger import DIFFERENTIAL_SHARPE, DRAWDOWN, LOG_RETURN, TURNOVER
from moe_trader.option import option


@option
class LogReturn(Reward):
    """The log change of equity: an episode's rewards sum to its log profit."""

    def kernel(self) -> tuple[int, float]:
        """Return the kernel's name for it."""
        return LOG_RETURN, 0.0


@option
class DifferentialSharpe(Reward):
    """The differential Sharpe ratio: how much this bar's return raises an exponential Sharpe ratio.

    Moody and Saffell, "Reinforcement learning for trading" (NIPS 1998), equation for D_t with adaptation rate eta:
    (B dA - A dB / 2) / (B - A^2)^(3/2), where A and B are exponential means of the return and of its square. The paper
    leaves open where they start. From zero, the first returns, divided by a variance that is hardly there, would be
    rewards of a million; so A starts at 0 and B at the variance of a training bar, as if the account had held the
    market before, and the variance B - A^2 counts as no less than a hundredth of that when the account stays flat.

    :param eta: adaptation rate; 1 / eta is about how many bars the ratio remembers
    """

    eta: Probability

    def kernel(self) -> tuple[int, float]:
        """Return the kernel's name for it, and eta."""
        return DIFFERENTIAL_SHARPE, self.eta

    def has_unit(self) -> bool:
        """Return False: a ratio of returns has no unit."""
        return False


@option
class DrawdownPenalised(Reward):
    """The log return, less ``weight`` times what the log drawdown deepened by.

    :param weight: 0 is the log return
    """

    weight: NonNegative

    def kernel(self) -> tuple[int, float]:
        """Return the kernel's name for it, and the weight."""
        return DRAWDOWN, self.weight


@option
class TurnoverPenalised(Reward):
    """The log return, less ``weight`` times the amount traded over equity.

    :param weight: in units of log return per unit of turnover
    """

    weight: NonNegative

    def kernel(self) -> tuple[int, float]:
        """Return the kernel's name for it, and the weight."""
        return TURNOVER, self.weight

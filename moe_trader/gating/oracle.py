"""The oracle gate: what knowing the regime would be worth."""

from __future__ import annotations

from moe_trader.gate_input import GateInput
from moe_trader.gating.rule import Rule
from moe_trader.option import option


@option
class Oracle(Rule):
    """g = (1 - floor) onehot(experts[z_t]) + floor / K, where z_t is the true regime: nobody can trade by it.

    For: what would a perfect gate be worth? It needs a market that knows its regimes, ``env=synthetic``. Under PPO:
    legal, as :class:`~moe_trader.gating.rule.Rule`, whose settings it has.
    """

    def reads(self) -> GateInput:
        """Return the true regime of the newest bar."""
        return GateInput(of="true_regime")

    def caveat(self) -> str:
        """Return that nobody can trade by it."""
        return "The oracle gate sees the market's true regimes: what its mixture earns is not tradable."

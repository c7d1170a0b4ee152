"""The oracle gate: what knowing the regime would be worth."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.gating.rule import RegimeNetwork, assignment
from moe_trader.option import option
from moe_trader.sight import Sight


@option
class Oracle(Gate):
    """g = (1 - floor) onehot(experts[z_t]) + floor / K, where z_t is the true regime: nobody can trade by it.

    For: what would a perfect gate be worth? It needs a market that knows its regimes, ``env=synthetic``. Under PPO:
    legal, nothing is learned and the weights are a function of the bar.

    :param experts: number of the expert (from 1) of each regime; ``None``: as many neighbouring regimes for each expert
    :param floor: share of the weight that is spread evenly, so that no expert starves
    :param losses: name -> term added to the training loss
    """

    experts: list[PositiveInt] | None
    floor: Annotated[float, Field(ge=0, lt=1)]
    losses: dict[str, GateLoss]

    def reads(self) -> Sight:
        """Return the true regime of the newest bar."""
        return Sight(of="true_regime")

    def caveat(self) -> str:
        """Return that nobody can trade by it."""
        return "The oracle gate sees the market's true regimes: what its mixture earns is not tradable."

    def network(self, n_features: int, n_experts: int) -> GatingNetwork:
        """Return a network without parameters. :raises ConfigError: when regimes and experts do not fit."""
        return RegimeNetwork(assignment(self.experts, n_features, n_experts), n_experts, self.floor)

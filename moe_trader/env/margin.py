"""The maintenance margin: how much equity a position needs to stay open."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context
from typing import Any

from moe_trader.bounds import Probability
from moe_trader.env import Positions
from moe_trader.env.ledger import ROUNDING
from moe_trader.option import option


@option
class Margin:
    """Closes a position when equity falls below a fraction of the position's value.

    The ledger checks it at each close and fills it like any order, with costs. A gap may therefore still ruin the
    account. The next decision may open a position again.

    :param maintenance: smallest equity / |position value| that keeps a position open
    """

    maintenance: Probability

    def check(self, positions: Positions) -> None:
        """Refuse positions that this margin would close right after their fill.

        :raises ValueError: naming both settings and the largest maintenance that allows the positions
        """
        bound = positions.largest_target()
        if bound is None:
            return
        setting, largest = bound
        if largest * self.maintenance <= 1 + ROUNDING:
            return
        allowed = Context(prec=3, rounding=ROUND_FLOOR).create_decimal(1 / largest)
        raise ValueError(
            f"margin: env.margin.maintenance={self.maintenance:g} closes positions above "
            f"{1 / self.maintenance:.3g} x equity, but env.positions.{setting} allows {largest:g} x; set "
            f"env.margin.maintenance to {float(allowed):g} or less, choose smaller positions, or set env/margin=none"
        )


def none_if_empty(node: Any) -> Any:
    """Return ``None`` for ``{}``, as the option file ``none.yaml`` composes; anything else as it is."""
    return None if node == {} else node


def describe_margin(margin: Margin | None) -> str:
    """Return when a position is closed, in words."""
    return "none" if margin is None else f"closed below {100 * margin.maintenance:g} % equity over position"

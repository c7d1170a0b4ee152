"""How likely each regime is, by a Markov-switching model of the returns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from moe_trader.bounds import Bars, Count, Whole
from moe_trader.env import Feature, Floats, Instrument, MarketError
from moe_trader.env.features.markov_switching import MOST_REGIMES, MarkovSwitching, fit
from moe_trader.env.features.series import log_returns
from moe_trader.option import option

log = logging.getLogger(__name__)


@option
class RegimeProbabilities(Feature):
    """Filtered probability of each regime, given the returns so far, of one Markov-switching model for all instruments.

    Regimes differ in mean, volatility and autocorrelation of log returns, and are numbered from the calmest to the
    wildest. The model is fitted on the training split; its filter looks back alone. See
    :mod:`moe_trader.env.features.markov_switching`.

    :param states: regimes, K
    :param order: 1: a return also depends on the one before, by a coefficient of each regime; 0: it does not
    :param starts: starting points of the fit
    :param warmup_bars: bars after which the filter has forgotten how it began
    :param model: what was fitted; ``None``: nothing yet
    """

    slow: ClassVar[bool] = True
    for_gate: ClassVar[bool] = True

    states: Annotated[Whole, Field(ge=2, le=MOST_REGIMES)]
    order: Annotated[Whole, Field(ge=0, le=1)]
    starts: Count
    warmup_bars: Bars
    model: MarkovSwitching | None

    def __post_init__(self) -> None:
        if self.model is not None and len(self.model.volatility) != self.states:
            raise ValueError(f"model: expected {self.states} regimes, as states says, got {len(self.model.volatility)}")

    def columns(self) -> list[str]:
        """Return ``regime_1_probability``, ..."""
        return [f"regime_{number}_probability" for number in range(1, self.states + 1)]

    def warmup(self) -> int:
        """Return ``warmup_bars``."""
        return self.warmup_bars

    def fit(self, series: Sequence[Instrument]) -> RegimeProbabilities:
        """Return the feature with its model. :raises MarketError: where the returns show no such regimes."""
        if self.model is not None:
            return self
        returns = [np.diff(np.log(one.close)) for one in series]
        model = fit(returns, self.states, self.order, self.starts)
        log.info("Regimes fitted on %d bars: %s", sum(map(len, series)), "; ".join(model.described()))
        return replace(self, model=model)

    def compute(self, instrument: Instrument) -> Floats:
        """Return shape ``(n_bars, states)``; rows sum to 1. :raises MarketError: where nothing was fitted."""
        if self.model is None:
            raise MarketError("the regimes are not fitted yet; prepare the task, or call fit with the training bars")
        returns = log_returns(instrument)
        return self.model.filter(returns.to_numpy(), returns.shift(1).fillna(0.0).to_numpy())[0]

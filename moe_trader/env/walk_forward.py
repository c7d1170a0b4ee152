"""Walk-forward: the same experiment on one stretch of history after the other, each time tested on bars not yet seen.

*What would look ahead.* A bar closes at t, the observation at t uses bars up to t, and the reward of the decision at t
is the change of equity over bar t + 1. Two splits that touch therefore share bars: the last reward of the earlier one
is a price of its last bar, and the first observations of the later one are computed from the earlier one's bars. That
is no look-ahead in trading (everything seen is past), but a test so close to training is not independent of it: it
begins on windows full of the very bars that the weights, the scaler or the choice of a model were fitted to.

*Purge* drops the last bars of the earlier split: as many as an observation uses (its window and the longest warm-up of
the features), so that no bar is both trained on and part of a later split's observation or reward. Exponential means
never forget entirely; their warm-up is where 98 % is forgotten. *Embargo* drops bars at the start of the later split
besides, for what outlasts the windows, such as clusters of volatility. Dropped bars are still seen as the past.

*One fold*, oldest bars left; the next fold's test begins where this one's ends:

    anchored   [train .................. purge][embargo validation purge][embargo test]
    rolling            [train .......... purge][embargo validation purge][embargo test]

Cuts fall on the same time for every instrument: if each were cut by its own number of bars, one would train on days on
which another is tested.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from moe_trader.bounds import BarsOrNone, Probability, Whole
from moe_trader.env import SPLITS, Market, MarketError, Segment, Split
from moe_trader.env.splits import place, stamps_of
from moe_trader.option import option


@option
class WalkForward(Split):
    """Train, validate and test on one of several folds, purged and under embargo; see the module's docstring.

    An instrument that has too few bars in a split of the fold (it was listed later, say) is not in that split.

    :param fold: which one, from 0 (the oldest) to ``folds - 1``
    :param folds: how many test splits, equally long, the bars after the first training and validation are cut into
    :param train: share of the market's bars that the first fold trains on
    :param validation: share of the bars between training and test
    :param anchored: train from the market's first bar on; else on the latest ``train`` share before the validation
    :param purge: bars dropped at the end of training and of validation, at least as many as an observation uses;
        ``None``: exactly as many
    :param embargo: bars dropped at the start of validation and of test
    """

    fold: Annotated[Whole, Field(ge=0, lt=1_000)]
    folds: Annotated[Whole, Field(gt=0, le=1_000)]
    train: Probability
    validation: Probability
    anchored: bool
    purge: BarsOrNone | None
    embargo: BarsOrNone

    def __post_init__(self) -> None:
        if self.fold >= self.folds:
            raise ValueError(
                f"fold: there is no fold {self.fold}; expected 0 to {self.folds - 1}, since folds={self.folds}"
            )
        if self.train + self.validation >= 1:
            raise ValueError(f"expected train + validation < 1, got {self.train} + {self.validation}")

    def segments(self, market: Market, lookback: int = 1) -> dict[str, list[Segment]]:
        """Return the fold's segments, empty for an instrument whose bars there are none, or purged.

        :raises MarketError: when purge is shorter than ``lookback``, or one of the splits would be empty
        """
        purge = lookback if self.purge is None else self.purge
        if purge < lookback:
            raise MarketError(
                f"env.split.purge: expected at least {lookback}, the bars an observation uses (env.window, what the "
                f"gate reads, and the longest warm-up of env.features), got {purge}; set env.split.purge=null to drop "
                "just as many"
            )
        cuts = self._cuts(market)
        # What each split loses at its start and at its end.
        loses = {"train": (0, purge), "validation": (self.embargo, purge), "test": (self.embargo, 0)}
        found: dict[str, list[Segment]] = {split: [] for split in SPLITS}
        for split, (first, last) in cuts.items():
            head, tail = loses[split]
            for index, one in enumerate(market.instruments):
                start, stop = place(one, first) + head, place(one, last) - tail
                found[split].append(Segment(index, start, max(start, stop)))
            if all(part.stop - part.start < 2 for part in found[split]):
                raise self._empty(market, split, cuts[split], head, tail)
        return found

    def _cuts(self, market: Market) -> dict[str, tuple[np.datetime64 | None, np.datetime64 | None]]:
        """Return the first stamp of each split and of what follows it; ``None``: the end of the market."""
        stamps = stamps_of(market)
        n = len(stamps)
        first_test = round(n * (self.train + self.validation))
        test, after = (first_test + round((n - first_test) * k / self.folds) for k in (self.fold, self.fold + 1))
        validation = max(test - round(n * self.validation), 0)
        train = 0 if self.anchored else max(validation - round(n * self.train), 0)
        edges = [stamps[at] if at < n else None for at in (train, validation, test, after)]
        return {split: (edges[place], edges[place + 1]) for place, split in enumerate(SPLITS)}

    def _empty(
        self,
        market: Market,
        split: str,
        cut: tuple[np.datetime64 | None, np.datetime64 | None],
        head: int,
        tail: int,
    ) -> MarketError:
        bars = max(place(one, cut[1]) - place(one, cut[0]) for one in market.instruments)
        return MarketError(
            f"{market.name}: fold {self.fold} of env.split has no {split} bars: of {bars} bars between its cuts, the "
            f"embargo takes {head} and the purge {tail}; use fewer folds, larger shares or shorter feature spans"
        )

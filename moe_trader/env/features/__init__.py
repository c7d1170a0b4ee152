"""What an agent sees of a market: causal, scale-free columns, one file for each kind, and their scaler.

A feature is an option derived from :class:`~moe_trader.env.Feature`; ``env.features`` maps names to features, and
``env.gate_features`` picks those that the gate sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moe_trader.env import Feature, Floats, Instrument, Market, MarketError, Segment
from moe_trader.env.features.series import SMALLEST
from moe_trader.option import is_option


def check_columns(features: Mapping[str, Feature]) -> None:
    """Refuse no features at all, what is no warm-up or no column, and a column that two of them give.

    :raises ValueError: naming column and features
    """
    if not features:
        raise ValueError("features: expected at least one, such as env/features=multi_horizon")
    owner: dict[str, str] = {}
    for name, feature in features.items():
        warmup, columns, own = feature.warmup(), feature.columns(), type(feature).__name__
        if isinstance(warmup, bool) or not isinstance(warmup, int | np.integer) or warmup < 0:
            raise ValueError(
                f"features.{name}: expected {own}.warmup() to be a whole number, 0 or more, got {warmup!r}"
            )
        if (
            not isinstance(columns, list | tuple)
            or not columns
            or not all(isinstance(column, str) for column in columns)
        ):
            raise ValueError(f"features.{name}: expected {own}.columns() to be a list of names, got {columns!r}")
        for column in columns:
            if column in owner:
                where = f"in {owner[column]!r} and {name!r}" if owner[column] != name else f"twice in {name!r}"
                raise ValueError(f"features: column {column!r} stands {where}; give each its own spans")
            owner[column] = name


def lookback(features: Mapping[str, Feature], window: int) -> int:
    """Return how many bars an observation of ``window`` rows uses, its own among them."""
    return window + max(feature.warmup() for feature in features.values())


def learned(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """Return those that have something to fit."""
    return {name: feature for name, feature in features.items() if type(feature).fit is not Feature.fit}


def fitted(features: Mapping[str, Feature], market: Market, train: Sequence[Segment]) -> dict[str, Feature]:
    """Return the features, each fitted on the training bars, of which alone it gets copies.

    :raises MarketError: naming the feature that cannot be fitted, or that would be fitted a second time
    """
    found, series = dict(features), [_only(market.instruments[part.instrument], part) for part in train]
    for name, feature in learned(features).items():
        own = type(feature).__name__
        try:
            found[name] = feature.fit(series)
        except MarketError as error:
            raise MarketError(f"env.features.{name}: {error} (to leave it out: '~env.features.{name}')") from None
        if not is_option(type(found[name])) or found[name].fit(series) is not found[name]:
            raise MarketError(
                f"env.features.{name}: expected {own}.fit() to return an option that holds what was fitted, and that "
                f"returns itself when it is fitted again, got {type(found[name]).__name__}; mend {own}.fit"
            )
    return found


def rows(features: Mapping[str, Feature], instrument: Instrument) -> Floats:
    """Compute every feature of one instrument, side by side: shape ``(n_bars, n_columns)``.

    :raises MarketError: naming the feature, where its rows do not fit its columns or are not finite after its warm-up
    """
    return np.concatenate([_finite(name, feature, instrument) for name, feature in features.items()], 1)


def computed(name: str, feature: Feature, instrument: Instrument) -> Floats:
    """Return the rows of one feature. :raises MarketError: naming it, where they are no numbers or do not fit."""
    culprit = f"{type(feature).__name__}.compute"
    try:
        given = feature.compute(instrument)
    except Exception as error:
        if isinstance(error, ValueError) and "read-only" in str(error):
            raise MarketError(
                f"env.features.{name}: {culprit} changes the bars of {instrument.symbol}, which are traded too "
                f"({error}); change a copy, as in close = instrument.close.copy()"
            ) from error
        error.add_note(f"while computing env.features.{name} from {len(instrument)} bars of {instrument.symbol}")
        raise
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # a tensor with a gradient, 10**400
        raise MarketError(f"env.features.{name}: expected numbers, got others ({error}); mend {culprit}") from None
    expected = (len(instrument), len(feature.columns()))
    if found.shape != expected:
        raise MarketError(
            f"env.features.{name}: expected rows of shape {expected} ({expected[0]} bars of {instrument.symbol}, "
            f"columns {', '.join(feature.columns())}), got {found.shape}; mend {culprit}"
        )
    return found


def _finite(name: str, feature: Feature, instrument: Instrument) -> Floats:
    found = computed(name, feature, instrument)
    bad = np.argwhere(~np.isfinite(found[feature.warmup() :]))
    if len(bad):
        bar, column = bad[0] + (feature.warmup(), 0)
        raise MarketError(
            f"env.features.{name}: {feature.columns()[column]} is {found[bar, column]} at {instrument.time[bar]} "
            f"({instrument.symbol}, bar {bar}); expected finite numbers after a warm-up of {feature.warmup()} bars: "
            f"mend {type(feature).__name__}.compute or make its warmup() longer"
        )
    return found


def _only(one: Instrument, part: Segment) -> Instrument:
    """Return some of an instrument's bars, without their true regimes."""
    names = ("time", "open", "high", "low", "close", "volume")
    columns = {name: getattr(one, name)[part.start : part.stop].copy() for name in names}
    return dataclasses.replace(one, **columns, regime=None)


@dataclass(frozen=True)
class Scaler:
    """Standardises feature columns; fitted on the training split, it travels with the agent.

    :param mean: per column
    :param scale: standard deviation per column, 1 for a column that does not vary
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, rows: Floats) -> Scaler:
        """Fit on ``rows`` of shape ``(n, n_columns)``."""
        spread = rows.std(axis=0)
        spread[spread < SMALLEST] = 1.0
        return cls(tuple(rows.mean(axis=0).tolist()), tuple(spread.tolist()))

    def apply(self, rows: Floats, clip: float) -> Floats:
        """Return the standardised rows, clipped to ``[-clip, clip]``."""
        return np.clip((rows - np.array(self.mean)) / np.array(self.scale), -clip, clip)

"""Does the gate specialise? Numbers that say so, and whether chance could have produced them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moe_trader.evaluation import Floats
from moe_trader.evaluation.walk import Trace

SHIFTS = 500

MEASURES = {
    "effective_experts": "exp of the entropy of the importances: 1, one expert does everything, to K, all do the same",
    "gate_entropy": "mean entropy of a bar's weights, nats: 0 where the gate has made up its mind",
    "switch_rate": "share of bars on which another expert takes the lead",
    "dwell": "mean number of bars for which an expert keeps the lead",
    "routing_lag": "median bars from a change of regime until the new regime's usual leader leads",
    "nmi": "normalised mutual information of leading expert and regime: 0, unrelated, to 1, one to one",
    "nmi_adjusted": "the same, less what shifting the regimes in time leaves of it: 0 is chance",
}

Labels = NDArray[np.int64]


def specialisation_table(trace: Trace, seed: int) -> pd.DataFrame:
    """Return one row a measure of :data:`MEASURES`, over all instruments of the split.

    ``p_value`` is that of the mutual information under circular shifts: regimes last, so labels that are drawn anew bar
    by bar would call any slow gate significant. Regimes are shifted against the gate by a random share of the bars, the
    same share in every instrument: what instruments have in common stays. The rest is what two slow series share by
    chance (Politis and Romano's circular blocks, of which this is the largest).
    """
    pooling = trace.pooling
    leads = [trace.gate[: len(one), i].argmax(1) for i, one in enumerate(trace.instruments)]
    regimes = [np.asarray(one.regime) for one in trace.instruments]
    switches = np.array([(np.diff(lead) != 0).sum() for lead in leads])
    observed, adjusted, p_value = information(leads, regimes, pooling.bar_weights, seed)
    found = {
        "effective_experts": float(np.exp(_entropy(pooling.mean(trace.gate)))),
        "gate_entropy": float(pooling.mean(_entropy(trace.gate))),
        "switch_rate": float(pooling.weights @ (switches / np.maximum(pooling.n_bars - 1, 1))),
        "dwell": float(1 / (pooling.weights @ ((switches + 1) / pooling.n_bars))),
        "routing_lag": routing_lag(leads, regimes, pooling.bar_weights),
        "nmi": observed,
        "nmi_adjusted": adjusted,
    }
    rows = [{"split": trace.split, "measure": name, "value": found[name]} for name in MEASURES]
    table = pd.DataFrame(rows)
    table["p_value"] = np.where(table["measure"].isin(["nmi", "nmi_adjusted"]), p_value, np.nan)
    return table


def information(
    leads: Sequence[Labels], regimes: Sequence[Labels], weights: Floats, seed: int
) -> tuple[float, float, float]:
    """Return normalised mutual information, the same adjusted for chance, and its p-value, under circular shifts.

    With information I, entropies H and K and the mean information of shifted regimes E: I / ((H + K) / 2), and
    (I - E) / ((H + K) / 2 - E). Where either never changes there is nothing to know: NaN.

    :param leads: the leading expert of each bar, an array for each instrument
    :param regimes: the regime of each bar, -1 where it is not known
    :param weights: of a bar of each instrument, shape ``(n_instruments,)``
    """
    counts = _counts(leads, regimes, weights)
    most = (_entropy(counts.sum(0) / counts.sum()) + _entropy(counts.sum(1) / counts.sum())) / 2
    if min((counts.sum(0) > 0).sum(), (counts.sum(1) > 0).sum()) < 2:
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    seen, longest = _information(counts), max(map(len, regimes))
    by_chance = np.empty(SHIFTS)
    for number in range(SHIFTS):
        shift = int(rng.integers(longest))  # of the longest; the same share of the others
        shifted = [np.roll(regime, shift * len(regime) // longest) for regime in regimes]
        by_chance[number] = _information(_counts(leads, shifted, weights))
    expected = by_chance.mean()
    p_value = (1 + np.sum(by_chance >= seen - 1e-12)) / (1 + SHIFTS)
    return float(seen / most), float((seen - expected) / (most - expected)), float(p_value)


def routing_lag(leads: Sequence[Labels], regimes: Sequence[Labels], weights: Floats) -> float:
    """Return the median bars from a change of regime until its usual leader leads; NaN if leaders never differ.

    A stay that ends before its leader has led counts with its whole length: the median is then a lower bound.

    :param weights: of a bar of each instrument, which decide who usually leads, shape ``(n_instruments,)``
    """
    counts = _counts(leads, regimes, weights)
    usual = counts.argmax(0)  # regime -> expert
    lags = []
    for lead, regime in zip(leads, regimes, strict=True):
        starts = np.flatnonzero(np.diff(regime)) + 1
        for start, stop in zip(starts, np.append(starts, len(regime))[1:], strict=True):
            before, after = regime[start - 1], regime[start]
            if min(before, after) < 0 or usual[before] == usual[after]:
                continue
            led = np.flatnonzero(lead[start:stop] == usual[after])
            lags.append(led[0] if len(led) else stop - start)
    return float(np.median(lags)) if lags else float("nan")


def _counts(leads: Sequence[Labels], regimes: Sequence[Labels], weights: Floats) -> Floats:
    """Return the share of bars on which each expert leads in each regime, shape ``(n_experts, n_regimes)``."""
    lead, regime = np.concatenate(leads), np.concatenate(regimes)
    weight = np.repeat(weights, [len(one) for one in leads])
    known = regime >= 0
    lead, regime, weight = lead[known], regime[known], weight[known]
    shape = (lead.max(initial=0) + 1, regime.max(initial=0) + 1)
    return np.bincount(lead * shape[1] + regime, weight, minlength=shape[0] * shape[1]).reshape(shape)


def _information(counts: Floats) -> float:
    joint = counts / counts.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / independent[there])).sum())


def _entropy(weights: Floats) -> Floats:
    entropy: Floats = -(weights * np.log(np.where(weights > 0, weights, 1.0))).sum(-1)
    return entropy

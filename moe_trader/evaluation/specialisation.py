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
    by bar would call any slow gate significant. Each instrument's regimes are shifted against its gate by a random
    number of bars; what remains is what two slow series share by chance (Politis and Romano's circular blocks, of which
    this is the largest).
    """
    leads = [trace.gate[: len(one), i].argmax(1) for i, one in enumerate(trace.instruments)]
    regimes = [np.asarray(one.regime) for one in trace.instruments]
    weights = np.concatenate([trace.gate[: len(one), i] for i, one in enumerate(trace.instruments)])
    switches = sum(int((np.diff(lead) != 0).sum()) for lead in leads)
    observed, adjusted, p_value = information(leads, regimes, seed)
    found = {
        "effective_experts": float(np.exp(_entropy(weights.mean(0)))),
        "gate_entropy": float(_entropy(weights).mean()),
        "switch_rate": switches / max(sum(len(lead) - 1 for lead in leads), 1),
        "dwell": len(weights) / (switches + len(leads)),
        "routing_lag": routing_lag(leads, regimes),
        "nmi": observed,
        "nmi_adjusted": adjusted,
    }
    rows = [{"split": trace.split, "measure": name, "value": found[name]} for name in MEASURES]
    table = pd.DataFrame(rows)
    table["p_value"] = np.where(table["measure"].isin(["nmi", "nmi_adjusted"]), p_value, np.nan)
    return table


def information(leads: Sequence[Labels], regimes: Sequence[Labels], seed: int) -> tuple[float, float, float]:
    """Return normalised mutual information, the same adjusted for chance, and its p-value, under circular shifts.

    With information I, entropies H and K and the mean information of shifted regimes E: I / ((H + K) / 2), and
    (I - E) / ((H + K) / 2 - E). Where either never changes there is nothing to know: NaN.

    :param leads: the leading expert of each bar, an array for each instrument
    :param regimes: the regime of each bar, -1 where it is not known
    """
    counts = _counts(leads, regimes)
    most = (_entropy(counts.sum(0) / counts.sum()) + _entropy(counts.sum(1) / counts.sum())) / 2
    if min((counts.sum(0) > 0).sum(), (counts.sum(1) > 0).sum()) < 2:
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    seen = _information(counts)
    by_chance = np.empty(SHIFTS)
    for number in range(SHIFTS):
        shifted = [np.roll(regime, rng.integers(len(regime))) for regime in regimes]
        by_chance[number] = _information(_counts(leads, shifted))
    expected = by_chance.mean()
    p_value = (1 + np.sum(by_chance >= seen - 1e-12)) / (1 + SHIFTS)
    return float(seen / most), float((seen - expected) / (most - expected)), float(p_value)


def routing_lag(leads: Sequence[Labels], regimes: Sequence[Labels]) -> float:
    """Return the median bars from a change of regime until its usual leader leads; NaN if leaders never differ.

    A stay that ends before its leader has led counts with its whole length: the median is then a lower bound.
    """
    counts = _counts(leads, regimes)
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


def _counts(leads: Sequence[Labels], regimes: Sequence[Labels]) -> Floats:
    """Return how often each expert leads in each regime, shape ``(n_experts, n_regimes)``."""
    lead, regime = np.concatenate(leads), np.concatenate(regimes)
    lead, regime = lead[regime >= 0], regime[regime >= 0]
    shape = (lead.max(initial=0) + 1, regime.max(initial=0) + 1)
    return np.bincount(lead * shape[1] + regime, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def _information(counts: Floats) -> float:
    joint = counts / counts.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / independent[there])).sum())


def _entropy(weights: Floats) -> Floats:
    entropy: Floats = -(weights * np.log(np.where(weights > 0, weights, 1.0))).sum(-1)
    return entropy

"""What to watch while a mixture trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from moe_trader.gating import entropy
from moe_trader.mixture.choice import Choice


def mixture_metrics(mixture: Choice, names: Sequence[str]) -> dict[str, float]:
    """Return importance and load of each expert, gate entropy, effective number of experts and disagreement.

    *Importance* is an expert's mean gate weight, *load* the share of states on which it has the largest. The effective
    number of experts is exp(H) of the importance: 1 when one expert does everything, K when all do the same. *Gate
    entropy* is the mean entropy of one state's weights (nats): 0 for a gate that has made up its mind. *Disagreement*
    is the experts' mean Jensen-Shannon divergence (nats): 0 when all act the same way.
    """
    weights = mixture.weights
    importance = weights.mean(dim=0)
    load = torch.bincount(weights.argmax(dim=-1), minlength=weights.shape[1]) / len(weights)
    metrics = {f"importance/{name}": float(value) for name, value in zip(names, importance, strict=True)}
    metrics |= {f"load/{name}": float(value) for name, value in zip(names, load, strict=True)}
    metrics["mixture/gate_entropy"] = float(entropy(weights).mean())
    metrics["mixture/effective_experts"] = float(torch.exp(entropy(importance)))
    with torch.random.fork_rng(devices=[]):  # a Gaussian mixture estimates it by drawing: training must not notice
        metrics["mixture/disagreement"] = float(mixture.disagreement().mean())
    return metrics

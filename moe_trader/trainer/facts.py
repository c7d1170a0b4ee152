"""What the head of a report says of a run, and what one must know before believing its results."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import moe_trader
from moe_trader.env.costs import describe_costs
from moe_trader.env.margin import describe_margin

if TYPE_CHECKING:
    from moe_trader.env.task import PreparedTask
    from moe_trader.evaluation.evaluate import Tables
    from moe_trader.settings import RunSettings


def facts(settings: RunSettings, task: PreparedTask) -> dict[str, object]:
    """Return what a report's head says of a run."""
    kinds = Counter(settings.expert.kinds())
    return {
        "market": task.market.name,
        "instruments": len(task.market.instruments),
        "experts": ", ".join(f"{n} {kind} expert{'s' if n > 1 else ''}" for kind, n in kinds.items()),
        "gate": f"{type(settings.gating).__name__}; losses: {', '.join(settings.gating.losses) or 'none'}",
        "seen by the gate alone": seen_by_gate_alone(settings) or "nothing",
        "training steps": f"{settings.trainer.steps(task, settings.expert):,}",
        "seed": settings.seed,
        "fill": settings.env.fill.replace("_", " "),
        "costs": describe_costs(task.rules.costs),
        **({"costs in training": training_costs(settings, task)} if settings.trainer.cost_multiple != 1 else {}),
        "margin": describe_margin(settings.env.margin),
        "moe_trader": moe_trader.__version__,
    }


def training_costs(settings: RunSettings, task: PreparedTask) -> str:
    """Return what the training environment charges, in words."""
    multiple = settings.trainer.cost_multiple
    return f"{multiple:g} times those of evaluation: {describe_costs(task.rules.costs.times(multiple))}"


def notes(settings: RunSettings, tables: Tables) -> list[str]:
    """Return what one must know before believing a run's results: :func:`cautions`, and what is not tradable."""
    found = []
    if settings.env.fill == "this_close":
        found.append("Orders were filled at the close they were decided on. Nobody can trade like that.")
    if "bayes_filter" in tables.equity:
        found.append("The Bayes filter knows the market's true parameters: a reference, not tradable.")
    if "oracle_routing" in tables.equity and not settings.env.regimes.causal:
        found.append("Oracle routing uses the market's true regimes: a reference, not tradable.")
    return [*found, *cautions(settings, tables)]


def cautions(settings: RunSettings, tables: Tables) -> list[str]:
    """Return what is logged as a warning too: the gate's caveat, and bankruptcies."""
    caveat = settings.gating.caveat()
    found = [caveat] if caveat else []
    broke = tables.comparisons.query("bankrupt != ''")
    for split, parties in broke.groupby("split", sort=False)["bankrupt"]:
        who = ", ".join(dict.fromkeys(name for names in parties for name in names.split(" and ")))
        found.append(f"Bankrupt on the {split} split, closed and earning nothing after: {who}.")
    return found


def seen_by_gate_alone(settings: RunSettings) -> str:
    """Return the features that no expert sees, as text; of one expert, or a gate that reads regimes, there are none."""
    hidden = len(settings.expert.names()) > 1 and settings.gating.gate_input().of == "features"
    return ", ".join(settings.env.seen_by_gate_alone) if hidden else ""

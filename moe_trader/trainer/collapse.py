"""How a mixture fails without an error, found while it trains: dead experts, one for all, and all the same."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

DEAD_BELOW = 0.02  # importance; or half of an equal share, if that is less
LONE_ABOVE = 0.95  # importance, as a share of what the floor leaves to one expert
EVEN_ABOVE = 0.95  # gate entropy, as a share of log K
ALIKE_BELOW = 0.005  # disagreement, nats
COLLAPSED_AFTER = 5  # updates in a row
ALIKE_FROM = 0.5  # fraction of training: mixtures begin alike,
ALIKE_AFTER = 10  # ... and so many updates are too few to say: healthy gates take up to 5 to differ

_KEEP_ALIVE = ("MinimumImportance", "Importance", "LoadBalance", "Sinkhorn")


class CollapseWatch:
    """Tells of each failure once, when it has lasted for five updates, with its causes and what to try.

    - *Dead*: an expert's importance is below 0.02. It gets no gradient, so that it does not come back by itself.
    - *Alone*: of three or more experts, one has nearly all the weight that the floor leaves to one.
    - *Alike*: late in training the gate is still even, and the experts still act alike. Then all get the same gradient.

    :param names: of the experts
    :param gating: the gate's settings, as a config has them
    :param frozen: names of experts that do not learn. Such an expert cannot die: if the gate hardly uses it, that is
        reported without advice
    """

    def __init__(self, names: Sequence[str], gating: Mapping[str, Any], frozen: Collection[str] = ()) -> None:
        self._names, self._gating, self._frozen = list(names), gating, set(frozen)
        self._lasting: dict[str, int] = {}
        self._told: set[str] = set()
        self._updates = 0

    def state(self) -> dict[str, Any]:
        """Return what was seen so far, as JSON holds it."""
        return {"lasting": dict(self._lasting), "reported": sorted(self._told), "updates": self._updates}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what an earlier watch saw."""
        self._lasting, self._told = dict(state["lasting"]), set(state["reported"])
        self._updates = state["updates"]

    def look(self, metrics: Mapping[str, float], progress: float) -> list[str]:
        """Return what is to be told after an update.

        :param metrics: of the mixture, as :func:`moe_trader.mixture.metrics.mixture_metrics` names them
        :param progress: fraction of training done
        """
        self._updates += 1
        importance = {name: metrics[f"importance/{name}"] for name in self._names}
        leader = max(importance, key=importance.__getitem__)
        n, floor = len(self._names), self._gating.get("floor", 0.0)
        lone = n > 2 and importance[leader] > LONE_ABOVE * (1 - floor + floor / n)
        even = metrics["mixture/gate_entropy"] > EVEN_ABOVE * math.log(n)
        alike = even and metrics["mixture/disagreement"] < ALIKE_BELOW
        late = progress >= ALIKE_FROM and self._updates > ALIKE_AFTER

        told = [self._alone(leader)] if self._lasts("lone", lone) else []
        told += [self._alike()] if self._lasts("alike", alike and late) else []
        least = min(DEAD_BELOW, 0.5 / n)
        for name, value in importance.items():
            if self._lasts(f"dead {name}", value < least, hold=lone):
                told.append(self._dead(name, least))
        return told

    def _lasts(self, what: str, now: bool, hold: bool = False) -> bool:
        """Return whether ``what`` has lasted long enough and was not told yet; ``hold`` tells it later, if at all."""
        self._lasting[what] = self._lasting.get(what, 0) + 1 if now else 0
        if hold or self._lasting[what] < COLLAPSED_AFTER or what in self._told:
            return False
        self._told.add(what)
        return True

    def _dead(self, name: str, least: float) -> str:
        if name in self._frozen:
            return (
                f"the gate hardly uses {name}: its importance was below {least:.3g} for {COLLAPSED_AFTER} updates; it "
                "is frozen, so it loses nothing, and the gate can come back to it"
            )
        return _line(
            f"{name} is dead: its importance was below {least:.3g} for {COLLAPSED_AFTER} updates",
            *self._starving(),
            ["fewer experts (expert.count)"],
        )

    def _alone(self, leader: str) -> str:
        learning = set(self._names) - self._frozen - {leader}
        lost = "the others learn nothing" if learning else "the others, which are frozen, are not used"
        return _line(
            f"the gate has collapsed: {leader} had nearly all the weight for {COLLAPSED_AFTER} updates, and {lost}",
            *self._starving(),
            ["'gating/losses=balanced'", "a slower gate (expert.gate_lr_scale=0.3)"],
        )

    def _alike(self) -> str:
        if len(self._frozen) == len(self._names):
            return (
                f"all experts act the same: beyond {ALIKE_FROM:.0%} of training the gate gives them nearly equal "
                "weights. All of them are frozen (trainer.frozen), so this lasts; start from other experts "
                "(trainer.init_from), or let some learn (trainer.frozen=[])"
            )
        return _line(
            f"all experts act the same: beyond {ALIKE_FROM:.0%} of training the gate gives them nearly equal weights; "
            "either the market has no conditions that the gate can see (env.gate_features), or the experts have not "
            "separated yet",
            *self._causes(["Information"], "no loss rewards experts that differ", 0.05),
            ["a lower expert.ent_coef", "longer training (env.visits, trainer.total_timesteps)"],
        )

    def _starving(self) -> tuple[list[str], list[str]]:
        """Return why an expert could starve, and what to change."""
        causes, remedies = self._causes(_KEEP_ALIVE, "no loss keeps experts alive", 0.1)
        floor = self._gating.get("floor")
        if floor is not None:
            causes += ["gating.floor is 0"] if floor == 0 else []
            remedies.append("gating.floor=0.02" if floor == 0 else f"a higher gating.floor (now {floor:g})")
        if self._kind(self._gating) == "Entmax":
            causes.append("no gradient reaches a score whose weight is zero")
            remedies.insert(0, "gating=softmax")
        rate = self._gating.get("balance_rate")
        if rate is not None:
            causes += ["gating.balance_rate is 0"] if rate == 0 else []
            remedies.insert(
                0, "gating.balance_rate=0.01" if rate == 0 else f"a higher gating.balance_rate (now {rate:g})"
            )
        return causes, remedies

    @staticmethod
    def _kind(option: Mapping[str, Any]) -> str:
        name: str = option["_target_"].rpartition(".")[2]
        return name

    def _causes(self, kinds: Sequence[str], without: str, usual: float) -> tuple[list[str], list[str]]:
        """Return what the losses of these classes have to do with it, and what to change."""
        losses = {
            f"gating.losses.{name}": loss
            for name, loss in self._gating.get("losses", {}).items()
            if self._kind(loss) in kinds
        }
        if not losses:
            return [without], ["gating/losses=standard"]
        if on := [path for path, loss in losses.items() if loss.get("weight") != 0]:
            return [], [f"a higher {on[0]}.weight (now {losses[on[0]].get('weight')})"]
        off = next(iter(losses))
        return [f"{off}.weight is 0"], [f"{off}.weight={usual:g}"]


def _line(found: str, causes: Sequence[str], remedies: Sequence[str], more: Sequence[str]) -> str:
    because = f" ({' and '.join(causes)})" if causes else ""
    *first, last = [*remedies, *more]
    return f"{found}{because}; try {', '.join(first)} or {last}"

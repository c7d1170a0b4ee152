"""Warm start: a run takes experts, gate or both from the bundle of another run, and may freeze experts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from moe_trader.manifest import MANIFEST, WEIGHTS, BundleError
from moe_trader.option import OWN, ConfigError, describe
from moe_trader.run_files import BUNDLE, SINGLE_POLICY
from moe_trader.trainer.source import INIT_FROM, find_bundle

log = logging.getLogger(__name__)

_RESTARTED = "the optimiser's averages, the schedules (learning rate, loss weights, temperature), the step count"


class WarmAgent(Protocol):
    """What a warm start needs of an agent; :class:`~moe_trader.agent.MoEAgent` is one."""

    expert: Any
    gating: Any

    @property
    def expert_names(self) -> list[str]:
        """Names of the experts."""

    @property
    def frozen(self) -> list[str]:
        """Names of the experts that do not learn."""

    def freeze(self, names: Sequence[str]) -> None:
        """Have these experts stand still."""

    def load_parts(
        self, path: Path, parts: Sequence[str], *, task: Mapping[str, Any], plugins: Sequence[str]
    ) -> dict[str, Any]:
        """Take parts from a bundle; return its manifest."""


@dataclass(frozen=True)
class WarmStart:
    """What an agent starts with; the settings are those of :class:`~moe_trader.trainer.Trainer`.

    :param init_from: a run directory or a bundle; ``None``: nothing is taken
    :param init_parts: ``"experts"``, ``"gate"`` or both
    :param frozen: names of experts that do not learn
    """

    init_from: str | None
    init_parts: Sequence[str]
    frozen: Sequence[str]

    def apply(self, agent: WarmAgent, task: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Load and freeze, log both, and return what the agent's bundle should remember of its task.

        :param task: of the run, ``PreparedTask.summary()`` and more; ``None``: nothing is known of it
        :raises ConfigError: for a source that is not there, is damaged or does not fit, and for frozen experts that
            are none or leave nothing to learn
        """
        if self.init_from is not None:
            task = self._load(agent, find_bundle(self.init_from), task or {})
        if self.frozen:
            self.freeze(agent)
            if self.init_from is None or "experts" not in self.init_parts:
                names = ", ".join(self.frozen)
                log.warning("trainer.frozen: %s: random initial weights; trainer.init_from loads trained ones", names)
        return task

    def freeze(self, agent: WarmAgent) -> None:
        """Freeze the experts. :raises ConfigError: as :meth:`apply`."""
        try:
            agent.freeze(self.frozen)
        except ConfigError as error:
            raise ConfigError(f"trainer.{error}") from None

    def _load(self, agent: WarmAgent, path: Path, task: Mapping[str, Any]) -> dict[str, Any]:
        """Load the parts from a bundle, log them, and return the task with a record of them."""
        try:
            manifest = agent.load_parts(path, self.init_parts, task=task, plugins=_packages(agent))
        except (BundleError, ConfigError) as error:
            raise ConfigError(f"trainer.init_from: {error}") from None
        for line in self._lines(path, manifest, task):
            log.info("%s", line)
        trained_until = _trained_until(manifest["task"])
        if warning := _look_ahead(path, trained_until, task):
            log.warning("%s", warning)
        record = {
            "path": str(path),
            "sha256": manifest["files"][WEIGHTS],
            "parts": [part for part in ("experts", "gate") if part in self.init_parts],
            "trained_until": trained_until,
        }
        return {**task, INIT_FROM: record}

    def _lines(self, path: Path, manifest: Mapping[str, Any], task: Mapping[str, Any]) -> list[str]:
        """Return what is taken and what is not, a line each."""
        source = manifest["task"]
        taken = {"experts": f"the experts ({', '.join(manifest['experts'])})", "gate": "the gate"}
        loaded = " and ".join(text for part, text in taken.items() if part in self.init_parts)
        fresh = "".join(f", the {part}" for part in taken if part not in self.init_parts)
        facts = [f"market {source['market']}"] if "market" in source else []
        facts += [f"seed {manifest['seed']}"]
        steps = manifest.get("steps")  # 0 in a bundle that was loaded and saved
        facts += [f"{steps:,} steps"] if type(steps) is int and steps > 0 else []
        lines = [
            f"Warm start: {loaded} from {path} ({', '.join(facts)})",
            f"From zero: {_RESTARTED}{fresh}",
        ]
        if line := scaler_line(source, task):
            lines.append(line)
        if task.get("fitted"):
            lines.append(f"Fitted on this run's training split too, not taken: features {', '.join(task['fitted'])}")
        return lines

    def of_single_policy(self, agent: WarmAgent, task: Mapping[str, Any]) -> WarmStart:
        """Return with what the parameter-matched single policy starts: the source's own one, or nothing.

        It is that of ``single_policy/bundle``, if the source is a run directory from which both parts are taken, and if
        it fits. Nothing of it is frozen. Where it starts from zero, a warning gives the reason.
        """
        parts, nothing = ["experts", "gate"], WarmStart(None, ["experts", "gate"], [])
        if self.init_from is None:
            return nothing
        path = Path(self.init_from) / SINGLE_POLICY / BUNDLE
        if {*self.init_parts} != {*parts}:
            reason = f"trainer.init_parts takes only the {self.init_parts[0]}"
        elif (Path(self.init_from) / MANIFEST).is_file():
            reason = "trainer.init_from is a bundle; a run directory has one for the single policy"
        elif not (path / MANIFEST).is_file():
            reason = f"there is no {path}"
        else:
            try:
                agent.load_parts(path, parts, task=task, plugins=_packages(agent))
                return WarmStart(str(path), parts, [])
            except (BundleError, ConfigError) as error:
                reason = str(error)
        log.warning("The single policy starts from zero (%s). %s", reason, UNEQUAL)
        return nothing


UNEQUAL = (
    "The mixture started from trained weights (trainer.init_from) and the single policy from zero: their comparison "
    "favours the mixture."
)


def scaler_line(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Return how the scaler of a run differs from that of its source; ``None`` where one of them is not known."""
    try:
        columns, scalers = list(here["features"]), [one["scaler"] for one in (there, here)]
        means, scales = ([list(one[key]) for one in scalers] for key in ("mean", "scale"))
        ratios = {name: new / old for name, old, new in zip(columns, *scales, strict=True)}
        moves = {name: abs(new - old) / scale for name, old, new, scale in zip(columns, *means, scales[0], strict=True)}
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not any(moves.values()) and all(ratio == 1 for ratio in ratios.values()):
        return "Scaler: fitted on this run's training split, with the same result as the source's"
    moved = max(moves, key=moves.__getitem__)
    low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    return (
        f"Scaler: fitted on this run's training split. Against the source, means move by up to {moves[moved]:.2f} "
        f"standard deviations ({moved}), and standard deviations change by factors of {ratios[low]:.2f} ({low}) to "
        f"{ratios[high]:.2f} ({high})"
    )


def _trained_until(source: Mapping[str, Any]) -> str | None:
    """Return the last day that a source learned from, it or the source that it started from; ``None``: not known."""
    periods, before = source.get("periods"), source.get(INIT_FROM)
    days: list[Any] = []
    try:
        days += [periods["train"][1]] if periods is not None else []
        days += [before["trained_until"]] if before is not None else []
    except (KeyError, IndexError, TypeError):  # anyone may have written the manifest
        return None
    return max((day for day in days if isinstance(day, str)), default=None)


def _look_ahead(path: Path, trained_until: str | None, task: Mapping[str, Any]) -> str | None:
    """Return a warning where a source learned from days that this run is judged on; splits by series have no days."""
    periods = task.get("periods")
    if trained_until is None or periods is None:
        return None
    judged_from = periods["validation"][0]
    if periods["train"][1] > judged_from or trained_until <= judged_from:
        return None
    return (
        f"Look-ahead: {path} was trained on bars up to {trained_until}, and this run validates from {judged_from} and "
        f"tests from {periods['test'][0]}: its results are not out of sample. Start from an earlier fold or an earlier "
        "training split"
    )


def _packages(agent: WarmAgent) -> list[str]:
    """Return the user's packages that the agent's own options come from: what they define may be built."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, Mapping):
            found.update(value.split(".")[0] for key, value in node.items() if key == "_target_")
        for value in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
            walk(value)

    walk([describe(agent.expert), describe(agent.gating)])
    return sorted(found - {OWN})

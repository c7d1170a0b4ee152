"""In what two agents differ that keeps the experts or the gate of one from being those of the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gymnasium import spaces

from moe_trader.expert import ExpertFamily
from moe_trader.gate_input import ObservationLayout
from moe_trader.gating import Gate

_NO_MEANING = ("minimum_trade", "penalty")  # settings of positions that change no action's meaning
_SAME_COLUMNS = "use the same features, in the same order, and the same env.window"
_SAME_GATE = "use the same gate, or take only the experts: trainer.init_parts=[experts]"


class Difference(NamedTuple):
    """A setting in which two agents differ, its two values, and the way out."""

    setting: str
    there: Any
    here: Any
    way_out: str

    def __str__(self) -> str:
        """Return all of it as a sentence."""
        return f"{self.setting}: {_short(self.there)} there, {_short(self.here)} here; {self.way_out}"


class Side(NamedTuple):
    """One of two agents that are compared.

    :param task: ``PreparedTask.summary()``, as far as it is known
    :param columns: names of the first columns of an observation, as far as they are known
    :param shapes: of every tensor, by its name in the model
    """

    task: Mapping[str, Any]
    expert: ExpertFamily
    gating: Gate
    layout: ObservationLayout
    action_space: spaces.Space
    columns: Sequence[str]
    shapes: Mapping[str, tuple[int, ...]]

    def named(self, columns: Sequence[int]) -> list[str]:
        """Return names of columns of an observation; of those not known, their numbers."""
        return [self.columns[one] if one < len(self.columns) else f"column {one}" for one in columns]

    @property
    def gate_is_named(self) -> bool:
        """Whether all columns that the gate sees are named: those of bars beyond the window are not."""
        return max(self.layout.gate) < len(self.columns)


def first_difference(there: Side, here: Side, parts: Collection[str]) -> Difference | None:
    """Return the first difference that keeps these parts from fitting; ``None``: they fit.

    :param there: the agent that they come from
    :param here: the one that takes them
    :param parts: ``"experts"``, ``"gate"`` or both
    """
    checks: list[Callable[[Side, Side], Iterator[Difference]]] = [_features, _names]
    if "experts" in parts:
        checks.append(_experts)
    if "gate" in parts:
        checks.append(_gate)
    checks.append(lambda there, here: _sizes(there, here, parts))
    found = (one for check in checks for one in check(there, here) if one.there != one.here)
    return next(found, None)


def _features(there: Side, here: Side) -> Iterator[Difference]:
    """Compare the columns of the market, which experts and gate share."""
    columns, own = (list(side.task.get("features") or ()) for side in (there, here))
    if not (columns and own):
        return
    if sorted(columns) == sorted(own):
        for at, names in enumerate(zip(columns, own, strict=True), start=1):
            way_out = "the same columns in another order, which weights do not follow; list env/features in that order"
            yield Difference(f"env.features: column {at}", *names, way_out)
        return
    lacking = ", ".join(name for name in columns if name not in own)
    more = ", ".join(name for name in own if name not in columns)
    yield Difference("env.features: columns of one only", lacking or "none", more or "none", "choose the same features")


def _names(there: Side, here: Side) -> Iterator[Difference]:
    """Compare who the experts are; a gate's weights stand for them."""
    names, own = there.expert.names(), here.expert.names()
    yield Difference("number of experts", len(names), len(own), f"set expert.count={len(names)}")
    yield Difference("names of the experts", names, own, "use the same expert.prefix")


def _experts(there: Side, here: Side) -> Iterator[Difference]:
    """Compare what experts see, what their actions mean, and their layers."""
    yield from _of_task(there, here, "window", "env.window")
    positions, own_positions = there.task.get("positions"), here.task.get("positions")
    if isinstance(positions, dict) and isinstance(own_positions, dict):
        yield from _each(positions, own_positions, "env.positions", leave_out=_NO_MEANING)
    spaces_ = str(there.action_space), str(here.action_space)
    yield Difference("action space", *spaces_, "use an environment with the same actions")
    if there.layout.experts != here.layout.experts:
        yield from _of_task(there, here, "gate_only", "env.gate_only")
    seen, own = there.named(there.layout.experts), here.named(here.layout.experts)
    yield from _columns("an expert's observation", seen, own)
    yield from _each(there.expert.shape(), here.expert.shape(), "expert")


def _gate(there: Side, here: Side) -> Iterator[Difference]:
    """Compare what the gate is, and what it reads."""
    yield Difference("gating", type(there.gating).__name__, type(here.gating).__name__, _SAME_GATE)
    yield Difference("gate input", str(there.gating.reads()), str(here.gating.reads()), _SAME_GATE)
    named, own = (sorted(side.task.get("gate_features") or ()) for side in (there, here))
    if named and own:  # their order is that of the features
        yield Difference("env.gate_features", named, own, _set("env.gate_features", named))
    yield from _of_task(there, here, "gate_labels", "env.gate_labels")
    if there.gate_is_named and here.gate_is_named:
        yield from _columns("the gate's input", there.named(there.layout.gate), here.named(here.layout.gate))
    sizes = there.layout.n_gate_features, here.layout.n_gate_features
    yield Difference("columns that the gate sees", *sizes, "use the same env.features and env.gate_features")


def _sizes(there: Side, here: Side, parts: Collection[str]) -> Iterator[Difference]:
    """Compare the shapes of all tensors that would be taken."""
    for name in dict.fromkeys([*here.shapes, *there.shapes]):  # here: in the order of the layers
        part = name.partition(".")[0]
        if part in parts:
            shape, own = there.shapes.get(name, "no such tensor"), here.shapes.get(name, "no such tensor")
            group = "gating" if part == "gate" else "expert"
            yield Difference(f"shape of {name}", shape, own, f"use the settings of {group} that the source has")


def _of_task(there: Side, here: Side, key: str, setting: str) -> Iterator[Difference]:
    """Compare a value that both tasks have."""
    if key in there.task and key in here.task:
        values = there.task[key], here.task[key]
        yield Difference(setting, *values, _set(setting, values[0]))


def _each(
    there: Mapping[str, Any], here: Mapping[str, Any], path: str, leave_out: Collection[str] = ()
) -> Iterator[Difference]:
    """Compare two nodes of a config, setting by setting."""
    for key in dict.fromkeys([*there, *here]):
        if key == "_target_":
            yield Difference(path, there.get(key), here.get(key), f"use the same {path}")
        elif key not in leave_out:
            setting = f"{path}.{key}"
            yield Difference(setting, there.get(key), here.get(key), _set(setting, there.get(key)))


def _columns(of: str, there: Sequence[str], here: Sequence[str]) -> Iterator[Difference]:
    """Compare columns one by one, then their number."""
    for at, names in enumerate(zip(there, here, strict=False)):
        yield Difference(f"column {at} of {of}", *names, _SAME_COLUMNS)
    yield Difference(f"number of columns of {of}", len(there), len(here), _SAME_COLUMNS)


def _set(setting: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"use the same {setting}"
    return f"set {setting}={str(value).replace(' ', '').replace(chr(39), '')}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("_target_", value)
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."

"""Who sees which feature: the gate, the experts, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moe_trader.env import Feature


def seen_by_gate(features: Mapping[str, Feature], chosen: Sequence[str] | None) -> list[str]:
    """Return the names of the features that the gate sees.

    :param chosen: ``env.gate_features``; ``None``: those that are slow
    :raises ValueError: when there are none, or one is not among the features
    """
    names = ", ".join(features)
    way_out = f"choose among these with env.gate_features=[{next(iter(features))}]"
    if chosen is None:
        chosen = [name for name, feature in features.items() if feature.slow]
        if not chosen:
            raise ValueError(f"gate_features: none of env.features ({names}) is slow, as a gate's should be; {way_out}")
    for name in chosen:
        if name not in features:
            raise ValueError(f"gate_features: {name!r} is none of env.features ({names}); {way_out}")
    return list(chosen)


def seen_by_gate_alone(
    features: Mapping[str, Feature], by_gate: Sequence[str], chosen: Sequence[str] | None
) -> list[str]:
    """Return the names of the features that no expert of a mixture sees.

    :param by_gate: what :func:`seen_by_gate` returned
    :param chosen: ``env.gate_only``; ``None``: those made for the gate, as far as it sees them and experts see others
    :raises ValueError: when the gate does not see one of them, or nothing is left for the experts
    """
    if chosen is None:
        made = [name for name in by_gate if features[name].for_gate]
        return made if len(made) < len(features) else []
    for name in chosen:
        if name not in features:
            raise ValueError(
                f"gate_only: {name!r} is none of env.features ({', '.join(features)}); name some of what the gate sees "
                f"({', '.join(by_gate)})"
            )
        if name not in by_gate:
            raise ValueError(
                f"gate_only: the gate does not see {name!r}; name some of what it sees ({', '.join(by_gate)}), or add "
                "it to env.gate_features"
            )
    if set(chosen) == set(features):
        raise ValueError("gate_only: leaves no feature for the experts; take one away, or add one to env.features")
    return list(chosen)


def places(features: Mapping[str, Feature], names: Sequence[str]) -> list[int]:
    """Return which columns of a row of features belong to those named."""
    owners = [name for name, feature in features.items() for _ in feature.columns()]
    return [at for at, name in enumerate(owners) if name in names]

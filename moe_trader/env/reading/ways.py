"""Ways out of a refusal: settings that read the file, written as a shell and Hydra take them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from moe_trader.overrides import Value, override

Way = tuple[Mapping[str, Value], str]  # settings and their purpose: ({"ranges": "widen"}, "to widen them")


def setting(name: str, value: Value) -> str:
    """Return ``env.market.NAME=VALUE``, quoted where a shell or Hydra's grammar needs it.

    :param name: below ``env.market``, or a full path that begins with ``env.``
    :param value: text stays text: ``"4"`` is quoted, ``4`` is not
    """
    path = name if name.startswith("env.") else f"env.market.{name}"
    return override(path, value)


def settings(values: Mapping[str, Value]) -> str:
    """Return several settings one after the other, as one types them."""
    return " ".join(setting(name, value) for name, value in values.items())


def offer(ways: Iterable[Way], known: Collection[str]) -> str:
    """Return ``"; set A to do this, or B to do that"`` for the ways whose settings are known; empty if none is."""
    texts = [
        f"{settings(values)} {purpose}" for values, purpose in ways if all(_room(name) in known for name in values)
    ]
    return f"; set {', or '.join(texts)}" if texts else ""


def _room(name: str) -> str:
    """Return the setting's own name: ``columns`` of ``columns.close``."""
    return name if name.startswith("env.") else name.partition(".")[0]

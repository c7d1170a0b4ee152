"""Overrides of settings as one types them: quoted where a shell or Hydra's grammar needs it."""

from __future__ import annotations

import re
import shlex

Value = str | int | list[str]

_PLAIN = re.compile(r"[A-Za-z_./%][\w./%+-]*|\d{4}-\d\d-\d\d", re.ASCII)  # text that Hydra takes without quotes
_WORDS = ("null", "true", "inf", "nan")  # but not these


def override(path: str, value: Value) -> str:
    """Return ``path=value`` for a shell; text stays text: ``"4"`` is quoted, ``4`` is not."""
    return shlex.quote(f"{path}={_written(value)}")


def _written(value: Value) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, int) or (_PLAIN.fullmatch(value) and value.lower() not in _WORDS):
        return str(value)
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'

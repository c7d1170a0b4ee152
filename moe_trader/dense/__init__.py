"""Dense layers on a CPU, compiled: matrix products, transposes and activations in float32.

A minibatch of reinforcement learning is a chain of small products. Libraries made for large ones spend much of their
time on the call, and on AMD processors take narrow vectors (MKL) or a costly way in (oneDNN). Here a product is a few
instructions away, runs in vectors as wide as the processor's, and adds in the same order whatever the batch: what one
row gives does not depend, to the last bit, on the rows beside it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_HERE = Path(__file__).parent


def _forget_outdated() -> None:
    """Remove what Numba compiled before a file of this room changed.

    It keeps compiled code beside its source and looks at that one file, not at those that the code was made of: after
    an update of the sources in place, functions elsewhere would go on with the old products.
    """
    changed = max(file.stat().st_mtime for file in _HERE.glob("*.py"))
    for index in _HERE.parent.rglob("__pycache__/*.nbi"):
        with suppress(OSError):  # another process was faster, or the files are not ours to remove
            if index.stat().st_mtime < changed:
                index.unlink()


_forget_outdated()

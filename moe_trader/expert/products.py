"""Matrix products on a CPU, by the fastest library that PyTorch brings along.

PyTorch's own products are MKL's. oneDNN, in full float32 precision too, multiplies twice as fast on an AMD processor
with AVX-512 (about 200 GFLOP/s a core instead of 100). A call of it costs more, so that it pays for large products
alone. Which library multiplies follows from shapes and never from a clock: equal runs give equal bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 64 * 64 * 512  # multiplications of a product that is worth oneDNN's call

_ONEDNN = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    else None
)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b.T`` of matrices ``(n, inner)`` and ``(m, inner)``, which may be views; it records no gradient."""
    if _is_large(a, b):
        multiplied: Tensor = _ONEDNN(_dense(a), _dense(b), None, "none", [], "")  # type: ignore[misc]
        return multiplied
    return a @ b.T


def products(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``a[i] @ b[i].T`` for each i of ``(n_products, n, inner)`` and ``(n_products, m, inner)``."""
    if not _is_large(a[0], b[0]):
        return torch.bmm(a, b.transpose(1, 2), out=out)
    out = a.new_empty(len(a), a.shape[1], b.shape[1]) if out is None else out
    for one, left, right in zip(out.unbind(), a.unbind(), b.unbind(), strict=True):
        one.copy_(product(left, right))
    return out


def _dense(matrix: Tensor) -> Tensor:
    """Return the matrix without gaps between its rows or columns: with them oneDNN takes a hundred times as long."""
    n, inner = matrix.shape
    return matrix if matrix.stride() in ((inner, 1), (1, n)) else matrix.contiguous()


def _is_large(a: Tensor, b: Tensor) -> bool:
    on_cpu = _ONEDNN is not None and a.device.type == "cpu" and a.dtype == torch.float32
    return on_cpu and a.numel() * len(b) >= LEAST

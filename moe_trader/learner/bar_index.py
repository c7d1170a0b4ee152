"""Observations that name their bar: read out of the market's tables when they are needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

N_NUMBERS = 3  # of an observation that names its bar: the bar's number, and two of the account


class BarIndex(nn.Module):
    """Turns bar indices into whole observations: columns of the market, the account, and columns for the gate only.

    :param tables: feature rows ``(n_bars, n_features)``, and how many of them end in the named bar
        (:attr:`~moe_trader.env.trading_vec_env.BarIndexVecEnv.tables`); the second one, if any, is for the gate only
    """

    def __init__(self, tables: Sequence[tuple[np.ndarray, int]]) -> None:
        super().__init__()
        self._n_rows = [n for _, n in tables]
        for number, (rows, _) in enumerate(tables):
            self.register_buffer(f"table_{number}", torch.from_numpy(rows), persistent=False)

    def forward(self, indices: Tensor) -> Tensor:
        """Return whole observations for indices of shape ``(batch, 3)``. :raises ValueError: for another shape."""
        if indices.ndim != 2 or indices.shape[1] != N_NUMBERS:
            raise ValueError(f"bar indices: expected shape (n, {N_NUMBERS}), got {tuple(indices.shape)}")
        bars, account = indices[:, 0].long(), indices[:, 1:]
        market, *tail = (_newest(getattr(self, f"table_{k}"), n, bars) for k, n in enumerate(self._n_rows))
        return torch.cat([market, account, *tail], dim=1)


def _newest(table: Tensor, n: int, bars: Tensor) -> Tensor:
    """Return the ``n`` rows of a table that end at each bar, side by side: shape ``(batch, n * n_columns)``."""
    n_bars, width = table.shape
    windows = table.as_strided((n_bars - n + 1, n * width), (width, 1))  # they overlap, nothing is copied
    return windows.index_select(0, bars - (n - 1))

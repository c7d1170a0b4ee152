"""Where networks run, on the CPU or on a GPU, and by which code."""

from __future__ import annotations

import re
from typing import Literal, get_args

import torch

Kernels = Literal["auto", "off"]
"""Compiled kernels: ``auto``, wherever there are any (float32 on a CPU); ``off``, plain PyTorch."""


def check_kernels(kernels: str) -> None:
    """Refuse another choice of kernels. :raises ValueError: naming it."""
    if kernels not in get_args(Kernels):
        raise ValueError(f"kernels: expected {' or '.join(get_args(Kernels))}, got {kernels!r}")


def check_device(device: str) -> None:
    """Refuse a device that PyTorch cannot compute on here. :raises ValueError: naming it."""
    if not (isinstance(device, str) and re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,2})?", device)):
        raise ValueError(f"device: expected cpu, cuda, cuda:N or mps, got {device!r}")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: {device!r} cannot be used here ({reason}); use device=cpu") from None

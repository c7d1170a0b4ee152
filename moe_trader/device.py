"""Where networks run: on the CPU, or on a GPU that is there."""

from __future__ import annotations

import re

import torch


def check_device(device: str) -> None:
    """Refuse a device that PyTorch cannot compute on here. :raises ValueError: naming it."""
    if not (isinstance(device, str) and re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,2})?", device)):
        raise ValueError(f"device: expected cpu, cuda, cuda:N or mps, got {device!r}")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: {device!r} cannot be used here ({reason}); use device=cpu") from None

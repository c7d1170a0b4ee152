"""Checkpoints: what training goes on from, a directory each, whole or not there, checksummed, the last two kept.

checkpoint/000000081920/state.safetensors    tensors
checkpoint/000000081920/state.json           everything else, and the sha256 of both
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from moe_trader.durable import new_directory, remove_partial
from moe_trader.option import ConfigError

FORMAT_VERSION = 1
KEPT = 2
TENSORS, VALUES = "state.safetensors", "state.json"

log = logging.getLogger(__name__)


class CheckpointError(ConfigError):
    """A checkpoint that cannot be used; the message names it, the reason and the way out."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are not those that were written."""


@dataclass(frozen=True)
class Checkpoint:
    """All that training goes on from.

    :param step: environment steps done
    :param tensors: by name
    :param values: as JSON holds them; floats come back to the last bit
    """

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): one for name, one in self.tensors.items() if name.startswith(prefix)}


class Checkpoints:
    """The checkpoints of one agent's training, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then remove all but the last two.

        :raises OSError: when it cannot be written, or the directory that holds all of them was removed
        """
        path = self.directory / f"{checkpoint.step:012d}"
        tensors = save({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()})
        content = {
            "format_version": FORMAT_VERSION,
            "step": checkpoint.step,
            "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
            "values": checkpoint.values,
        }
        with new_directory(path) as building:
            (building / TENSORS).write_bytes(tensors)
            (building / VALUES).write_text(json.dumps(content | {"sha256": _sha256(content)}), encoding="utf-8")
        for old in self._paths()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; ``None`` if there is none.

        Where the newest are damaged, the one before them is read; the damaged ones are logged and removed.

        :raises CheckpointError: when all that are there are damaged; for one of another format version
        """
        remove_partial(self.directory)
        damaged: dict[Path, DamagedCheckpointError] = {}
        for path in reversed(self._paths()):
            try:
                found = _read(path)
            except DamagedCheckpointError as error:
                damaged[path] = error
                continue
            for place, reason in damaged.items():
                log.warning("%s; going on from the checkpoint before it, step %s", reason, f"{found.step:,}")
                shutil.rmtree(place)  # else it would stay the newest
            return found
        if damaged:
            raise CheckpointError(
                f"{'; '.join(map(str, damaged.values()))}; no other checkpoint is left. Restore one of them, or delete "
                f"{self.directory} to train from step 0"
            )
        return None

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that are there, damaged ones too."""
        return [int(path.name) for path in self._paths()]

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.directory.glob("*") if path.name.isdigit() and path.is_dir())


def _read(path: Path) -> Checkpoint:
    try:
        content = json.loads((path / VALUES).read_text(encoding="utf-8"))
        tensors = (path / TENSORS).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:  # others, such as no permission, are no damage
        raise _damaged(path, f"{Path(error.filename).name}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _damaged(path, f"{VALUES} is not JSON") from None
    if not isinstance(content, dict) or content.pop("sha256", None) != _sha256(content):
        raise _damaged(path, f"{VALUES} was altered")
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {content.get('format_version')}, and this moe_trader reads {FORMAT_VERSION}; "
            "go on with the version that wrote it"
        )
    if content["tensors_sha256"] != hashlib.sha256(tensors).hexdigest():
        raise _damaged(path, f"{TENSORS} was altered")
    try:
        return Checkpoint(content["step"], load(tensors), content["values"])
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, reason: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{path}: damaged checkpoint ({reason})")


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

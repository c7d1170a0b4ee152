"""Files and directories that are whole or not there, whenever the process or the machine stops.

Each is written under a temporary name, synced to the disk, and renamed; then the directory around it is synced.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = re.compile(r".*\.[0-9a-f]{8}\.partial")
"""Names of what is still being written, or was when its process was killed."""


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file, in place of one that is there. :raises OSError: when it cannot be written; the old one is kept."""
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Give a temporary directory, and rename it to ``path`` once it is filled, in place of one that is there.

    :raises OSError: when it cannot be written, or the directory around it does not exist; the old one is kept
    """
    partial = _partial(path)
    try:
        partial.mkdir()
        yield partial
        for place, _, files in os.walk(partial):
            for name in files:
                _sync(Path(place, name))
            _sync(Path(place))
        _rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial(directory: Path) -> None:
    """Remove the files and directories that a killed process left half written in a directory."""
    for found in directory.glob("*.partial"):
        if not PARTIAL.fullmatch(found.name):
            continue
        if found.is_dir():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)


def _rename(partial: Path, path: Path) -> None:
    replaced = None
    if path.exists():
        replaced = _partial(path)
        path.rename(replaced)  # a directory cannot be renamed to one that has files
    try:
        partial.rename(path)
    except BaseException:
        if replaced is not None:
            replaced.rename(path)
        raise
    _sync(path.parent)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    try:
        number = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows does not open directories
        if os.name == "nt":
            return
        raise
    try:
        os.fsync(number)
    finally:
        os.close(number)

"""Which files a path means, and what those that cannot be read are."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from moe_trader.env import MarketError
from moe_trader.env.reading.archives import matching_members
from moe_trader.env.reading.ways import setting

_SUFFIXES = {
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".pq",
    ".feather",
    ".arrow",
    ".arrows",
    ".orc",
    ".json",
    ".jsonl",
    ".ndjson",
}
_SUFFIXES |= {".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz"}


def find_files(path: str | Sequence[str]) -> list[str]:
    """Return the files that a path, a glob (``data/*.csv``) or a list of both means, in order, each once.

    ``~`` is the home folder; a path may lead into an archive (``data.zip/*.csv``).

    :raises MarketError: a glob that matches nothing, a folder, a pipe or a device
    """
    found: list[str] = []
    for one in map(os.path.expanduser, [path] if isinstance(path, str) else path):
        matches = [one]
        members = matching_members(one)
        if members is not None:
            matches = members
        elif glob.has_magic(one) and not os.path.exists(one):
            matches = sorted(match for match in glob.glob(one, recursive=True) if Path(match).is_file())
        if not matches:
            raise MarketError(f"{one}: no file matches{whence(one)}")
        if members is not None:
            found.extend(members)
            continue
        if os.path.isdir(one):
            raise MarketError(f"{one}: a folder{_inside(one)}")
        if os.path.exists(one) and not os.path.isfile(one):
            raise MarketError(f"{one}: a pipe or a device, which can be read once at most; save its rows to a file")
        found.extend(matches)
    return list(dict.fromkeys(found))


def stem(file: str) -> str:
    """Return a file's name without the ending of its format: ``BRK.B`` of ``data/BRK.B.csv.gz``."""
    name = Path(file).name
    while Path(name).suffix.lower() in _SUFFIXES:
        name = Path(name).stem
    return name


def no_such_file(path: str | Path) -> str:
    """Return the refusal of a path that leads to no file."""
    return f"{path}: no such file; give the path of a file of bars{whence(path)}"


def whence(path: str | Path) -> str:
    """Return what a relative path was taken to mean, for an error."""
    return "" if os.path.isabs(path) else f"; a relative path counts from the working directory, {os.getcwd()}"


def reason(error: Exception) -> str:
    """Return the first line of a library's error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _inside(folder: str) -> str:
    """Return the setting that reads the files of a folder, of the ending that most of them have."""
    names = [name for name in os.listdir(folder) if stem(name) != name]
    if not names:
        return "; give the path of a file"
    endings = [name[len(stem(name)) :] for name in names]
    most = max(sorted(set(endings)), key=endings.count)
    return f"; set {setting('env.path', os.path.join(folder, '*' + most))} to read its files"

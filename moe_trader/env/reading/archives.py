"""Files inside others: compressed files by their first bytes, and the members of zip and tar archives."""

from __future__ import annotations

import bz2
import contextlib
import fnmatch
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pyarrow as pa

from moe_trader.env import MarketError
from moe_trader.env.reading.ways import setting

Source = str | IO[bytes]  # a path where nothing has to be unpacked: libraries read those faster

_NESTED = 4  # layers of compression and archives that are unpacked
_SHOWN = 3  # members that a refusal names
_TAR = (257, b"ustar")  # where a tar archive says what it is
_BEGINNING = 512


def _by_arrow(name: str) -> Callable[[IO[bytes]], IO[bytes]]:
    return lambda file: io.BytesIO(pa.CompressedInputStream(pa.PythonFile(file), name).read())


_COMPRESSED: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _by_arrow("zstd"),
    b"\x04\x22\x4d\x18": _by_arrow("lz4"),
}


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Source]:
    """Open a file, decompressed: the path itself where there is nothing to do.

    :param path: may lead into an archive: ``data.zip/a.csv``
    :raises MarketError: an archive of several tables, or one that needs a password
    """
    archive, member = split_member(str(path))
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open(archive, "rb"))
        unpacked = False
        for _ in range(_NESTED):
            start = _peek(file)
            inside = _members(file, start)
            if inside is not None:
                file = stack.enter_context(_member(file, start, str(path), _chosen(inside, member, str(path))))
                member = None
            elif (decompress := _decompressor(start)) is not None:
                file = stack.enter_context(decompress(file))
            else:
                break
            unpacked = True
        if member is not None:
            raise FileNotFoundError(path)
        yield file if unpacked else archive


def split_member(path: str) -> tuple[str, str | None]:
    """Return an archive and the member that a path names in it: ``data.zip`` and ``a.csv`` of ``data.zip/a.csv``."""
    with contextlib.suppress(OSError):
        if not os.path.lexists(path):
            for parent in Path(path).parents:
                if parent.is_file():
                    return str(parent), Path(path).relative_to(parent).as_posix()
    return path, None


def matching_members(path: str) -> list[str] | None:
    """Return the members that a glob in an archive means (``data.zip/*.csv``); ``None`` if it leads into none."""
    archive, pattern = split_member(path)
    if pattern is None:
        return None
    try:
        with open(archive, "rb") as file:
            start = _peek(file)
            inside = _members(file, start)
            decompress = _decompressor(start)
            if inside is None and decompress is not None:
                with decompress(file) as plain:
                    inside = _members(plain, _peek(plain))
    except (OSError, EOFError, lzma.LZMAError):
        return None
    if inside is None:
        return None
    return [f"{archive}/{name}" for name in sorted(inside) if name == pattern or fnmatch.fnmatchcase(name, pattern)]


def beginning(path: str | Path) -> bytes:
    """Return the first bytes of a file's content, none where it cannot be opened: whoever reads on says why."""
    try:
        with opened(path) as file:
            if not isinstance(file, str):
                return file.read(_BEGINNING)
            with open(file, "rb") as plain:
                return plain.read(_BEGINNING)
    except MarketError:
        raise
    except Exception:  # of several decompressors
        return b""


def _peek(file: IO[bytes]) -> bytes:
    start = file.read(_BEGINNING)
    file.seek(0)
    return start


def _decompressor(start: bytes) -> Callable[[IO[bytes]], IO[bytes]] | None:
    return next((unpack for magic, unpack in _COMPRESSED.items() if start.startswith(magic)), None)


def _is_tar(start: bytes) -> bool:
    return start[_TAR[0] :].startswith(_TAR[1])


def _members(file: IO[bytes], start: bytes) -> list[str] | None:
    """Return the files in an archive, without those that an operating system adds; ``None`` if it is none."""
    if _is_tar(start):
        with tarfile.open(fileobj=file) as tar:
            names = [one.name for one in tar if one.isfile()]
    elif start.startswith(b"PK\x03\x04") or start.startswith(b"PK\x05\x06"):
        try:
            with zipfile.ZipFile(file) as archive:
                names = [one.filename for one in archive.infolist() if not one.is_dir()]
        except zipfile.BadZipFile:
            return None
        if {"[Content_Types].xml", "mimetype"} & set(names):  # Excel and LibreOffice
            names = []
            file.seek(0)
            return None
    else:
        return None
    file.seek(0)
    return [name for name in names if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)]


@contextlib.contextmanager
def _member(file: IO[bytes], start: bytes, path: str, name: str) -> Iterator[IO[bytes]]:
    if _is_tar(start):
        with tarfile.open(fileobj=file) as tar, tar.extractfile(name) as held:  # type: ignore[union-attr]
            yield held
        return
    with zipfile.ZipFile(file) as archive:
        try:
            member = archive.open(name)
        except (RuntimeError, NotImplementedError) as error:
            raise MarketError(f"{path}: {error}; unpack it, and give the path of what it holds") from None
        with member:
            yield member


def _chosen(inside: list[str], member: str | None, path: str) -> str:
    """Return the member that is wanted: the one that the path names, or the only one."""
    if member is not None:
        if member not in inside:
            raise FileNotFoundError(path)
        return member
    if len(inside) == 1:
        return inside[0]
    if not inside:
        raise MarketError(f"{path}: an empty archive; download it again")
    endings = [Path(name).suffix for name in inside]
    most = max(sorted(set(endings)), key=endings.count)
    same_kind = sorted(name for name in inside if Path(name).suffix == most)
    pattern = f"{'*/' * same_kind[0].count('/')}*{most}"
    ways = [setting("env.path", f"{path}/{name}") + " to read this one" for name in same_kind[:1]]
    if len(same_kind) > 1:
        ways.insert(0, setting("env.path", f"{path}/{pattern}") + f" to read the {len(same_kind)}")
    shown = ", ".join(sorted(inside)[:_SHOWN]) + (", ..." if len(inside) > _SHOWN else "")
    raise MarketError(f"{path}: an archive of {len(inside)} files ({shown}); set {', or '.join(ways)}")

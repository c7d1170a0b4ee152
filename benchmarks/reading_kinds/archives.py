"""Compressed files and archives, whatever they are called."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from reading_kinds.base import HEADER, ROWS, STANDARD, UNIX, frame, kind

TEXT = "\n".join((HEADER, *ROWS)) + "\n"
REST = (HEADER, *ROWS[1:])
RECORDS = frame().astype({"Date": str}).to_json(orient="records")


def zipped(**members: str) -> Callable[[Path], None]:
    """Return what writes a zip archive; ``__`` stands for a slash, and a last ``_`` for the dot of the ending."""

    def save(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(".".join(name.rsplit("_", 1)).replace("__", "/"), content)

    return save


def tarred(path: Path) -> None:
    """Write a tar archive of one file, compressed as the name says."""
    member = tarfile.TarInfo("a.csv")
    member.size = len(TEXT)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        archive.addfile(member, io.BytesIO(TEXT.encode()))


def with_resource_fork(path: Path) -> None:
    """Write a zip archive as macOS does."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/", "")
        archive.writestr("x/x.csv", TEXT)
        archive.writestr("__MACOSX/x/._x.csv", b"\0\5\x16\7\0\2\0\0Mac OS X")
        archive.writestr("x/.DS_Store", b"\0")


def zipped_parquet(path: Path) -> None:
    """Write a zip archive of a Parquet file."""
    held = io.BytesIO()
    frame().to_parquet(held)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.parquet", held.getvalue())


kind("a plain file called .gz", files={"x.csv.gz": TEXT})
kind("a plain file called .zip", files={"x.zip": TEXT})
kind("gzip called .csv", files={"x.csv": gzip.compress(TEXT.encode())})
kind("gzip twice", files={"x.csv.gz": gzip.compress(gzip.compress(TEXT.encode()))})
kind("UTF-16, gzip", files={"x.csv.gz": gzip.compress(TEXT.encode("utf-16"))})
kind("zstandard", files={"x.csv.zst": pa.compress(TEXT.encode(), codec="zstd", asbytes=True)})
kind("json, gzip", files={"x.json.gz": gzip.compress(RECORDS.encode())})
kind("json, gzip, called .csv", files={"x.csv": gzip.compress(RECORDS.encode())})
kind("json called .csv", files={"x.csv": RECORDS})
kind("csv called .json", files={"x.json": TEXT})
kind("csv called .parquet", files={"x.parquet": TEXT})
kind("Parquet in a zip archive", files={"x.zip": zipped_parquet})
kind("a zip archive of macOS", files={"x.zip": with_resource_fork})
kind("a tar archive", files={"x.tar": tarred})
kind("a tar archive, gzip", files={"x.tar.gz": tarred})
kind(
    "a zip archive of two instruments",
    files={"x.zip": zipped(a_csv=TEXT, b_csv=TEXT)},
    bars={"a": STANDARD, "b": STANDARD},
    outcome="refused",
)
kind(
    "a zip archive of months",
    files={"x.zip": zipped(**{"data__X-2018-11_csv": f"{HEADER}\n{ROWS[0]}", "data__X-2018-12_csv": "\n".join(REST)})},
    bars={"X": STANDARD},
    outcome="refused",
)
kind(
    "a zip archive with a licence",
    files={"x.zip": zipped(data_csv=TEXT, LICENCE_txt="none\n")},
    bars={"data": STANDARD},
    outcome="refused",
)
kind(
    "a member of a zip archive", files={"x.zip": zipped(a_csv=TEXT, b_csv="")}, path="x.zip/a.csv", bars={"a": STANDARD}
)
kind(
    "json rows of Binance, zip",
    files={
        "x.json.zip": zipped(
            x_json=json.dumps([[1000 * at, *row.split(",")[1:]] for at, row in zip(UNIX, ROWS, strict=True)])
        )
    },
    outcome="refused",
)
kind("an empty zip archive", files={"x.zip": zipped()}, bars={}, outcome="refused", remedy="download it again")

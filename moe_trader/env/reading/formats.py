"""Tables of whatever format a file has, known by its first bytes: csv, Parquet, Feather, ORC, json."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa

from moe_trader.env import MarketError
from moe_trader.env.reading.archives import Source, beginning, opened
from moe_trader.env.reading.columns import has_time_and_close
from moe_trader.env.reading.page import Reading
from moe_trader.env.reading.paths import no_such_file, reason, stem
from moe_trader.env.reading.tables import is_wide_text, read_csv_table
from moe_trader.env.reading.wide import one_row_of_headings

_READERS: dict[bytes, tuple[str, Callable[..., pd.DataFrame]]] = {
    b"PAR1": ("Parquet", pd.read_parquet),
    b"ARROW1": ("Feather", pd.read_feather),
    b"FEA1": ("Feather", pd.read_feather),
    b"ORC": ("ORC", pd.read_orc),
    b"\xff\xff\xff\xff": ("Arrow", lambda source: pa.ipc.open_stream(source).read_pandas()),
}
_EXCEL = ("an Excel workbook", "pd.read_excel('{path}').to_csv('{stem}.csv', index=False)")
_OTHERS = {  # what cannot be read, and the line of Python that converts it
    b"\x89HDF": ("an HDF5 file", "pd.read_hdf('{path}').to_parquet('{stem}.parquet')"),
    b"\x80": ("a pickle", "pd.read_pickle('{path}').to_parquet('{stem}.parquet')"),
    b"PK\x03\x04": _EXCEL,
    b"\xd0\xcf\x11\xe0": _EXCEL,
    b"SQLite format 3": (
        "a SQLite database",
        "pd.read_sql('select * from TABLE', sqlite3.connect('{path}')).to_parquet('{stem}.parquet')",
    ),
}
_BINARY = {  # by the end of their names, as some of them begin with nothing certain
    ".dta": ("a Stata file", "pd.read_stata('{path}').to_parquet('{stem}.parquet')"),
    ".sas7bdat": ("a SAS file", "pd.read_sas('{path}').to_parquet('{stem}.parquet')"),
    ".xpt": ("a SAS file", "pd.read_sas('{path}').to_parquet('{stem}.parquet')"),
    ".sav": ("an SPSS file", "pd.read_spss('{path}').to_parquet('{stem}.parquet')"),
    ".npy": ("a NumPy array", "pd.DataFrame(np.load('{path}')).to_csv('{stem}.csv', index=False)"),
}
_LFS = b"version https://git-lfs.github.com"
_PACKED = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "RAR", b"\x1f\x9d": "compress (.Z)"}
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\{\s*"|\[\s*[\[{]|\[\s*\d+\s*,|\[\s*"|[{\[]\s*[}\]])')


def read_table(path: str | Path, reading: Reading) -> pd.DataFrame:
    """Return the table of one file; its index numbers the rows, those of csv files as an editor does.

    :raises MarketError: no such file, a format that cannot be read, or a file that is not what it begins as
    """
    start = beginning(path)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise MarketError(f"{path}: this is a web page, no table; the download failed or needs a login: load it again")
    for magic, (name, read) in _READERS.items():
        if start.startswith(magic):
            return _typed(path, name, read)
    if _JSON.match(start):
        return _typed(path, "json", partial(_read_json, path=path))
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            raise MarketError(f"{path}: this is a {name} archive; unpack it, and give the path of what it holds")
    if start.startswith(b"PK") and Path(path).suffix.lower() == ".zip":
        raise MarketError(f"{path}: cannot be read as zip; if it is cut off, download it again")
    for magic, (name, line) in _OTHERS.items():
        if start.startswith(magic):
            code = line.format(path=Path(path).name, stem=stem(str(path)).partition(".")[0])
            trust = " (opening a pickle runs code: only one that you trust)" if "pickle" in name else ""
            raise MarketError(f"{path}: this is {name}; convert it with pandas{trust}: {code}")
    if start.startswith(_LFS):
        raise MarketError(f"{path}: a pointer of Git LFS, and not the file itself: run git lfs pull")
    if b"\0" in start.rstrip(b"\0") and not is_wide_text(start):
        raise MarketError(f"{path}: {_binary(path)}")
    return read_csv_table(path, reading)


def _binary(path: str | Path) -> str:
    """Return the refusal of a file that is no text, with the line that converts it where one is known."""
    suffix = Path(path).suffix.lower()
    if suffix in _BINARY:
        name, line = _BINARY[suffix]
        code = line.format(path=Path(path).name, stem=Path(path).stem)
        return f"this is {name}; convert it with pandas: {code}"
    return "a file of a program, and no text; export it there as csv"


def read_parquet_table(path: str | Path) -> pd.DataFrame:
    """Read a Parquet file; stamps may stand in its index. The first row is row 1.

    :raises MarketError: no such file, or no Parquet
    """
    return _typed(path, "Parquet", pd.read_parquet)


def _typed(path: str | Path, name: str, read: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Read a file of a format that knows types; stamps may stand in its index."""
    try:
        with opened(path) as source:
            table = read(source)
    except FileNotFoundError:
        raise MarketError(no_such_file(path)) from None
    except MarketError:
        raise
    except Exception as error:  # of pyarrow's many kinds, or pandas'
        hint = "; if it is cut off, export or download it again"
        raise MarketError(f"{path}: cannot be read as {name} ({reason(error)}){hint}") from None
    if table.empty:
        raise MarketError(f"{path}: no rows")
    index = table.index
    table.index = pd.RangeIndex(1, len(table) + 1)
    table = one_row_of_headings(table, str(path))
    return table if isinstance(index, pd.RangeIndex) else _with_index(table, index, str(path))


def _read_json(source: Source, path: str | Path) -> pd.DataFrame:
    """Read records, rows without names, or columns; one object or row a line, or one for all."""
    options = {"convert_axes": False, "dtype": False, "precise_float": True, "compression": None}
    text = Path(source).read_bytes() if isinstance(source, str) else source.read()
    try:
        table = pd.read_json(io.BytesIO(text), **options)
    except ValueError as error:
        if "Trailing data" in str(error):
            table = pd.read_json(io.BytesIO(text), lines=True, **options)
        else:
            table = _of_pandas(text, error, path)
    if has_time_and_close(["time", *map(str, table.index)]):  # pandas' orient index, or prices by stamp
        table = table.T.infer_objects()
    for heading in table.columns:
        if table[heading].map(lambda one: isinstance(one, dict | list)).any():
            raise MarketError(f"{path}: {_nested(path, heading, text)}")
    if [str(label) for label in table.index] == [str(place) for place in range(len(table))]:
        table = table.reset_index(drop=True)
    if [str(heading) for heading in table.columns] == [str(place) for place in range(table.shape[1])]:
        table.columns = pd.Index(range(table.shape[1]), dtype=object)
    return table


def _of_pandas(content: bytes, error: ValueError, path: str | Path) -> pd.DataFrame:
    """Return a table that pandas wrote with ``orient`` split or table. :raises ValueError: ``error``, if it is none."""
    try:
        held = json.loads(content)
    except ValueError:
        raise error from None
    if isinstance(held, dict) and held and all(isinstance(one, str | int | float | None) for one in held.values()):
        said = next((one for one in held.values() if isinstance(one, str)), str(held))
        raise MarketError(f"{path}: a message, and no prices: {said:.200}; download it again")
    if not isinstance(held, dict) or not isinstance(held.get("data"), list):
        raise error
    if "schema" in held:
        return pd.DataFrame(held["data"])
    if "columns" not in held:
        raise error
    return pd.DataFrame(held["data"], columns=held["columns"], index=held.get("index"))


def _nested(path: str | Path, first: Hashable, content: bytes) -> str:
    """Return the refusal of nested json, with the line that converts it, where one entry holds a table."""
    text = f"column {first!r} holds nested json"
    held = json.loads(content)
    name = Path(path).name
    if first == "chart" and isinstance(held, dict):  # Yahoo's
        inner = f"json.loads(Path('{name}').read_text())['chart']['result'][0]"
        line = f"(lambda one: pd.DataFrame(one['indicators']['quote'][0] | {{'time': one['timestamp']}}))({inner})"
        return f"{text}; convert it with pandas: {line}.to_parquet('{stem(str(path))}.parquet')"
    tables = {}
    for key, value in held.items() if isinstance(held, dict) else ():
        if isinstance(value, list) and value and all(isinstance(row, dict | list) for row in value):
            deep = any(isinstance(cell, dict) for row in value if isinstance(row, dict) for cell in row.values())
            tables[key] = "pd.json_normalize({held})" if deep else "pd.DataFrame({held})"
        elif isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
            tables[key] = "pd.DataFrame.from_dict({held}, orient='index')"
    if not tables:
        return f"{text}; flatten it with pandas.json_normalize and save it as Parquet"
    key = max(tables, key=lambda one: len(held[one]))
    line = tables[key].format(held=f"json.loads(Path('{name}').read_text())[{key!r}]")
    return f"{text}; convert it with pandas: {line}.to_parquet('{stem(str(path))}.parquet')"


def _with_index(table: pd.DataFrame, index: pd.Index, source: str) -> pd.DataFrame:
    """Return a table whose stamps stand in a column instead of its index."""
    stamps = index.to_frame(index=False).set_axis(pd.RangeIndex(1, len(index) + 1)).loc[table.index]
    if index.nlevels == 1 and index.name is None:
        stamps.columns = ["index"]
    for name in stamps.columns.intersection(table.columns):
        if not (stamps[name] == table[name]).all():
            raise MarketError(f"{source}: the index and a column are both called {name!r}, and differ; rename one")
    return pd.concat([stamps, table.drop(columns=stamps.columns, errors="ignore")], axis=1)

"""Formats and encodings."""

from __future__ import annotations

import gzip
import json

from reading_kinds.base import CLOSES, HEADER, PRICES, ROWS, UNIX, frame, kind

kind("gzip", files={"x.csv.gz": gzip.compress("\n".join((HEADER, *ROWS)).encode())})
kind("UTF-16", files={"x.csv": "\n".join((HEADER, *ROWS)).encode("utf-16")})
kind(
    "Latin-1",
    files={"x.csv": "\n".join((HEADER + ",Währung", *(row + ",EUR" for row in ROWS))).encode("latin-1")},
    outcome="refused",
)
kind("Parquet", files={"x.parquet": lambda path: frame().set_index("Date").to_parquet(path)})
kind("Feather", files={"x.feather": lambda path: frame().to_feather(path)})
kind("ORC", files={"x.orc": lambda path: frame().to_orc(path)})
kind("json records", files={"x.json": frame().astype({"Date": str}).to_json(orient="records")})
kind("json lines", files={"x.jsonl": frame().astype({"Date": str}).to_json(orient="records", lines=True)})
kind("json columns", files={"x.json": frame().astype({"Date": str}).to_json(orient="columns")})
kind(
    "json columns of a vendor",
    files={
        "x.json": json.dumps(
            {
                "s": "ok",
                "t": UNIX,
                "o": [10.5, 11, 12],
                "h": [12, 13, 14],
                "l": [9, 10, 11],
                "c": [11, 12.5, 13],
                "v": [100, 200, 300],
            }
        )
    },
)
kind(
    "json rows without names",
    files={
        "x.json": json.dumps(
            [[1000 * stamp, *map(float, row.split(","))] for stamp, row in zip(UNIX, PRICES, strict=True)]
        )
    },
    outcome="refused",
)
kind(
    "nested json",
    files={"x.json": json.dumps({"data": frame().astype({"Date": str}).to_dict("records")})},
    outcome="refused",
    remedy="pd.DataFrame(json.loads(Path('x.json').read_text())['data']).to_parquet('x.parquet')",
)
kind(
    "a pickle",
    files={"x.pkl": lambda path: frame().to_pickle(path)},
    outcome="refused",
    remedy="pd.read_pickle('x.pkl').to_parquet('x.parquet')",
)
kind(
    "HDF5",
    files={"x.h5": b"\x89HDF\r\n\x1a\n"},
    bars={},
    outcome="refused",
    remedy="pd.read_hdf('x.h5').to_parquet('x.parquet')",
)
kind(
    "a workbook",
    files={"x.xlsx": b"PK\x03\x04"},
    bars={},
    outcome="refused",
    remedy="pd.read_excel('x.xlsx').to_csv('x.csv', index=False)",
)
kind(
    "prices as bytes",
    files={"x.parquet": lambda path: frame().assign(Open=[b"\xff\x00"] * 3).to_parquet(path)},
    bars=CLOSES.replace(" 0\n", " {}\n").format(100, 200, 300),
    outcome="refused",
)
kind(
    "dates for a close",
    files={"x.parquet": lambda path: frame().assign(Close=frame()["Date"], Settle=frame()["Close"]).to_parquet(path)},
    outcome="refused",
)
kind(
    "booleans for a close",
    files={"x.parquet": lambda path: frame()[["Date", "Close"]].assign(Close=True).to_parquet(path)},
    bars={},
    outcome="refused",
    remedy="export it as plain numbers",
)

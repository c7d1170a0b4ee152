"""Several files."""

from __future__ import annotations

from reading_kinds.base import CLOSES, kind

MONTH = "time,close\n2018-12-27,11\n2018-12-28,12.5\n"
NEXT = "time,close\n2018-12-31,13\n"
kind(
    "months of one instrument",
    files={"BTCUSDT-1h-2018-12.csv": MONTH, "BTCUSDT-1h-2019-01.csv": NEXT},
    bars={"BTCUSDT": CLOSES},
    outcome="refused",
)
kind(
    "parts of one instrument",
    files={"eurusd_1.csv": MONTH, "eurusd_2.csv": NEXT},
    bars={"eurusd": CLOSES},
    outcome="refused",
)
kind(
    "one name in several folders",
    files={"2018/x.csv": MONTH, "2019/x.csv": NEXT},
    bars={"x": CLOSES},
    path="*/*.csv",
    outcome="refused",
)
kind(
    "years of two instruments",
    files={f"{name}_{year}.csv": text for name in "AB" for year, text in ((2018, MONTH), (2019, NEXT))},
    bars={"A": CLOSES, "B": CLOSES},
    outcome="refused",
)
kind(
    "a month that begins with the last row of the one before",
    files={"x-2018-12.csv": MONTH, "x-2019-01.csv": NEXT.replace("time,close\n", "time,close\n2018-12-28,12.5\n")},
    bars={"x": CLOSES},
    outcome="refused",
    settings=("env.market.symbol=x",),
)
kind(
    "several instruments",
    files={"a.csv": MONTH, "b.csv": MONTH},
    bars={"a": CLOSES.rpartition("2018-12-31")[0], "b": CLOSES.rpartition("2018-12-31")[0]},
)
kind("a folder", files={"data/x.csv": MONTH + NEXT.partition("\n")[2]}, bars=CLOSES, path="data", outcome="refused")

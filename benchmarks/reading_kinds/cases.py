"""Files that people reported, kept in the tests' data."""

from __future__ import annotations

from reading_kinds.base import CASES, Kind, Outcome

LONG = "2020-01-01 100.69 100.69 100.69 100.69 0\n... 700\n2021-11-30 49.15 49.15 49.15 49.15 0"


def cases() -> list[Kind]:
    """Return the files that people reported, kept in the tests' data."""
    two = "2020-01-01 10 12 9 11 5\n2020-01-02 11 12 10 12 5"
    none = two.replace(" 5", " 0")
    held: dict[str, tuple[Outcome, dict[str, str]]] = {
        "adj_close_empty.csv": ("repaired", {"adj_close_empty": two}),
        "adj_close_negative.csv": ("refused", {"adj_close_negative": two}),
        "candles.json": ("refused", {"candles": "2020-01-01 95.9 96.2 95.1 96.2 10\n2020-01-02 96.2 97 96 96.8 12"}),
        "cjk_headings.csv": ("read", {"cjk_headings": two}),
        "close_above_high.csv": (
            "refused",
            {"close_above_high": "2020-01-01 32 33 31 32.5 5\n2020-01-02 32.59 32.84 32.59 32.84 5"},
        ),
        "dotnet_ticks.csv": (
            "refused",
            {
                "dotnet_ticks": "\n".join(
                    f"2018-01-0{day} {close} {close} {close} {close} 0"
                    for day, close in zip(range(1, 6), (100, 101, 102, 101, 103), strict=True)
                )
            },
        ),
        "freqtrade.feather": (
            "read",
            {"freqtrade": "2020-01-01T00:00 1 2 1 2 1\n2020-01-01T01:00 2 3 1 3 1\n2020-01-01T02:00 3 4 2 3 1"},
        ),
        "header_lacks_time.csv": (
            "refused",
            {
                "header_lacks_time": (
                    "2020-01-02T09:01 3602 3603 3597 3599 5699\n2020-01-02T09:02 3600 3601 3598 3599 894"
                )
            },
        ),
        "headerless_equal_prices.csv": (
            "refused",
            {
                "headerless_equal_prices": (
                    "2020-01-01T17:00 1.10 1.12 1.10 1.11 0\n2020-01-01T17:01 1.11 1.13 1.10 1.12 0"
                )
            },
        ),
        "headerless_klines.csv": (
            "refused",
            {
                "headerless_klines": (
                    "2020-01-01T00:59:59.999 7195.24 7196.25 7175.46 7177.02 511.81\n"
                    "2020-01-01T01:59:59.999 7176.47 7230 7175.71 7216.27 883.05"
                )
            },
        ),
        "months/*.csv": (
            "refused",
            {
                "BTCUSDT": (
                    "2023-01-30T23:59:59.999 10 12 9 11 5\n"
                    "2023-01-31T23:59:59.999 11 12 10 12 5\n"
                    "2023-02-01T00:59:59.999 12 13 11 12 5\n"
                    "2023-02-01T01:59:59.999 12 13 11 13 5"
                )
            },
        ),
        "newest_first_out_of_place.csv": (
            "refused",
            {
                "newest_first_out_of_place": "\n".join(
                    f"2017-11-12T{hour} {close} {close} {close} {close} 0"
                    for hour, close in (
                        ("03:00", 6201),
                        ("07:00", 6172),
                        ("08:00", 6201),
                        ("09:00", 6241),
                        ("10:00", 6375),
                        ("11:00", 6371),
                    )
                )
            },
        ),
        "open_zero.csv": ("refused", {"open_zero": two.replace("10 12 9 11", "11 12 9 11")}),
        "preamble_with_comma.csv": ("read", {"BTCUSD": two}),
        "reverse_split_100.csv": (
            "refused",
            {
                "reverse_split_100": (
                    "2020-01-01 100 100 100 100 0\n"
                    "2020-01-02 101 101 101 101 0\n"
                    "2020-01-03 102 102 102 102 0\n"
                    "2020-01-04 101.5 101.5 101.5 101.5 0\n"
                    "2020-01-05 102 102 102 102 0"
                )
            },
        ),
        "saved_twice.csv": ("read", {"saved_twice": none}),
        "volume_minus_one.csv": (
            "repaired",
            {"volume_minus_one": "2020-01-01T09:30 1.10 1.12 1.09 1.11 0\n2020-01-01T09:31 1.11 1.12 1.10 1.12 0"},
        ),
        "wide.csv": ("refused", {"BTC": none}),
        "volume_swapped.csv": (
            "repaired",
            {
                "volume_swapped": (
                    "2020-10-10T00:00 9973.96 9993.91 9954.01 9983.94 180.5003\n"
                    "... 60\n"
                    "2020-10-12T11:00 9796.52 9816.12 9776.93 9806.32 167.4390"
                )
            },
        ),
        "ends_early/*.csv": (
            "read",
            {
                "LONG": LONG,
                "SHORT": "2020-01-01 104.17 104.17 104.17 104.17 0\n... 470\n2021-04-14 171.71 171.71 171.71 171.71 0",
            },
        ),
        "unequal/*.csv": (
            "read",
            {
                "COIN": LONG,
                "STOCK": "2020-01-01 100.38 100.38 100.38 100.38 0\n... 500\n2021-11-30 58.61 58.61 58.61 58.61 0",
            },
        ),
    }
    found = [Kind(f"case {path}", {}, bars, outcome, path=str(CASES / path)) for path, (outcome, bars) in held.items()]
    for path in ("close_is_a_date.parquet", "prices_as_bytes.parquet"):
        found.append(Kind(f"case {path}", {}, {}, "refused", "export it as plain numbers", path=str(CASES / path)))
    return found

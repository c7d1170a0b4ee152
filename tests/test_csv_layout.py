"""Where the cells of a csv file are: lines that are no rows, separators, rows that are too long."""

import gzip

import pytest
from price_files import COLUMNS, HEADER, ROWS

from moe_trader.env import MarketError

PRICES = HEADER.removesuffix(",Volume")
BAR = "10,12,9,11"


def turned(separator):
    return [line.replace(",", separator) for line in (HEADER, *ROWS)]


@pytest.mark.parametrize(
    "lines",
    [
        ("sep=;", *turned(";")),
        ("sep=,", HEADER, *ROWS),
        ('"sep=;"', *turned(";")),
        ("sep=\t", *turned("\t")),
        ("SEP=^", *turned("^")),
        ("sep=;", "# of a vendor, with commas", *turned(";")),
        ("# of a vendor", HEADER, *ROWS),
        ("# of a vendor, with commas; and more", "", "# and another", HEADER, *ROWS),
        turned(" "),
        turned("   "),
        ("of a vendor", *turned(" ")),
        ("#,,", *turned(" ")),
    ],
)
def test_lines_that_are_no_rows_and_separators(lines, write, load):
    path = write("x.csv", *lines)
    one = load(path).instruments[0]
    assert [getattr(one, name)[0] for name in COLUMNS[1:]] == [10, 12, 9, 11, 100]
    assert one.close.tolist() == [11, 12, 13]
    last = len(lines)
    bad = write("x.csv", *lines[:-1], lines[-1].replace("13", "-13"))
    with pytest.raises(MarketError, match=rf"x\.csv: row {last}: close is -13\.0"):
        load(bad)


def test_a_header_above_decimal_commas_is_found(write, load):
    """Rows are even in commas as well as in semicolons; the header only in semicolons."""
    rows = [f"{at:02}.01.2020;1.00{at},34;1.10{at},40;990,29;1.00{at},50;31.205" for at in range(1, 9)]
    path = write("x.csv", "\ufeffTag;Beginn;Oben;Unten;Ende;Umsatz", *rows)
    with pytest.raises(MarketError, match=r"there: Tag, Beginn, Oben, Unten, Ende, Umsatz$"):
        load(path)


# Rows that are longer than the header


@pytest.mark.parametrize(
    ("lines", "row", "cells", "count"),
    [
        ((HEADER, ROWS[0], "2018-12-28,11,13,10,12,1,234", "2018-12-31,11,13,10,12,1,234"), 3, 7, 2),
        ((HEADER, *(f"{row},234" for row in ROWS)), 2, 7, 3),
        (("# a, comment", "", HEADER, ROWS[0], "", f"{ROWS[1]},1,1"), 6, 8, 1),
        ((HEADER, ROWS[0].replace("100", '"100"'), '2018-12-28,"11",13,10,12,1,234'), 3, 7, 1),
        ((*turned(" "), "2019-01-02 09:30 10 12 9 11 100"), 5, 7, 1),
    ],
)
def test_a_row_longer_than_the_header_is_named(lines, row, cells, count, write, load, tmp_path):
    message = (
        rf"row {row}: {cells} cells below a header of 6 \({count} such rows\);.* write numbers without thousands "
        r"separators \(1234, not 1,234\), and quote cells that hold what separates them"
    )
    path = write("x.csv", *lines)
    with pytest.raises(MarketError, match=message) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: row")
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(MarketError, match=message):
        load(tmp_path / "x.csv.gz")


def test_lines_that_are_quoted_as_a_whole_are_told(write, load):
    path = write("x.csv", *(f'"{line}"' for line in (HEADER, *ROWS)))
    with pytest.raises(
        MarketError,
        match=r"x\.csv: row 1: quotes around the whole line make it one cell; remove those at the beginning",
    ):
        load(path)


# Volumes in thousands and millions


def test_volumes_with_a_letter_for_thousands_millions_and_billions(write, load):
    rows = [
        f"2018-12-{day},{BAR},{volume}"
        for day, volume in zip(range(20, 26), ["1.2M", "350K", "2B", "-", "0", ".5k"], strict=True)
    ]
    one = load(write("x.csv", f"{PRICES},Vol.", *rows)).instruments[0]
    assert one.volume.tolist() == [1.2e6, 350e3, 2e9, 0, 0, 500]


@pytest.mark.parametrize("other", ["500", "1.2X", "1,2M", "M"])
def test_volumes_of_which_some_have_no_known_letter_are_refused(other, write, load):
    rows = (f"2018-12-27,{BAR},1.2M", f'2018-12-28,{BAR},"{other}"')
    with pytest.raises(MarketError, match=r"column 'Vol\.': '1\.2M' is no number .*; write them in full, as 1200000 f"):
        load(write("x.csv", f"{PRICES},Vol.", *rows))


# Closes that stand elsewhere


@pytest.mark.parametrize("heading", ["Settle", "Last", "settlement_price"])
def test_a_close_that_is_not_positive_beside_another_price(heading, write, load):
    path = write("x.csv", f"Date,Close,{heading}", "2018-12-27,11,11", "2018-12-28,0,12")
    with pytest.raises(
        MarketError,
        match=rf"row 3: close is 0\.0; prices must be positive; set env\.market\.columns\.close={heading} to "
        r"take the close from another column",
    ):
        load(path)
    assert load(path, f"env.market.columns.close={heading}").instruments[0].close.tolist() == [11, 12]


# Where a path counts from


@pytest.mark.parametrize(("name", "reason"), [("nowhere.csv", "no such file; .*"), ("*.csv", "no file matches")])
def test_a_missing_relative_path_says_what_it_counts_from(name, reason, load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for env in ("csv", "parquet"):
        with pytest.raises(
            MarketError, match=rf": {reason}; a relative path counts from the working directory, {tmp_path}$"
        ):
            load(name, env=env)
    with pytest.raises(MarketError, match=r"(no file matches|a file of bars)$"):
        load(tmp_path / name)

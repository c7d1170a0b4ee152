"""Price files as people have them: read where they can be, refused in words that name the place."""

import gzip

import numpy as np
import pytest

from moe_trader.env import MarketError
from moe_trader.env.reading.bars import read_csv

HEADER = "Date,Open,High,Low,Close,Volume"
ROWS = ("2018-12-27,10,12,9,11,100", "2018-12-28,11,13,10,12,200", "2018-12-31,12,14,11,13,300")


@pytest.fixture
def write(tmp_path):
    """``write("header", "row", ...)``: a csv file of these lines."""

    def to_file(*lines):
        path = tmp_path / "prices.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return to_file


@pytest.fixture(scope="module")
def nasdaq(make_settings):
    return make_settings("env=nasdaq", small=False).env.market.load()


def test_nasdaq_is_5031_sessions_from_1999_to_2018(nasdaq):
    (one,) = nasdaq.instruments
    assert len(one) == 5031
    assert str(one.time[0])[:10] == "1999-01-04"
    assert str(one.time[-1])[:10] == "2018-12-31"
    assert one.close[-1] == pytest.approx(6635.28, abs=0.01)
    assert nasdaq.opens_are_real
    assert nasdaq.regime_names == ()
    for column in (one.open, one.high, one.low, one.close):
        assert np.isfinite(column).all()
        assert (column > 0).all()


def test_daily_business_data_has_about_252_bars_a_year(nasdaq, make_market):
    assert 250 <= nasdaq.instruments[0].bars_per_year <= 262
    assert 250 <= make_market(np.full(1000, 1.0)).instruments[0].bars_per_year <= 262


def test_bars_a_year_come_from_the_stamps(make_market):
    hours = np.datetime64("2020-01-01T00", "h") + np.arange(1000)
    assert make_market(np.full(1000, 1.0), time=hours).instruments[0].bars_per_year == pytest.approx(365.25 * 24)


def test_the_hash_of_a_market_knows_every_price_and_stamp(make_market):
    close = np.arange(1.0, 20.0)
    same, other = make_market(close), make_market(np.where(close == 10, 10.5, close))
    later = make_market(close, time=make_market(close).instruments[0].time + np.timedelta64(1, "s"))
    assert make_market(close).sha256() == same.sha256()
    assert len({same.sha256(), other.sha256(), later.sha256(), make_market(close, symbol="x").sha256()}) == 4


def test_a_plain_file(write):
    one = read_csv(write(HEADER, *ROWS), "x")
    assert one.symbol == "x"
    assert [str(stamp)[:10] for stamp in one.time] == ["2018-12-27", "2018-12-28", "2018-12-31"]
    assert one.open.tolist() == [10, 11, 12]
    assert one.high.tolist() == [12, 13, 14]
    assert one.low.tolist() == [9, 10, 11]
    assert one.close.tolist() == [11, 12, 13]
    assert one.volume.tolist() == [100, 200, 300]


def test_a_file_with_the_newest_bar_first_is_turned(write):
    turned, plain = read_csv(write(HEADER, *ROWS[::-1]), "x"), read_csv(write(HEADER, *ROWS), "x")
    for name in ("time", "open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(turned, name), getattr(plain, name))


@pytest.mark.parametrize(
    "header",
    [
        "date,open,high,low,close,volume",
        "TIMESTAMP,O,H,L,C,V",
        " Datetime , Open , HIGH, low ,Close,Vol",
        "ts,o,h,l,c,x",
    ],
)
def test_names_of_columns_may_be_short_and_in_any_case(header, write):
    one = read_csv(write(header, *ROWS), "x")
    assert one.open.tolist() == [10, 11, 12]
    assert one.close.tolist() == [11, 12, 13]
    assert one.volume.tolist() == ([0, 0, 0] if header.endswith("x") else [100, 200, 300])


def test_columns_may_stand_in_any_order_with_others_between(write):
    path = write("Volume,Close,Change,Low,High,Open,Time", "5,11,99,9,12,10,2018-12-27", "6,12,99,10,13,11,2018-12-28")
    one = read_csv(path, "x")
    assert (one.open[0], one.high[0], one.low[0], one.close[0], one.volume[0]) == (10, 12, 9, 11, 5)


def test_a_missing_volume_reads_as_zeros(write):
    one = read_csv(write(HEADER.removesuffix(",Volume"), *(row.rpartition(",")[0] for row in ROWS)), "x")
    assert one.volume.tolist() == [0, 0, 0]


def test_stamps_of_different_time_zones_are_one_time(write):
    rows = ("2018-03-09T16:00:00-05:00,1,1,1,1,1", "2018-03-12T16:00:00-04:00,1,1,1,1,1")
    one = read_csv(write(HEADER, *rows), "x")
    assert [str(stamp)[:16] for stamp in one.time] == ["2018-03-09T21:00", "2018-03-12T20:00"]


def test_dates_without_separators(write):
    one = read_csv(write(HEADER, *(row.replace("-", "") for row in ROWS)), "x")
    assert [str(stamp)[:10] for stamp in one.time] == ["2018-12-27", "2018-12-28", "2018-12-31"]


def test_dates_in_a_format_of_their_own(write):
    rows = ("27/12/2018,10,12,9,11,100", "02/01/2019,11,13,10,12,200")
    one = read_csv(write(HEADER, *rows), "x", date_format="%d/%m/%Y")
    assert [str(stamp)[:10] for stamp in one.time] == ["2018-12-27", "2019-01-02"]
    with pytest.raises(MarketError, match=r"row 2, column 'Date': '27/12/2018' is no date; expected .*'%m/%d/%Y'"):
        read_csv(write(HEADER, *rows), "x", date_format="%m/%d/%Y")


def test_a_compressed_file(tmp_path):
    import gzip

    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress("\n".join([HEADER, *ROWS]).encode()))
    assert read_csv(path, "x").close.tolist() == [11, 12, 13]


def test_csv_markets_are_called_after_their_file_unless_told_otherwise(write, make_settings):
    path = write(HEADER, *ROWS)
    market = make_settings("env=csv", f"env.market.path={path}", small=False).env.market.load()
    assert (market.name, market.instruments[0].symbol, market.opens_are_real) == ("prices", "prices", True)
    named = make_settings("env=csv", f"env.market.path={path}", "env.market.symbol=ACME", small=False).env.market.load()
    assert named.instruments[0].symbol == "ACME"


# What is refused


def test_a_missing_file(tmp_path):
    with pytest.raises(MarketError, match=r"nowhere\.csv: no such file; give the path of a file of bars"):
        read_csv(tmp_path / "nowhere.csv", "x")


def test_a_missing_column_names_the_file_the_column_and_those_there(write):
    path = write("Date,Open,High,Close", "2018-12-27,10,12,11")
    with pytest.raises(
        MarketError,
        match=r"prices\.csv: missing column low \(any of low, l, .*\);.*low=HEADING .*; columns there: Date, .*Close$",
    ):
        read_csv(path, "x")


def test_several_missing_columns_are_named_at_once(write):
    with pytest.raises(MarketError, match=r"missing column time \(any of time, date.*\); low .*columns there: Open, "):
        read_csv(write("Open,High,Close", "10,12,11"), "x")


def test_an_empty_file(tmp_path):
    path = tmp_path / "prices.csv"
    path.touch()
    with pytest.raises(MarketError, match=r"prices\.csv: cannot be read as csv"):
        read_csv(path, "x")


def test_a_header_without_a_row(write):
    with pytest.raises(MarketError, match=r"prices\.csv"):
        read_csv(write(HEADER), "x")


def test_a_folder_or_a_file_that_is_no_csv(tmp_path):
    with pytest.raises(MarketError, match="cannot be read as csv"):
        read_csv(tmp_path, "x")
    (tmp_path / "prices.csv.gz").write_text("Too many requests")
    with pytest.raises(MarketError, match=r"gz: a message, and no prices: Too many requests; download it again$"):
        read_csv(tmp_path / "prices.csv.gz", "x")
    (tmp_path / "prices.csv.gz").write_bytes(gzip.compress(b"Date,Close\n" * 99)[:-9])
    with pytest.raises(
        MarketError, match=r"cannot be read as csv \(.*; if it is cut off, export or download it again$"
    ):
        read_csv(tmp_path / "prices.csv.gz", "x")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2018-12-28,ten,13,10,12,200", r"row 3, column 'Open': 'ten' is no number \(1 such rows\)"),
        ("2018-12-28,11,13,10,.,200", r"row 3, column 'Close': '\.' is no number"),
        ("2018-12-28,11,13,10,12,many", r"row 3, column 'Volume': 'many' is no number"),
        ("2018-12-28,11,,10,12,200", r"row 3, column 'High': .* is no number"),
        ("2018-12-28,11,inf,10,12,200", r"row 3, column 'High': .* is no number"),
        ("2018-12-28,11,13,0,12,200", r"row 3: low is 0\.0; prices must be positive"),
        ("2018-12-28,11,13,-10,12,200", r"row 3: low is -10\.0; prices must be positive"),
        (
            "2018-12-28,11,11.5,10,12,200",
            r"row 3: open and close must lie between low and high \(open 11\.0, high 11\.5",
        ),
        ("2018-12-28,11,13,11.5,12,200", r"row 3: open and close must lie between low and high"),
        ("soon,11,13,10,12,200", r"row 3, column 'Date': 'soon' is no date; expected ISO 8601 \(2018-12-31\)"),
        ("2018-02-30,11,13,10,12,200", r"row 3, column 'Date': '2018-02-30' is no date"),
        (",11,13,10,12,200", r"row 3, column 'Date': no date"),
        ("2018-12-27,11,13,10,12,200", r"stamp 2018-12-27\S* stands twice; stamps must be unique and in order"),
        ("2019-12-28,11,13,10,12,200", r"stamp 2019-12-28\S* is followed by 2018-12-31"),
    ],
)
def test_a_bad_row_is_named_as_an_editor_counts(row, message, write):
    """The header is row 1; the bad row is the second of three."""
    path = write(HEADER, ROWS[0], row, ROWS[2])
    with pytest.raises(MarketError, match=message) as error:
        read_csv(path, "x")
    assert str(error.value).startswith(str(path))
    assert "np." not in str(error.value), "a cell is shown as the file has it"


def test_rows_are_counted_from_the_top_of_a_file_that_is_newest_first(write):
    with pytest.raises(MarketError, match=r"row 2: close is -13\.0"):
        read_csv(write(HEADER, ROWS[2].replace(",13,", ",-13,"), *ROWS[1::-1]), "x")


def test_a_blank_line_counts_as_a_row_too(write):
    with pytest.raises(MarketError, match=r"row 4, column 'Open': 'ten'"):
        read_csv(write(HEADER, ROWS[0], "", "2018-12-28,ten,13,10,12,200", ROWS[2]), "x")

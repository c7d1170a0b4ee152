"""Files of other formats than the option reads, and tables as other libraries write them."""

import os
import zipfile

import pandas as pd
import pytest
from price_files import HEADER, ROWS

from moe_trader.env import MarketError

LINES = "\n".join([HEADER, *ROWS])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", f"{LINES},é".encode("latin-1"), r"not valid UTF-8 text \(byte 0xe9\); .*\.market\.encoding=latin"),
        ("x.xlsx", b"PK\x03\x04rest", r"is an Excel workbook; convert it with pandas: pd\.read_excel\('x\.xlsx'\)"),
        ("x.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", r"is an Excel workbook; convert .*\.to_csv\('x\.csv', index=False\)$"),
        ("x.parquet", b"PAR1rest", r"cannot be read as Parquet \(.*Either the file is corrupted"),
        ("x.h5", b"\x89HDF\r\n", r"this is an HDF5 file; .*: pd\.read_hdf\('x\.h5'\)\.to_parquet\('x\.parquet'\)$"),
        ("x.pkl", b"\x80\x05", r"is a pickle; .* only one that you trust\): pd\.read_pickle\('x\.pkl'\)\.to_parquet"),
        ("x.db", b"SQLite format 3\0", r"this is a SQLite database; .*sqlite3\.connect\('x\.db'\)\)\.to_parquet\("),
        ("x.csv.zst", b"\x28\xb5\x2f\xfd", r"cannot be read as csv \(Truncated .*; if it is cut off, export or"),
        ("x.zip", b"PK\x03\x04rest", r"cannot be read as zip; if it is cut off, download it again"),
        ("x.7z", b"7z\xbc\xaf\x27\x1c", r"this is a 7z archive; unpack it, and give the path of what it holds"),
    ],
)  # fmt: skip
def test_what_is_no_csv_says_what_it_is(name, content, message, load, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MarketError, match=message) as error:
        load(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


def test_the_first_bytes_tell_a_format_whatever_the_option_is_called(write, load, tmp_path):
    path = write("x.csv", HEADER, *ROWS)
    expected = load(path).sha256()
    assert load(path, env="parquet").sha256() == expected
    table = pd.read_csv(path)
    table.to_parquet(tmp_path / "x.parquet")
    table.to_feather(tmp_path / "x.feather")
    table.to_orc(tmp_path / "x.orc")
    table.to_json(tmp_path / "x.json", orient="records")
    table.to_json(tmp_path / "x.jsonl", orient="records", lines=True)
    (tmp_path / "x.txt").write_bytes(path.read_bytes().decode().encode("utf-16"))
    for name in ("x.parquet", "x.feather", "x.orc", "x.json", "x.jsonl", "x.txt"):
        assert load(tmp_path / name).sha256() == expected, name


@pytest.mark.parametrize("name", ["gzip", "zip", "bz2", "xz"])
def test_a_compressed_file_is_known_by_its_first_bytes_whatever_its_name(name, write, load, tmp_path):
    path = write("x.csv", HEADER, *ROWS)
    expected = load(path).sha256()
    pd.read_csv(path).to_csv(path, index=False, compression=name)
    assert not path.read_bytes().startswith(b"Date")
    assert load(path).sha256() == expected


def test_members_of_archives(write, load, tmp_path):
    path = write("a.csv", HEADER, *ROWS)
    expected = load(path).sha256()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a.csv", "b.csv", "c.txt"):
            archive.write(path, name)
    with pytest.raises(MarketError, match=r"x\.zip: an archive of 3 files \(a\.csv, b\.csv, c\.txt\); set 'env\.path="):
        load(tmp_path / "x.zip")
    assert load(tmp_path / "x.zip" / "a.csv").sha256() == expected
    assert [one.symbol for one in load(f"'{tmp_path}/x.zip/*.csv'").instruments] == ["a", "b"]
    with pytest.raises(MarketError, match=r"x\.zip/d\.csv: no file matches"):
        load(tmp_path / "x.zip" / "d.csv")


def test_an_archive_with_a_password_says_so(write, load, tmp_path):
    path = write("a.csv", HEADER, *ROWS)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(path, "a.csv")
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[6] |= 1  # the flag of encryption, in the member's own header and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(
        MarketError, match=r"x\.zip: .*password required.*; unpack it, and give the path of what it hol"
    ):
        load(tmp_path / "x.zip")


def test_a_path_that_no_file_system_takes(load, tmp_path):
    for name in ("A" * 300, "A" * 300 + "*"):
        for env in ("csv", "parquet"):
            with pytest.raises(
                MarketError, match=r"A{300}\*?: (cannot be read as \w+ \(.*File name too long|no file match)"
            ):
                load(tmp_path / name, env=env)


def test_names_keep_their_dots(write, load, tmp_path):
    for name in ("BRK.A.csv", "BRK.B.csv", "BTC.txt"):
        write(name, HEADER, *ROWS)
    pd.read_csv(tmp_path / "BRK.A.csv").to_csv(tmp_path / "BF.B.CSV.gz", index=False)
    market = load(f"[{tmp_path}/BRK.A.csv,{tmp_path}/BRK.B.csv,{tmp_path}/BTC.txt,{tmp_path}/BF.B.CSV.gz]")
    assert [one.symbol for one in market.instruments] == ["BRK.A", "BRK.B", "BTC", "BF.B"]


def test_the_home_folder_may_be_a_tilde(write, load, tmp_path, monkeypatch):
    write("x.csv", HEADER, *ROWS)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("'~/x.csv'").name == "x"
    assert load("'~/*.csv'").name == "x"


# Parquet as other libraries write it


def frame():
    return pd.DataFrame({"Close": [10.0, 11.0, 12.0]}, index=pd.bdate_range("2018-12-27", periods=3, name="Date"))


def test_stamps_in_the_index_and_in_a_column_of_its_name(load, tmp_path):
    frame().assign(Date=frame().index).to_parquet(tmp_path / "x.parquet")
    assert load(tmp_path / "x.parquet", env="parquet").instruments[0].close.tolist() == [10, 11, 12]
    frame().assign(Date="2018-12-27").to_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        MarketError, match=r"x\.parquet: the index and a column are both called 'Date', and differ; rename one$"
    ):
        load(tmp_path / "x.parquet", env="parquet")


@pytest.mark.parametrize("tickers_first", [False, True])
def test_headings_of_two_rows_as_yfinance_has_them(tickers_first, load, tmp_path):
    def save(**tables):
        names = ["Ticker", "Price"]
        both = pd.concat(tables, axis=1, names=names)
        (both if tickers_first else both.swaplevel(axis=1)).to_parquet(tmp_path / "x.parquet")

    save(AAPL=frame())
    (one,) = load(tmp_path / "x.parquet", env="parquet").instruments
    assert (one.symbol, one.close.tolist()) == ("x", [10, 11, 12])
    assert str(one.time[0])[:10] == "2018-12-27"
    save(AAPL=frame(), KO=frame().iloc[1:] * 2)
    market = load(tmp_path / "x.parquet", env="parquet")
    assert [one.symbol for one in market.instruments] == ["AAPL", "KO"]
    assert [one.close.tolist() for one in market.instruments] == [[10, 11, 12], [22, 24]]
    assert market.repaired == (0, 0)
    bad = frame()
    bad.loc["2018-12-31", "Close"] = -1
    save(AAPL=frame(), KO=bad)
    with pytest.raises(MarketError, match=r"x\.parquet \(KO\): row 3: close is -1"):
        load(tmp_path / "x.parquet", env="parquet")


def test_headings_of_several_rows_that_nobody_knows(load, tmp_path):
    table = frame()
    table.columns = pd.MultiIndex.from_tuples([("last", "X")])
    table.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        MarketError, match=r"headings of several rows \(\('last', 'X'\)\); give one row of them, and a symbo"
    ):
        load(tmp_path / "x.parquet", env="parquet")


def test_a_heading_that_stands_twice_is_refused(write, load):
    path = write("x.csv", "Date,Close,Open,High,Low,Close", "2018-12-27,1,1,1,1,2")
    with pytest.raises(
        MarketError,
        match=r"x\.csv: columns 'Close' and 'Close' cannot be distinguished; .*: set env\.market\.columns\.close=1",
    ):
        load(path)


def test_what_is_no_regular_file_is_refused_at_once(load, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in ("/dev/zero", tmp_path / "pipe.csv"):
        with pytest.raises(MarketError, match=f"^{path}: a pipe or a device, which can be read once at most; save its"):
            load(path)

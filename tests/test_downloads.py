"""Markets that are downloaded: the client libraries' own code on recorded answers; only what they send is replaced."""

import json
import logging
import os
import time
from urllib.parse import parse_qs, urlparse

import numpy as np
import pandas as pd
import pytest

from moe_trader.env import MarketError
from moe_trader.env.reading.download import import_extra

HOUR = 3_600_000  # milliseconds


@pytest.fixture
def yahoo(make_settings, tmp_path):
    """``yahoo("env.market.interval=1h")``: the market of the config, cached in a folder of the test."""
    pytest.importorskip("yfinance")

    def made(*overrides):
        fixed = ("env.market.symbols=[KO]", "env.market.start=2020-01-01", "env.market.end=2020-02-08")
        cache = f"env.market.cache={tmp_path / 'cache'}"
        return make_settings("env=yahoo", *fixed, cache, *overrides, small=False).env.market

    return made


@pytest.fixture
def yahoo_answers(monkeypatch, tmp_path):
    """``yahoo_answers(chart)``: every request gets this answer (an exception is raised); returns the requests."""
    yfinance = pytest.importorskip("yfinance")
    from yfinance.data import YfData

    yfinance.set_tz_cache_location(str(tmp_path / "zones"))

    class Response:
        def __init__(self, body):
            self.body, self.text, self.status_code, self.url = body, json.dumps(body), 200, ""

        def json(self):
            return self.body

        def raise_for_status(self):
            raise ConnectionError("HTTP Error 404")

    def answer(body):
        requests = []

        def get(self, url, params=None, timeout=30):
            requests.append((url, params))
            if isinstance(body, Exception):
                raise body
            return Response(body)

        monkeypatch.setattr(YfData, "get", get)
        monkeypatch.setattr(YfData, "cache_get", get)  # remembers answers for the life of the process
        return requests

    return answer


def chart(opened, interval="1d", close=None):
    """Yahoo's v8 chart answer for bars that open at these stamps."""
    n = len(opened)
    close = np.linspace(50, 60, n) if close is None else np.asarray(close)
    quote = {
        "open": (close - 0.1).tolist(),
        "high": (close + 1).tolist(),
        "low": (close - 1).tolist(),
        "close": close.tolist(),
        "volume": list(range(100, 100 + n)),
    }
    period = {"timezone": "EST", "start": 1578061800, "end": 1578085200, "gmtoffset": -18000}
    meta = {
        "currency": "USD",
        "symbol": "KO",
        "exchangeName": "NYQ",
        "instrumentType": "EQUITY",
        "firstTradeDate": -252322200,
        "gmtoffset": -18000,
        "timezone": "EST",
        "exchangeTimezoneName": "America/New_York",
        "priceHint": 2,
        "currentTradingPeriod": dict.fromkeys(("pre", "regular", "post"), period),
        "dataGranularity": interval,
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "max"],
    }
    if interval != "1d":
        meta["tradingPeriods"] = [
            [{**period, "start": int(day.timestamp()), "end": int(day.timestamp()) + 6 * 3600 + 1800}]
            for day in sorted({stamp.normalize() + pd.Timedelta(hours=9, minutes=30) for stamp in opened})
        ]
    result = {
        "meta": meta,
        "timestamp": [int(stamp.timestamp()) for stamp in opened],
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": (close / 2).tolist()}]},
    }
    if interval != "1d":
        del result["indicators"]["adjclose"]
    return {"chart": {"result": [result], "error": None}}


def sessions(n):
    return list(pd.bdate_range("2020-01-02", periods=n, tz="America/New_York") + pd.Timedelta(hours=9, minutes=30))


def test_daily_bars_from_yahoo(yahoo, yahoo_answers):
    requests = yahoo_answers(chart(sessions(24)))
    market = yahoo().load()
    (one,) = market.instruments
    assert (market.name, one.symbol, len(one), market.opens_are_real) == ("KO", "KO", 24, True)
    assert str(one.time[0]) == "2020-01-02T00:00:00.000000"
    np.testing.assert_allclose(one.close, np.linspace(50, 60, 24) / 2)
    np.testing.assert_allclose(one.open, (np.linspace(50, 60, 24) - 0.1) / 2)
    assert requests[-1][0].endswith("/v8/finance/chart/KO")
    assert requests[-1][1]["interval"] == "1d"
    raw = yahoo("env.market.adjust=false").load().instruments[0]
    np.testing.assert_allclose(raw.close, np.linspace(50, 60, 24))


def test_a_second_run_reads_the_cache_and_asks_nobody(yahoo, yahoo_answers, tmp_path, caplog):
    yahoo_answers(chart(sessions(24)))
    first = yahoo().load()
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["yahoo_KO_1d_20200101_20200208.parquet"]
    requests = yahoo_answers(chart(sessions(24), close=np.linspace(70, 80, 24)))
    with caplog.at_level(logging.INFO, logger="moe_trader"):
        assert yahoo().load().sha256() == first.sha256()
    assert requests == []
    assert "yahoo: bars of KO from" in caplog.text
    assert yahoo("env.market.refresh=true").load().sha256() != first.sha256()
    assert requests


def test_hours_are_stamped_when_they_close_in_utc(yahoo, yahoo_answers):
    opened = [day + pd.Timedelta(hours=hour) for day in sessions(20) for hour in range(3)]
    yahoo_answers(chart(opened, "1h"))
    (one,) = yahoo("env.market.interval=1h").load().instruments
    assert [str(stamp)[:16] for stamp in one.time[:2]] == ["2020-01-02T15:30", "2020-01-02T16:30"]
    assert len(one) == 60


def test_a_bar_that_has_not_closed_yet_is_left_out(yahoo, yahoo_answers):
    today = pd.Timestamp.now("America/New_York").normalize()
    days = [today - pd.Timedelta(days=back) + pd.Timedelta(hours=9, minutes=30) for back in (3, 2, 1, 0)]
    yahoo_answers(chart(days))
    (one,) = yahoo("env.market.end=null").load().instruments
    assert len(one) == 3
    assert str(one.time[-1])[:10] == str((today - pd.Timedelta(days=1)).date())


EMPTY = chart([])
UNKNOWN = {"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found for this symbol"}}}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (EMPTY, r"^yahoo: no 1d bars of KO from 2020-01-01 to 2020-02-08 \(an empty answer\); check the symbol at fin"),
        (UNKNOWN, r"^yahoo: no .* (of|about) KO .*check the .*symbol at finance\.yahoo\.com"),
        (
            ConnectionError("Could not resolve host: query2.finance.yahoo.com"),
            r"^yahoo: no answer about KO \(ConnectionError: Could not resolve host: .*\); check the network, and",
        ),
    ],
    ids=["empty", "unknown", "offline"],
)
def test_yahoo_without_bars_is_told_apart(answer, message, yahoo, yahoo_answers, tmp_path):
    import yfinance

    yahoo_answers(answer)
    with pytest.raises(MarketError, match=message):
        yahoo().load()
    assert not (tmp_path / "cache").exists()
    assert yfinance.config.debug.hide_exceptions is True, "the library's own setting is as it was"


def test_yahoo_asking_for_patience(yahoo, yahoo_answers):
    from yfinance.exceptions import YFRateLimitError

    yahoo_answers(YFRateLimitError())
    with pytest.raises(MarketError, match=r"^yahoo: KO: Too Many Requests\."):
        yahoo().load()


def test_an_unsound_answer_is_refused_and_not_kept(yahoo, yahoo_answers, tmp_path):
    body = chart(sessions(24))
    body["chart"]["result"][0]["indicators"]["quote"][0]["low"][4] = -1.0
    yahoo_answers(body)
    with pytest.raises(MarketError, match=r"^yahoo's answer for KO: row 5: low is -1"):
        yahoo().load()
    assert not (tmp_path / "cache").exists()


def test_mended_rows_are_counted(yahoo, yahoo_answers):
    body = chart(sessions(24))
    quote = body["chart"]["result"][0]["indicators"]["quote"][0]
    quote["high"][4] = quote["close"][4] * 0.9999
    yahoo_answers(body)
    assert yahoo().load().repaired == (1,)
    assert yahoo().load().repaired == (1,), "read from the cache"


def broken(name, place, factor):
    """Yahoo's answer with one price times a factor."""
    body = chart(sessions(24))
    quote = body["chart"]["result"][0]["indicators"]["quote"][0]
    quote[name][place] *= factor
    return body


def test_a_bar_outside_its_range_is_widened_on_request(yahoo, yahoo_answers):
    yahoo_answers(broken("high", 4, 0.97))
    with pytest.raises(MarketError, match=r"row 5: open and close must .*; set env\.market\.ranges=widen to widen hi"):
        yahoo().load()
    yahoo_answers(broken("high", 4, 0.97))
    market = yahoo("env.market.ranges=widen").load()
    (one,) = market.instruments
    assert one.high[4] == one.close[4]
    assert market.repaired == (1,)
    assert "1 rows whose high or low misses the open or close by up to 1.1 % widened (first: row 5)" in market.notes[0]
    assert yahoo("env.market.ranges=widen").load().sha256() == market.sha256(), "read from the cache"
    with pytest.raises(MarketError, match=r"ranges=widen to widen .*; to download it again set env\.market\.refresh=t"):
        yahoo().load()


def test_an_open_of_0_is_the_close_on_request(yahoo, yahoo_answers):
    yahoo_answers(broken("open", 4, 0))
    with pytest.raises(MarketError, match=r"row 5: open is 0\.0; .*; set env\.market\.ranges=widen to take the close"):
        yahoo().load()
    yahoo_answers(broken("open", 4, 0))
    market = yahoo("env.market.ranges=widen").load()
    (one,) = market.instruments
    assert one.open[4] == one.close[4]
    assert market.opens_are_real, "one of 24 is few"


def test_many_opens_of_0_are_not_real(yahoo, yahoo_answers):
    body = chart(sessions(24))
    body["chart"]["result"][0]["indicators"]["quote"][0]["open"][:2] = [0.0, 0.0]
    yahoo_answers(body)
    assert not yahoo("env.market.ranges=widen").load().opens_are_real


def test_a_bad_row_of_a_download_is_dropped_on_request(yahoo, yahoo_answers):
    yahoo_answers(broken("low", 4, -1))
    market = yahoo("env.market.bad_rows=drop").load()
    assert len(market.instruments[0]) == 23
    assert market.repaired == (1,)


def test_a_refusal_of_a_download_names_no_setting_that_it_lacks(yahoo, yahoo_answers):
    yahoo_answers(broken("volume", 4, -1))
    with pytest.raises(MarketError, match=r"row 5: volume is -104\.0") as refused:
        yahoo().load()
    assert "env.market.columns" not in str(refused.value)
    assert "env.market.bad_rows=drop" in str(refused.value)


def test_a_damaged_cache_says_how_to_mend_it(yahoo, yahoo_answers):
    yahoo_answers(chart(sessions(24)))
    market = yahoo()
    market.load()
    market.cache_file("KO").write_text("not Parquet")
    with pytest.raises(
        MarketError, match=r"cannot be read as Parquet .*to download it again set env\.market\.refresh=tr"
    ):
        market.load()


def test_names_of_cache_files_are_safe(yahoo):
    market = yahoo()
    names = {market.cache_file(symbol).name for symbol in ("^GSPC", "EURUSD=X", "../../etc/passwd", "BRK.B")}
    assert len(names) == 4
    assert not any("/" in name for name in names)
    assert all(market.cache_file(symbol).parent == market.cache_file("KO").parent for symbol in ("../x", "a/b"))


def test_a_pair_and_a_future_of_one_name_have_files_of_their_own(binance):
    market = binance()
    assert market.cache_file("BTC/USDT").name == "binance_BTC%2FUSDT_1h_20200101_20200201.parquet"
    assert market.cache_file("BTC-USDT").name == "binance_BTC-USDT_1h_20200101_20200201.parquet"
    assert market.cache_file("BTC/USDT:USDT").name != market.cache_file("BTC/USDT-USDT").name


def test_what_a_killed_download_left_is_cleared_away(yahoo, yahoo_answers, tmp_path, monkeypatch):
    yahoo_answers(chart(sessions(24)))
    cache = tmp_path / "cache"
    cache.mkdir()
    for name, age in (("yahoo_KO.parquet.17.part", 7200), ("yahoo_KO.parquet.18.part", 60), ("other.part", 7200)):
        (cache / name).touch()
        os.utime(cache / name, (time.time() - age,) * 2)
    yahoo().load()
    assert {file.name for file in cache.glob("*.part")} == {"yahoo_KO.parquet.18.part", "other.part"}

    def interrupted(table, path, **options):
        path.touch()
        raise KeyboardInterrupt

    yahoo_answers(chart(sessions(24)))  # yfinance changes what it is answered
    monkeypatch.setattr(pd.DataFrame, "to_parquet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        yahoo("env.market.refresh=true").load()
    assert {file.name for file in cache.glob("*.part")} == {"yahoo_KO.parquet.18.part", "other.part"}


def test_a_cache_that_cannot_be_written_is_named(yahoo, yahoo_answers, tmp_path):
    yahoo_answers(chart(sessions(24)))
    (tmp_path / "file").touch()
    with pytest.raises(MarketError, match=r"cannot be written \(.*\); set env\.market\.cache to a folder of yours"):
        yahoo(f"env.market.cache={tmp_path / 'file' / 'cache'}").load()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.market.end=2019-01-01", r"expected start < end, got 2020-01-01, 2019-01-01"),
        ("env.market.symbols=[KO,KO]", r"symbols: expected different ones"),
        ("env.market.symbols=[]", r"env\.market\.symbols: .*at least 1 item"),
        (f"env.market.symbols=[{'A' * 300}]", r"symbols: expected at most 60 characters each, got A{20}\.\.\.$"),
        ("env.market.interval=2h", r"env\.market\.interval: Input should be '1m'"),
    ],
)
def test_what_yahoo_cannot_be_asked(override, message, yahoo):
    with pytest.raises(ValueError, match=message):
        yahoo(override)


# Exchanges


@pytest.fixture
def binance(make_settings, tmp_path):
    """``binance("env.market.timeframe=1d")``: the market of the config, cached in a folder of the test."""

    def made(*overrides):
        fixed = ("env.market.start=2020-01-01", "env.market.end=2020-02-01", f"env.market.cache={tmp_path / 'cache'}")
        return make_settings("env=ccxt", "env.market.exchange=binance", *fixed, *overrides, small=False).env.market

    return made


@pytest.fixture
def binance_answers(monkeypatch):
    """``binance_answers(first, last)``: hourly klines between these stamps (ms), in pages; returns the requests.

    ``halted``: the klines of these hours are missing, as on exchanges whose pages are stretches of time.
    """
    ccxt = pytest.importorskip("ccxt")
    pair = {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "baseAssetPrecision": 8,
        "quoteAssetPrecision": 8,
        "quotePrecision": 8,
        "orderTypes": ["LIMIT"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "permissions": ["SPOT"],
        "filters": [],
    }

    def kline(opened):
        price = 7000 + (opened // HOUR) % 100
        body = (f"{price}.10", f"{price + 5}.00", f"{price - 5}.00", f"{price}.50", "511.81", opened + HOUR - 1)
        return [opened, *body, "3640000.1", 7640, "255.9", "1820000.0", "0"]

    def answer(first, last, halted=range(0)):
        requests = []

        def fetch(self, url, method="GET", headers=None, body=None):
            requests.append(url)
            if isinstance(first, Exception):
                raise first
            asked = parse_qs(urlparse(url).query)
            if "exchangeInfo" in url:
                return {"timezone": "UTC", "symbols": [pair] if "//api." in url else []}
            since = max(int(asked["startTime"][0]), first)
            since = -(-since // HOUR) * HOUR
            page = range(since, min(since + int(asked["limit"][0]) * HOUR, last), HOUR)
            return [kline(stamp) for stamp in page if stamp not in halted]

        monkeypatch.setattr(ccxt.Exchange, "fetch", fetch)
        monkeypatch.setattr(ccxt.Exchange, "throttle", lambda self, cost=None: None)
        return requests

    return answer


def milliseconds(stamp):
    return int(pd.Timestamp(stamp, tz="UTC").timestamp() * 1000)


def test_bars_of_an_exchange_in_pages(binance, binance_answers, tmp_path):
    requests = binance_answers(0, milliseconds("2030-01-01"))
    market = binance().load()
    (one,) = market.instruments
    assert (market.name, one.symbol, len(one), market.opens_are_real) == ("BTC/USDT", "BTC/USDT", 31 * 24, True)
    assert str(one.time[0]) == "2020-01-01T01:00:00.000000", "stamped when it closes"
    assert str(one.time[-1]) == "2020-02-01T00:00:00.000000"
    assert (np.diff(one.time) == np.timedelta64(1, "h")).all()
    assert one.close[0] - one.open[0] == pytest.approx(0.4)
    assert one.volume[0] == 511.81
    assert sum("klines" in url for url in requests) == 2
    names = [file.name for file in (tmp_path / "cache").iterdir()]
    assert names == ["binance_BTC%2FUSDT_1h_20200101_20200201.parquet"]
    del requests[:]
    assert binance().load().sha256() == market.sha256()
    assert requests == []


def test_an_exchange_that_begins_later_is_taken_as_it_is_and_told(binance, binance_answers, caplog):
    binance_answers(milliseconds("2020-01-10"), milliseconds("2030-01-01"))
    assert len(binance().load().instruments[0]) == 22 * 24
    assert "binance: bars of BTC/USDT begin on 2020-01-10 00:00:00, not on 2020-01-01" in caplog.text


def test_an_empty_page_is_not_the_end(binance, binance_answers, caplog):
    """Binance answers 500 hours a page: nothing was traded for 1,200 of them."""
    gap = range(milliseconds("2020-01-10"), milliseconds("2020-02-29"), HOUR)
    binance_answers(0, milliseconds("2030-01-01"), halted=gap)
    (one,) = binance("env.market.end=2020-04-01").load().instruments
    assert len(one) == 9 * 24 + 32 * 24
    assert str(one.time[-1])[:13] == "2020-04-01T00"
    assert "end on" not in caplog.text


def test_an_exchange_that_ends_early_is_told(binance, binance_answers, caplog):
    binance_answers(0, milliseconds("2020-01-20"))
    assert len(binance().load().instruments[0]) == 19 * 24
    assert "binance: bars of BTC/USDT end on 2020-01-20 00:00:00, not on 2020-02-01 00:00:00" in caplog.text


def test_the_bar_that_is_being_traded_is_left_out(binance, binance_answers):
    now = pd.Timestamp.now("UTC")
    binance_answers(0, milliseconds("2100-01-01"))
    start = (now - pd.Timedelta(days=2)).date()
    (one,) = binance("env.market.end=null", f"env.market.start={start}").load().instruments
    assert one.time[-1] <= np.datetime64(now.tz_localize(None)) + np.timedelta64(1, "s")


def test_an_exchange_has_the_same_settings(binance):
    for setting in ("env.market.ranges=widen", "env.market.bad_rows=drop"):
        reading = binance(setting).reading()
        name, value = setting.removeprefix("env.market.").split("=")
        assert getattr(reading, name) == value
        assert reading.opens_are_real


def test_what_an_exchange_cannot_give(binance, binance_answers):
    ccxt = pytest.importorskip("ccxt")
    binance_answers(0, 0)
    with pytest.raises(
        MarketError, match=r"^binance: BTC/USDT: no 1h bars from 2020-01-01 to 2020-02-01; the pair may h"
    ):
        binance().load()
    with pytest.raises(MarketError, match=r"^binance: BTC/USD: no such pair; did you mean BTC/USDT\?$"):
        binance("env.market.symbols=[BTC/USD]").load()
    with pytest.raises(MarketError, match=r"^binance: BTC/USDT: no timeframe '7h'; offered: 1s, 1m, "):
        binance("env.market.timeframe=7h").load()
    with pytest.raises(MarketError, match=r"^env\.market\.exchange: ccxt knows no 'binanse'; did you mean binance"):
        binance("env.market.exchange=binanse").load()
    binance_answers(ccxt.NetworkError("binance GET https://api.binance.com"), 0)
    with pytest.raises(
        MarketError, match=r"^binance: BTC/USDT: the exchange cannot be reached \(NetworkError: binance GE"
    ):
        binance().load()
    binance_answers(ccxt.PermissionDenied("not from your country"), 0)
    with pytest.raises(MarketError, match=r"^binance: BTC/USDT: PermissionDenied: not from your country$"):
        binance().load()


def test_a_library_that_is_not_installed_is_named_with_its_extra():
    with pytest.raises(
        MarketError, match=r"^env=yahoo needs no_such_library \(No module .*\): pip install 'moe_trader\[yahoo\]'$"
    ):
        import_extra("no_such_library", "yahoo")

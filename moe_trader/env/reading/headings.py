"""Usual names of the columns of a price table, in the languages in which vendors write them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable

NONE = "none"  # the user says that there is no such column
PRICES = ("open", "high", "low", "close")
# The first heading that is there wins, English ones before others. A bar's time is when it closes. The last line of
# time: an index without a name, as pandas writes it.
ALIASES: dict[str, tuple[str, ...]] = {
    column: tuple(name for line in lines for name in line.split(", "))
    for column, lines in {
        "time": (
            "time, datetime, date time, timestamp, date, close time, open time, ts, unix, unix timestamp, gmt time",
            "local time, window start, t, dates, trade date, trading date, datadate, observation date",
            "datum, fecha, data, дата, tarih, 日期, 日付, 日付け, 날짜",
            "day, week, month, quarter, period, year",
            "index, unnamed: 0",
        ),
        "open": (
            "open, o, px open, open price, opening price",
            "eröffnung, eröffn., eröffnungskurs, erster, ouverture, ouv., apertura, abertura, otwarcie, öppning",
            "открытие, откр., a\u00e7\u0131l\u0131\u015f, 开盘, 开盘价, 始値, 시가",
        ),
        "high": (
            "high, h, px high, high price",
            "hoch, tageshoch, höchst, höchstkurs, plus haut, máximo, massimo, máxima, najwyzszy, max., hoog, högst",
            "максимум, макс., yüksek, 最高, 最高价, 高, 高値, 고가",
        ),
        "low": (
            "low, l, px low, low price",
            "tief, tagestief, tiefst, tiefstkurs, plus bas, mínimo, minimo, mínima, najnizszy, min., laag, lägst",
            "минимум, мин., düşük, 最低, 最低价, 低, 安値, 저가",
        ),
        "close": (
            "close, c, last, close/last, px last, close price, closing price, price",
            "schluss, schlusskurs, zuletzt, kurs, clôture, dernier, cierre, último, chiusura, ultimo, fechamento",
            "zamkniecie, ostatnio, laatste, senaste, закрытие, цена, şimdi, 收盘, 收盘价, 終値, 종가",
        ),
        "adjusted_close": ("adj close, adj. close, adjclose, adjusted close, adjustedclose, adjcp",),
        "volume": (
            "volume, vol, v, vol., tick volume, tickvol, px volume, number of shares, no.of shares",
            "stücke, stuecke, stück, volumen, wolumen, wol., объём, hac., 成交量, 交易量, 出来高, 거래량",
        ),
        "symbol": ("symbol, ticker, tic, tickers, instrument, ric, ts code, name",),
    }.items()
}

# Headings of countries that write 1.234,5 for 1234.5
DOTTED = frozenset(
    (
        *(
            "datum",
            "zeit",
            "uhrzeit",
            "eröffnung",
            "eröffn.",
            "erster",
            "hoch",
            "tief",
            "schluss",
            "schlusskurs",
            "zuletzt",
        ),
        *(
            "kurs",
            "volumen",
            "umsatz",
            "stücke",
            "fecha",
            "apertura",
            "abertura",
            "máximo",
            "mínimo",
            "máxima",
            "mínima",
        ),
        *(
            "cierre",
            "último",
            "massimo",
            "minimo",
            "chiusura",
            "ultimo",
            "fechamento",
            "koers",
            "slotkoers",
            "slutkurs",
        ),
    )
)


def plain(heading: Hashable) -> str:
    """Return how a heading reads: ``adj close`` of ``<Adj_Close>`` and ``5. Adj-Close``."""
    name = str(heading).strip().lower().strip("<>#").rstrip("*")  # <CLOSE> is MetaTrader's, Close* Yahoo's
    name = re.sub(r"^\d+[a-z]?\. ", "", name)  # "1. open" is Alpha Vantage's
    return re.sub(r"[\s_-]+", " ", name).strip()


def there(headings: Iterable[Hashable]) -> str:
    """Return the words that name the headings."""
    return f"columns there: {', '.join(map(str, headings)) or 'none'}"


def looks_like_data(headings: Iterable[Hashable]) -> bool:
    """Whether a first row holds numbers and dates, as in a file without a header, or positions."""
    cells = [str(heading).strip() for heading in headings]
    known = [cell for cell in cells if cell and not cell.startswith("Unnamed: ")]
    data = [re.fullmatch(r"[-+\d.,:/ TZeE]*\d[-+\d.,:/ TZeE]*", cell) is not None for cell in known]
    return bool(data) and sum(data) >= max(2, 0.6 * len(known))

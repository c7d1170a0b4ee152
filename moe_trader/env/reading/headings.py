"""Usual names of the columns of a price table, in the languages in which vendors write them."""

from __future__ import annotations

# The first heading that is there wins, English ones before others. A bar's time is when it closes. The last two of
# time: an index without a name, as pandas writes it.
ALIASES: dict[str, tuple[str, ...]] = {
    "time": (
        *("time", "datetime", "timestamp", "date", "date time", "close time", "open time", "ts", "unix"),
        *("unix timestamp", "gmt time", "local time", "window start", "t", "trade date", "trading date"),
        *("datum", "fecha", "data", "дата", "日期", "日付", "날짜"),
        *("day", "week", "month", "quarter", "period", "year"),
        *("index", "unnamed: 0"),
    ),
    "open": (
        *("open", "o"),
        *("eröffnung", "eröffn.", "ouverture", "ouv.", "apertura", "abertura", "otwarcie", "开盘", "始値", "시가"),
    ),
    "high": (
        *("high", "h"),
        *("hoch", "plus haut", "máximo", "massimo", "máxima", "najwyzszy", "最高", "高値", "고가"),
    ),
    "low": (
        *("low", "l"),
        *("tief", "plus bas", "mínimo", "minimo", "mínima", "najnizszy", "最低", "安値", "저가"),
    ),
    "close": (
        *("close", "c", "last", "close/last", "price"),
        *("schluss", "schlusskurs", "zuletzt", "clôture", "dernier", "cierre", "último", "chiusura", "ultimo"),
        *("fechamento", "zamkniecie", "收盘", "終値", "종가"),
    ),
    "adjusted_close": ("adj close", "adj. close", "adjclose", "adjusted close", "adjustedclose", "adjcp"),
    "volume": (
        *("volume", "vol", "v", "vol.", "tick volume", "tickvol"),
        *("volumen", "wolumen", "成交量", "出来高", "거래량"),
    ),
    "symbol": ("symbol", "ticker", "tic", "tickers", "instrument", "name"),
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

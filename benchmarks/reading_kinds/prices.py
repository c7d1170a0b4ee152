"""Prices and volumes."""

from __future__ import annotations

from reading_kinds.base import DAYS, HEADER, NO_VOLUME, ROWS, STANDARD, kind

kind("decimal commas", *(line.replace(",", ";").replace(".", ",") for line in (HEADER, *ROWS)), outcome="refused")
kind(
    "thousands and currency signs",
    HEADER,
    *(
        f'{row.split(",")[0]},"${row.split(",")[1]}",{",".join(row.split(",")[2:5])},"1,{row.split(",")[5]}"'
        for row in ROWS
    ),
    bars=STANDARD.replace(" 100\n", " 1100\n").replace(" 200\n", " 1200\n").replace(" 300\n", " 1300\n"),
    outcome="refused",
)
kind(
    "volumes such as 1.2M",
    HEADER,
    *(f"{row.rpartition(',')[0]},{volume}" for row, volume in zip(ROWS, ("1.2M", "350K", "2B"), strict=True)),
    bars=STANDARD.replace(" 100\n", " 1200000\n").replace(" 200\n", " 350000\n").replace(" 300\n", " 2000000000\n"),
)
kind(
    "a high that misses the close by a rounding error",
    HEADER,
    ROWS[0],
    "2018-12-28,11,12.499,10,12.5,200",
    ROWS[2],
    bars=STANDARD.replace("11 13 10", "11 12.5 10"),
    outcome="repaired",
)
kind(
    "a close above its high",
    HEADER,
    ROWS[0],
    "2018-12-28,11,12.4,10,12.5,200",
    ROWS[2],
    bars=STANDARD.replace("11 13 10", "11 12.5 10"),
    outcome="refused",
)
kind("a close far above its high", HEADER, *ROWS, "2019-01-02,12,13,11,20,1", outcome="refused")
kind(
    "an open of 0",
    HEADER,
    "2018-12-27,0,12,9,11,100",
    *ROWS[1:],
    bars=STANDARD.replace("10.5 12 9 11", "11 12 9 11"),
    outcome="refused",
)
kind(
    "open, high and low of 0",
    HEADER,
    "2018-12-27,0,0,0,11,100",
    *ROWS[1:],
    bars=STANDARD.replace("10.5 12 9 11", "11 11 11 11"),
    outcome="refused",
)
kind(
    "an empty open",
    HEADER,
    "2018-12-27,,12,9,11,100",
    *ROWS[1:],
    bars=STANDARD.replace("10.5 12 9 11", "11 12 9 11"),
    outcome="refused",
)
kind("an empty adjusted close", f"{HEADER},Adj Close", *(f"{row}," for row in ROWS), outcome="repaired")
kind(
    "a negative adjusted close",
    f"{HEADER},Adj Close",
    f"{ROWS[0]},-0.2",
    f"{ROWS[1]},12.5",
    f"{ROWS[2]},13",
    outcome="refused",
)
kind(
    "an adjusted close",
    f"{HEADER},Adj Close",
    f"{ROWS[0]},5.5",
    f"{ROWS[1]},12.5",
    f"{ROWS[2]},13",
    bars=STANDARD.replace("10.5 12 9 11 100", "5.25 6 4.5 5.5 200"),
    settings=("env.market.splits=keep",),
)
kind("volumes of -1", HEADER, *(f"{row.rpartition(',')[0]},-1" for row in ROWS), bars=NO_VOLUME, outcome="repaired")
kind("a negative volume", HEADER, *ROWS[:2], "2018-12-31,12,14,11,13,-300", bars=NO_VOLUME, outcome="refused")
kind(
    "swapped volume columns",
    "Date,Open,High,Low,Close,Volume BTC,Volume USD",
    *(
        f"{row.rpartition(',')[0]},{money},{row.rpartition(',')[2]}"
        for row, money in zip(ROWS, (1100, 2500, 3900), strict=True)
    ),
    outcome="repaired",
)
kind(
    "volume columns swapped in some rows",
    f"{HEADER},Volume USD",
    f"{ROWS[0].rpartition(',')[0]},1100,100",
    f"{ROWS[1]},2500",
    f"{ROWS[2]},3900",
    outcome="repaired",
)
kind(
    "a volume next to one of zeros",
    "Date,Open,High,Low,Close,Tick Volume,Vol",
    *(f"{row},0" for row in ROWS),
    outcome="repaired",
)
kind(
    "a split that nobody adjusted",
    HEADER,
    "2018-12-26,42,48,36,42,25",
    *ROWS[:0],
    "2018-12-27,10.5,12,9,11,100",
    *ROWS[1:],
    bars="2018-12-26 10.5 12 9 10.5 100\n" + STANDARD.strip(),
    outcome="refused",
)
kind(
    "a reverse split of 100",
    HEADER,
    "2018-12-26,0.105,0.12,0.09,0.11,10000",
    "2018-12-27,11.0,12,9,11,100",
    *ROWS[1:],
    bars="2018-12-26 10.5 12 9 11 100\n" + STANDARD.strip().replace("10.5 12 9 11", "11 12 9 11"),
    outcome="refused",
)

# Marks of decimals

DOTTED = """
2018-12-27 1003 1010 1001 1005 100
2018-12-28 1005 1013 1004 1012 200
2018-12-31 1012 1020 1011 1013 300
"""
THOUSANDS = ("1.003;1.010;1.001;1.005;100", "1.005;1.013;1.004;1.012;200", "1.012;1.020;1.011;1.013;300")
YEN = (
    "109.055,109.123,109.011,109.101,100",
    "109.101,109.232,109.021,109.111,200",
    "109.112,109.201,109.001,109.013,300",
)
READ_YEN = "\n".join(f"{day} {row.replace(',', ' ')}" for day, row in zip(DAYS, YEN, strict=True))
kind(
    "dotted thousands throughout, between semicolons",
    HEADER.replace(",", ";"),
    *(f"{day};{row}" for day, row in zip(DAYS, THOUSANDS, strict=True)),
    bars=DOTTED,
    outcome="refused",
)
kind(
    "dotted thousands throughout, German headings",
    "Datum,Eröffnung,Hoch,Tief,Schluss,Volumen",
    *(f"{day},{row.replace(';', ',')}" for day, row in zip(DAYS, THOUSANDS, strict=True)),
    bars=DOTTED,
    outcome="refused",
)
kind(
    "dotted volumes, between semicolons",
    "Date;Close;Volume",
    "2018-12-27;11;1.234",
    "2018-12-28;12;950",
    "2018-12-31;13;12.345",
    bars="2018-12-27 11 11 11 11 1234\n2018-12-28 12 12 12 12 950\n2018-12-31 13 13 13 13 12345",
    outcome="refused",
)
kind("three decimals of yen", HEADER, *(f"{day},{row}" for day, row in zip(DAYS, YEN, strict=True)), bars=READ_YEN)
kind(
    "three decimals of yen, Dukascopy",
    "Gmt time,Open,High,Low,Close,Volume",
    *(f"{day[8:]}.12.2018 00:00:00.000,{row}" for day, row in zip(DAYS, YEN, strict=True)),
    bars=READ_YEN,
    outcome="refused",
)
kind(
    "three decimals of yen between semicolons, as a program writes them",
    "<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>",
    *(f"{day.replace('-', '')};000000;{row.replace(',', ';')}" for day, row in zip(DAYS, YEN, strict=True)),
    bars=READ_YEN,
)
kind(
    "three decimals between semicolons, and a change that has two",
    "Date;Open;High;Low;Close;Volume;Change %",
    *(f"{day};{row.replace(',', ';')};0.52" for day, row in zip(DAYS, YEN, strict=True)),
    bars=READ_YEN,
)
kind(
    "Swiss thousands",
    "Date;Close",
    "2018-12-27;109'055",
    "2018-12-28;109'555",
    "2018-12-31;109'013",
    bars="\n".join(f"{d} {c} {c} {c} {c} 0" for d, c in zip(DAYS, (109055, 109555, 109013), strict=True)),
    outcome="refused",
)
kind(
    "Swiss thousands with decimals",
    "Datum;Schlusskurs",
    "27.12.2018;9\u2019055.50",
    "28.12.2018;9\u2019155.25",
    "31.12.2018;9\u2019013.20",
    bars="\n".join(f"{d} {c} {c} {c} {c} 0" for d, c in zip(DAYS, (9055.5, 9155.25, 9013.2), strict=True)),
    outcome="refused",
)
kind(
    "volumes such as 78,71M",
    "Date;Open;High;Low;Close;Vol.",
    "2018-12-27;10,5;12;9;11;78,71M",
    "2018-12-28;11;13;10;12,5;1,2K",
    "2018-12-31;12;14;11;13;350K",
    bars=STANDARD.replace(" 100\n", " 78710000\n").replace(" 200\n", " 1200\n").replace(" 300\n", " 350000\n"),
    outcome="refused",
)
kind(
    "Investing.com in German",
    '"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"',
    '"31.12.2018","13,00","12,00","14,00","11,00","78,71M","4,00%"',
    '"28.12.2018","12,50","11,00","13,00","10,00","1,20K","1,20%"',
    '"27.12.2018","11,00","10,50","12,00","9,00","350,00K","1,20%"',
    bars=STANDARD.replace(" 100\n", " 350000\n").replace(" 200\n", " 1200\n").replace(" 300\n", " 78710000\n"),
    outcome="refused",
)
kind(
    "volumes in ten thousands and hundred millions",
    "日期,开盘,最高,最低,收盘,成交量",
    *(f"{row.rpartition(',')[0]},{volume}" for row, volume in zip(ROWS, ("1.2万", "350万", "2.5亿"), strict=True)),
    bars=STANDARD.replace(" 100\n", " 12000\n").replace(" 200\n", " 3500000\n").replace(" 300\n", " 250000000\n"),
)

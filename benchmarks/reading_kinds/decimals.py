"""Marks of decimals and thousands, currencies and units."""

from __future__ import annotations

from reading_kinds.base import CLOSES, DAYS, HEADER, ROWS, STANDARD, kind, rows

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
kind("currency codes behind numbers", "Date,Close", *rows("{t},{c} USD"), bars=CLOSES, outcome="refused")
kind(
    "euros",
    "Datum;Kurs",
    *(f"{row}0 €" for row in ("27.12.2018;11,0", "28.12.2018;12,5", "31.12.2018;13,0")),
    bars=CLOSES,
    outcome="refused",
)
kind(
    "thousands between spaces",
    "Date;Clôture",
    *("2018-12-27;1 011,0", "2018-12-28;1\u00a0012,5", "2018-12-31;1\u202f013,0"),
    bars="\n".join(f"{d} {c} {c} {c} {c} 0" for d, c in zip(DAYS, (1011, 1012.5, 1013), strict=True)),
    outcome="refused",
)
kind("plus signs and exponents", "Date,Close", *rows("{t},+{c}E+00"), bars=CLOSES)
kind("errors of a spreadsheet", HEADER, *ROWS, "2019-01-02,#N/A N/A,#DIV/0!,#REF!,#VALUE!,0", outcome="repaired")
kind("an infinite price", HEADER, *ROWS, "2019-01-02,inf,inf,inf,inf,1", outcome="refused")
kind(
    "quotes of bid and ask",
    "timestamp,bid,ask,bid_volume,ask_volume",
    *rows("{t},{c},{h},1,2"),
    bars=CLOSES,
    outcome="refused",
)
INVESTING = (
    ("Russian", "Дата,Цена,Откр.,Макс.,Мин.,Объём,Изм. %"),
    ("Turkish", "Tarih,\u015eimdi,A\u00e7\u0131l\u0131\u015f,Yüksek,Düşük,Hac.,Fark %"),
    ("Portuguese", "Data,Último,Abertura,Máxima,Mínima,Vol.,Var%"),
    ("Spanish", "Fecha,Último,Apertura,Máximo,Mínimo,Vol.,% var."),
    ("Polish", "Data,Ostatnio,Otwarcie,Max.,Min.,Wol.,Zmiana%"),
)
for language, header in INVESTING:
    kind(
        f"Investing.com in {language}",
        ",".join(f'"{heading}"' for heading in header.split(",")),
        '"31.12.2018","13,00","12,00","14,00","11,00","78,71M","4,00%"',
        '"28.12.2018","12,50","11,00","13,00","10,00","1,20K","1,20%"',
        '"27.12.2018","11,00","10,50","12,00","9,00","350,00K","1,20%"',
        bars=STANDARD.replace(" 100\n", " 350000\n").replace(" 200\n", " 1200\n").replace(" 300\n", " 78710000\n"),
        outcome="refused",
    )

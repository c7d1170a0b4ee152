"""Files as vendors, brokers, exchanges and programs write them."""

from __future__ import annotations

from reading_kinds.base import CLOSES, DAYS, HOURS, NO_VOLUME, OHLCV, PRICES, ROWS, STANDARD, UNIX, kind, rows

AMERICAN = ("12/27/2018", "12/28/2018", "12/31/2018")
CLOCKS = ("09", "10", "11")


COMPACT = ("20181227", "20181228", "20181231")
kind(
    "Stooq",
    "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
    *rows("AAPL.US,D,{t},000000," + OHLCV + ",0", COMPACT),
    bars={"AAPL.US": STANDARD},
)
kind("Stooq in Polish", "Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen", *ROWS)
kind(
    "MetaTrader 5 in UTF-16",
    files={
        "x.csv": "\r\n".join(
            (
                "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
                *rows("2018.12.27\t{t}:00:00\t{o}\t{h}\t{l}\t{c}\t{v}\t0\t12", CLOCKS),
            )
        ).encode("utf-16")
    },
    bars=HOURS,
    outcome="repaired",
)
kind("MetaTrader 4", *rows("2018.12.27,{t}:00," + OHLCV, CLOCKS), bars=HOURS, outcome="refused")
kind(
    "TradingView",
    "time,open,high,low,close,MA,Volume,RSI",
    *rows("{t}T00:00:00Z,{o},{h},{l},{c},NaN,{v},55.2"),
)
kind(
    "CryptoDataDownload",
    "https://www.CryptoDataDownload.com",
    "Unix Timestamp,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD",
    *rows("1545868800.0,{t},BTCUSD," + OHLCV + ",12345", newest_first=True),
    bars={"BTCUSD": STANDARD},
)
kind(
    "Binance, microseconds",
    *(f"{at}000000,{row},{at + 86399}999999,1000.5,42,50.1,500.2,0" for at, row in zip(UNIX, PRICES, strict=True)),
    bars="\n".join(f"{day}T23:59:59.999999 {row}".replace(",", " ") for day, row in zip(DAYS, PRICES, strict=True)),
    outcome="refused",
)
kind(
    "Binance futures",
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,ignore",
    *(f"{at - 86400}000,{row},{at}000,1100,42,50,0" for at, row in zip(UNIX, PRICES, strict=True)),
)
kind("Kraken", *(f"{at},{row},12" for at, row in zip(UNIX, PRICES, strict=True)), outcome="refused")
kind("Coinbase", *rows("{t},{l},{h},{o},{c},{v}", tuple(map(str, UNIX)), newest_first=True), outcome="refused")
kind(
    "S&P 500 on Kaggle", "date,open,high,low,close,volume,Name", *rows("{t}," + OHLCV + ",AAL"), bars={"AAL": STANDARD}
)
kind(
    "bitcoin on Kaggle",
    "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price",
    f"{UNIX[0]},{PRICES[0]},1100,11",
    f"{UNIX[0] + 60},NaN,NaN,NaN,NaN,NaN,NaN,NaN",
    f"{UNIX[1]},{PRICES[1]},2500,12.5",
    f"{UNIX[2]},{PRICES[2]},3900,13",
    outcome="repaired",
)
kind(
    "Quandl",
    "ticker,date,open,high,low,close,volume,ex-dividend,split_ratio,adj_open,adj_high,adj_low,adj_close,adj_volume",
    *rows("A,{t}," + OHLCV + ",0.0,1.0,1,1,1,{c},1"),
    bars={"A": STANDARD},
)
kind(
    "Bloomberg",
    *("Security,SPX Index,,,,", "Start Date,12/27/2018,,,,", "Currency,USD,,,,", ",,,,,"),
    "Date,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME",
    *rows("{t}," + OHLCV, AMERICAN, newest_first=True),
    outcome="refused",
)
kind("Bloomberg, closes", "Dates,PX_LAST", *rows("{t},{c}", AMERICAN), bars=CLOSES, outcome="refused")
kind("Eikon", "Date,HIGH,CLOSE,LOW,OPEN,COUNT,VOLUME", *rows("{t},{h},{c},{l},{o},5,{v}"))
kind(
    "Refinitiv",
    "Timestamp,TRDPRC_1,HIGH_1,LOW_1,OPEN_PRC,ACVOL_UNS",
    *rows("{t},{c},{h},{l},{o},{v}"),
    outcome="refused",
)
kind(
    "Refinitiv tick history",
    "#RIC,Domain,Date-Time,GMT Offset,Type,Open,High,Low,Last,Volume",
    *rows("VOD.L,Market Price,{t}T00:00:00.000000000Z,+0,Intraday 1Min," + OHLCV),
    bars={"VOD.L": STANDARD},
)
kind(
    "Dukascopy",
    "Gmt time,Open,High,Low,Close,Volume",
    *rows("{t}.12.2018 00:00:00.000," + OHLCV, ("27", "28", "31")),
    outcome="refused",
)
kind(
    "Nasdaq",
    "Date,Close/Last,Volume,Open,High,Low",
    *rows("{t},${c},{v},${o},${h},${l}", AMERICAN, newest_first=True),
    outcome="refused",
)
kind(
    "Wall Street Journal",
    "Date, Open, High, Low, Close",
    *rows("{t}, {o}, {h}, {l}, {c}", ("12/27/18", "12/28/18", "12/31/18"), newest_first=True),
    bars=NO_VOLUME,
    outcome="refused",
)
kind(
    "Cboe, with a preamble",
    "VIX data for 1/2/2004 to present,,,,",
    "",
    "Date,VIX Open,VIX High,VIX Low,VIX Close",
    *rows("{t},{o},{h},{l},{c}", AMERICAN),
    bars={"VIX": NO_VOLUME},
    outcome="refused",
)
kind("FRED", "observation_date,SP500", *rows("{t},{c}"), "2019-01-01,.", bars=CLOSES, outcome="refused")
kind(
    "CRSP",
    "PERMNO,date,TICKER,BIDLO,ASKHI,PRC,VOL,RET,SHROUT,OPENPRC",
    *rows("14593,{t},AAPL,{l},{h},{c},{v},0.01,1000,{o}", COMPACT),
    bars={"AAPL": STANDARD},
    outcome="refused",
)
kind(
    "Compustat",
    "gvkey,datadate,tic,cshtrd,prccd,prchd,prcld,prcod",
    *rows("1690,{t},AAPL,{v},{c},{h},{l},{o}"),
    bars={"AAPL": STANDARD},
    outcome="refused",
)
kind(
    "Tiingo", "date,close,high,low,open,volume,adjClose,adjHigh", *rows("{t} 00:00:00+00:00,{c},{h},{l},{o},{v},{c},1")
)
kind(
    "Alpha Vantage",
    "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient",
    *rows("{t},{o},{h},{l},{c},{c},{v},0.0000,1.0", newest_first=True),
)
kind(
    "Alpaca",
    "symbol,timestamp,open,high,low,close,volume,trade_count,vwap",
    *rows("AAPL,{t} 00:00:00+00:00," + OHLCV + ",5,11.1"),
    bars={"AAPL": STANDARD},
)
kind(
    "Yahoo's page with a dividend",
    "Date\tOpen\tHigh\tLow\tClose\tAdj Close\tVolume",
    *rows("{t}\t{o}\t{h}\t{l}\t{c}\t{c}\t{v}", ("Dec 27, 2018", "Dec 28, 2018", "Dec 31, 2018"))[:2],
    "Dec 29, 2018\t0.73 Dividend",
    "Dec 31, 2018\t12\t14\t11\t13\t13\t300",
    outcome="refused",
)
kind("Kibot", *rows("12/27/2018,{t}:00," + OHLCV, CLOCKS), bars=HOURS, outcome="refused")
kind("NinjaTrader", *rows("20181227 {t}0000;{o};{h};{l};{c};{v}", CLOCKS), bars=HOURS, outcome="refused")
kind(
    "Sierra Chart",
    "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume",
    *rows("2018/12/27, {t}:00:00.000000, {o}, {h}, {l}, {c}, {v}, 5, 50, 50", CLOCKS),
    bars=HOURS,
)
kind(
    "TradeStation",
    '"Date","Time","Open","High","Low","Close","Up","Down"',
    *rows("12/27/2018,{t}:00,{o},{h},{l},{c},60,40", CLOCKS),
    bars=HOURS.replace(" 100\n", " 0\n").replace(" 200\n", " 0\n").replace(" 300\n", " 0\n"),
    outcome="refused",
)
kind(
    "ib_insync",
    ",date,open,high,low,close,volume,average,barCount",
    *(f"{hour},2018-12-27 {hour:02d}:00:00+00:00,{row},11,5" for hour, row in zip((9, 10, 11), PRICES, strict=True)),
    bars=HOURS,
)
kind(
    "National Stock Exchange of India",
    '"Date ","series ","OPEN ","HIGH ","LOW ","PREV. CLOSE ","ltp ","close ","vwap ","VOLUME ","VALUE "',
    *rows('"{t}-Dec-2018","EQ","{o}","{h}","{l}","10.00","{c}","{c}","11.00","{v}","1,100.00"', ("27", "28", "31")),
    outcome="refused",
)
kind(
    "Bombay Stock Exchange, with separators at the end of rows",
    "Date,Open Price,High Price,Low Price,Close Price,WAP,No.of Shares,No. of Trades,Total Turnover (Rs.)",
    *rows("{t}-December-2018,{o},{h},{l},{c},11,{v},5,1100,", ("27", "28", "31")),
    outcome="refused",
)
kind(
    "Tushare",
    ",ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount",
    *rows("0,000001.SZ,{t},{o},{h},{l},{c},10,1,1.0,{v},1100", COMPACT, newest_first=True),
    bars={"000001.SZ": STANDARD},
)
kind("AkShare", "日期,股票代码,开盘,收盘,最高,最低,成交量,成交额", *rows("{t},000001,{o},{c},{h},{l},{v},1100"))
kind(
    "Tongdaxin in GBK, with a footer",
    files={
        "x.txt": "\n".join(
            (
                "000001 平安银行 日线 前复权",
                "      日期\t    开盘\t    最高\t    最低\t    收盘\t    成交量\t    成交额",
                *rows("{t}\t{o}\t{h}\t{l}\t{c}\t{v}\t1100.00", ("2018/12/27", "2018/12/28", "2018/12/31")),
                "数据来源:通达信",
            )
        ).encode("gbk")
    },
    outcome="refused",
)
kind(
    "ARIVA",
    "Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen",
    "2018-12-27;10,50;12,00;9,00;11,00;100;1.100",
    "2018-12-28;11,00;13,00;10,00;12,50;200;2.500",
    "2018-12-31;12,00;14,00;11,00;13,00;300;3.900",
    outcome="refused",
)
kind(
    "Boursorama in Latin-1",
    files={
        "x.txt": "\n".join(
            (
                "Date\tOuverture\tPlus haut\tPlus bas\tClôture\tVolume",
                *rows("{t}/12/2018 00:00\t{o}\t{h}\t{l}\t{c}\t{v}", ("27", "28", "31")),
            )
        ).encode("latin-1")
    },
    outcome="refused",
)
kind(
    "Barchart",
    "Time,Open,High,Low,Last,Change,%Chg,Volume",
    *rows("{t},{o},{h},{l},{c},1,1%,{v}", AMERICAN, newest_first=True),
    '"Downloaded from Barchart.com as of 12-31-2018 04:00pm CST"',
    outcome="refused",
)

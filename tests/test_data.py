"""`moe-data` as a user types it: what a market holds, a picture, and the look-ahead self-check."""

import dataclasses
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import SCRIPTS, SMALL, call
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from moe_trader.config import config_directory, to_plain
from moe_trader.data import chosen, market_views, run
from moe_trader.env import Market, MarketSource
from moe_trader.env.contents import contents
from moe_trader.env.lookahead import LookAhead
from moe_trader.option import ConfigError

MARKET = SMALL[:3]  # the small synthetic market
LEAKING = """
import numpy as np
import pandas as pd
from pydantic import PositiveInt
from moe_trader.env import Feature
from moe_trader.option import option

@option
class Smooth(Feature):
    span: PositiveInt
    centred: bool

    def columns(self):
        return [f"smooth_{self.span}"]

    def warmup(self):
        return self.span

    def compute(self, instrument):
        close = pd.Series(np.log(instrument.close))
        mean = close.rolling(self.span, center=self.centred).mean()
        return (close - mean).to_numpy()[:, None]
"""


def moe_data(*arguments, cwd, **environment):
    return call(SCRIPTS / "moe-data", *arguments, cwd=cwd, **environment)


def smooth(centred):
    return [
        "plugins=[my_features]",
        f"+env.features.smooth={{_target_: my_features.Smooth, span: 5, centred: {centred}}}",
    ]


def is_png(file):
    return file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000


@pytest.fixture
def own(tmp_path):
    """A user's folder with a feature of their own and bars of their own."""
    (tmp_path / "my_features.py").write_text(LEAKING)
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 900)))
    opening = close * np.exp(rng.normal(0, 0.002, 900))
    table = pd.DataFrame(
        {
            "date": pd.bdate_range("2015-01-01", periods=900),
            "open": opening,
            "high": np.maximum(opening, close) * 1.001,
            "low": np.minimum(opening, close) / 1.001,
            "close": close,
            "volume": rng.integers(1000, 9000, 900),
        }
    )
    table.to_csv(tmp_path / "bars.csv", index=False)
    return tmp_path


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("data")
    done = moe_data(*MARKET, "env/features=everything", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done.stdout


def test_it_prints_the_market_its_features_splits_and_regimes(synthetic):
    _, printed = synthetic
    for line in (
        "synthetic: 5 instruments, 261 bars a year, opens real",
        "│ train_0      │  700 │ 2000-01-03 │ 2002-09-06 │    0 │      3 days │              100% │       700 │",
        "Features: 37 columns; an observation uses 161 bars",
        "gap_60 (constant)",
        "volume_1 (constant), volume_5 (constant), volume_20 (constant)",
        "No feature was seen to look ahead: no row changed when the bars after it did (24 moments over the market",
        "Splits (BySeries)",
        "│ train      │           2 │     2000-08-14 │",
        "Regimes (TrueRegimes): share of the decisions",
        "│ mean reversion │",
    ):
        assert line in printed


def test_it_draws_the_market(synthetic):
    cwd, printed = synthetic
    (picture,) = cwd.glob("outputs/data/*/*/market.png")
    assert is_png(picture)
    assert f"Look at the picture:  {picture.relative_to(cwd)}" in printed


def test_the_users_own_bars(own):
    done = moe_data("env=csv", "env.market.path=bars.csv", "env/features=[multi_horizon,rsi,volume]", cwd=own)
    assert done.returncode == 0, done.stderr
    for line in (
        "│ bars       │  900 │ 2015-01-01 │",
        "│ rsi             │ rsi_14",
        "Splits (ByFraction)",
        "rising calm",
    ):
        assert line in done.stdout
    assert "constant)" not in done.stdout


@pytest.mark.parametrize("market", [["env=csv", "env.market.path=bars.csv"], MARKET], ids=["csv", "synthetic"])
def test_a_feature_that_looks_ahead_is_caught_by_name(market, own):
    done = moe_data(*market, *smooth("true"), cwd=own, PYTHONPATH=str(own))
    assert done.returncode == 1
    assert "LookAheadError: env.features.smooth: smooth_5 of " in done.stderr
    assert "changed when the bars after" in done.stderr
    assert "look for centred windows, shift(-1)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "│ YES: smooth_5 │" in done.stdout
    honest = [line for line in done.stdout.splitlines() if line.endswith(" no │")]
    assert len(honest) == (5 if market is MARKET else 4)


def test_the_same_feature_over_trailing_bars_passes_and_trains(own):
    done = moe_data(*MARKET, *smooth("false"), cwd=own, PYTHONPATH=str(own))
    assert done.returncode == 0, done.stderr
    assert "│ smooth               │ smooth_5" in done.stdout
    less = "env.gate_features=[trend,smooth]", "trainer.total_timesteps=128", "single_policy=false", "shapley=false"
    done = call(SCRIPTS / "moe-train", *SMALL, *smooth("false"), *less, cwd=own, PYTHONPATH=str(own))
    assert done.returncode == 0, done.stderr


def test_a_feature_of_the_users_own_config_folder(own):
    folder = own / "my_conf" / "env" / "features"
    folder.mkdir(parents=True)
    node = "smooth:\n  _target_: my_features.Smooth\n  span: 7\n  centred: false\n"
    (folder / "smooth.yaml").write_text(node)
    overrides = ["--config-dir", "my_conf", "env/features=[multi_horizon,smooth]", "plugins=[my_features]"]
    done = moe_data(*overrides, *MARKET, cwd=own, PYTHONPATH=str(own))
    assert done.returncode == 0, done.stderr
    assert "smooth_7" in done.stdout


def test_folds_are_a_sweep_axis(tmp_path):
    folds = [*MARKET, "env/split=walk_forward", "env.split.train=0.5", "env.split.validation=0.3"]
    done = moe_data("-m", *folds, "env.split.fold=range(0,2)", "env.split.folds=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Splits (WalkForward)") == 2
    pictures = sorted(tmp_path.glob("outputs/data/multirun/*/*/*/market.png"))
    assert [picture.parent.name for picture in pictures] == ["0", "1"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env=csv", "env.market.path=nowhere.csv"], "MarketError: nowhere.csv: no such file"),
        (
            ["env/split=walk_forward", "env.split.fold=9"],
            "ConfigError: env.split: fold: there is no fold 9; expected 0",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(overrides, message, tmp_path):
    done = moe_data(*overrides, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["plugins=mine"], r"^plugins: expected a list of packages, got 'mine'; write 'plugins=\[your_package\]'$"),
        (["panels=0"], r"^panels: expected a number of instruments to draw, 1 to 100, got 0$"),
        (["panels=101"], r"^panels: expected a number of instruments to draw, 1 to 100, got 101$"),
        (["panels=true"], r"^panels: expected a number of instruments to draw, 1 to 100, got True$"),
        (["look_ahead.cuts=0"], r"^look_ahead\.cuts: Input should be greater than 0, got 0$"),
        (["env.gate_features=[mood]"], r"^env: gate_features: 'mood' is none of env\.features"),
    ],
)
def test_settings_are_checked_by_their_place_in_the_config(overrides, message):
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        plain = to_plain(compose("data", overrides=overrides))
    with pytest.raises(ConfigError, match=message):
        chosen(plain)


def test_a_split_that_cannot_be_used_is_refused_after_the_market_was_shown(tmp_path):
    done = moe_data("env.split.test=2030-01-01", cwd=tmp_path)
    assert done.returncode == 1
    assert "the test split of ^IXIC has 0 bars" in done.stderr
    assert "│ ^IXIC      │ 5,031 │ 1999-01-04 │ 2018-12-31 │" in done.stdout


def test_the_market_is_loaded_once(settings, tmp_path):
    """What a source warns of while it reads should be said once."""
    market, loads = settings.env.market.load(), []

    class Counted(MarketSource):
        def load(self):
            loads.append(1)
            return market

    run(dataclasses.replace(settings.env, market=Counted()), LookAhead(cuts=1, seed=0), 1, tmp_path)
    assert loads == [1]


def test_it_takes_every_override_of_moe_train_and_loads_no_torch(tmp_path):
    own = set(OmegaConf.load(Path(config_directory()) / "data.yaml"))
    assert own == {"defaults", "look_ahead", "panels", "hydra"}
    command = [sys.executable, "-X", "importtime", "-m", "moe_trader.data", *MARKET, "expert.count=2", "seed=3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "numba" in loaded
    assert not loaded & {"torch", "stable_baselines3"}


def test_help_and_version(tmp_path):
    done = moe_data("--help", cwd=tmp_path)
    assert done.returncode == 0
    for line in (
        "moe-data env=csv env.market.path=bars.csv",
        "env/split: by_date, by_fraction, by_series, walk_forward",
    ):
        assert line in done.stdout
    assert moe_data("--version", cwd=tmp_path).stdout.startswith("moe_trader ")


def test_contents_by_hand(make_instrument):
    time = [*np.busday_offset("2000-01-03", np.arange(300), roll="forward")]
    time[200:] = [stamp + np.timedelta64(30, "D") for stamp in time[200:]]
    close = np.full(300, 100.0)
    close[-1] = 200.0
    held = contents(make_instrument(close, time=time, open=np.where(np.arange(300) < 150, 100.0, 101.0)))
    assert (held.bars, held.gaps, held.no_volume) == (300, 1, 300)
    assert held.longest_gap == time[200] - time[199]
    assert held.stale_opens == pytest.approx(149 / 299)
    years = (time[-1] - time[0]) / np.timedelta64(1, "D") / 365.25
    assert held.annual_return == pytest.approx(2 ** (1 / years) - 1)
    assert held.annual_volatility == pytest.approx(np.diff(np.log(close)).std() * np.sqrt(299 / years))


def test_weekends_and_nights_are_no_gaps(make_instrument):
    days = np.busday_offset("2000-01-03", np.arange(250), roll="forward").astype("datetime64[h]")
    hours = (days[:, None] + np.arange(15, 22)[None, :]).ravel()
    assert contents(make_instrument(np.full(len(hours), 1.0), time=hours)).gaps == 0


@pytest.fixture
def repaired_market(make_instrument):
    time = np.datetime64("2015-01-01T09:30") + np.arange(40) * np.timedelta64(1, "h")
    one = make_instrument(100 + np.arange(40) % 2, time=time, symbol="BTCUSDT")
    notes = (("2 files joined: a.csv to b.csv", "columns ignored: average, barCount"),)
    return Market("market", (one,), opens_are_real=True, repaired=(3,), notes=notes)


@pytest.mark.parametrize("width", [80, 180])
def test_tables_hold_every_cell_whole_however_narrow_the_terminal(width, repaired_market):
    console = Console(width=width, file=io.StringIO())
    for view in market_views(repaired_market, width):
        console.print(view)
    printed = console.file.getvalue()
    for cell in ("BTCUSDT", "2015-01-01 09:30", "2015-01-03 00:30", "1:00:00", "100%", " 40 ", " 3 "):
        assert cell in printed
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= width
    assert printed.count("BTCUSDT") == (3 if width == 80 else 2)


def test_it_says_how_each_instrument_was_read(repaired_market):
    console = Console(width=80, file=io.StringIO())
    console.print(market_views(repaired_market, 80)[-1])
    printed = console.file.getvalue()
    for note in ("2 files joined: a.csv to b.csv", "columns ignored: average, barCount"):
        assert note in printed

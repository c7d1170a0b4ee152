"""The real config: every option composes and builds, is written back as it was, and every mistake names its place."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

from moe_trader import memory
from moe_trader.config import compose, config_directory, run_settings, to_plain
from moe_trader.gating.losses.information import Information
from moe_trader.option import ConfigError, build, describe, is_option
from moe_trader.settings import RunSettings

CONF = Path(config_directory())
GROUPS = ("env", "expert", "gating", "trainer")
PLACED = {  # groups whose nodes do not stand where their folder says
    "env/rules": "env/rules@env",
    "env/reading": "env/reading@env.market",
    "env/series": "env/series@env.market",
    "env/cache": "env/cache@env.market",
}
NEEDED = {  # what an option cannot do without
    "env/csv": ["env.path=prices.csv"],
    "env/parquet": ["env.path=prices.parquet"],
    "env/reading/standard": ["env=csv", "env.path=prices.csv"],
    "env/series/standard": ["env=synthetic"],
    "env/cache/standard": ["env=yahoo"],
    **{f"env/market/{file.stem}": ["env=synthetic"] for file in (CONF / "env" / "market").glob("*.yaml")},
}
SINGLE = sorted(  # features by themselves: the gate must then see what there is
    file.stem for file in (CONF / "env" / "features").glob("*.yaml") if "_target_" in file.read_text()
)
NEEDED |= {f"env/features/{name}": [f"env.gate_features=[{name}]"] for name in SINGLE}
MARKETS = {
    "nasdaq": ["env=nasdaq"],
    "sp500": ["env=sp500"],
    "stocks": ["env=stocks", "env.market.symbols=[KO]"],
    "synthetic": ["env=synthetic"],
    "rare_crash": ["env=synthetic", "env/market=rare_crash"],
    "drifting": ["env=synthetic", "env/market=drifting"],
    "csv": ["env=csv", "env.path=prices.csv"],
    "parquet": ["env=parquet", "env.path=[a.parquet,b.parquet]"],
    "yahoo": ["env=yahoo"],
    "ccxt": ["env=ccxt", "env.market.end=2021-01-01"],
}


def options():
    return sorted(str(file.relative_to(CONF).with_suffix("")) for file in CONF.rglob("*.yaml") if file.parent != CONF)


def leaves(node, path=()):
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        if key != "defaults":
            yield from leaves(value, (*path, key))


def settings_of(*overrides):
    return run_settings(compose(overrides))


def test_the_walk_finds_the_options():
    assert {"env/nasdaq", "env/synthetic", "env/csv", "env/split/by_date", "expert/ppo", "gating/softmax"} <= set(
        options()
    )


@pytest.mark.parametrize("name", options())
def test_every_option_composes_and_builds(name):
    group, _, choice = name.rpartition("/")
    plain = compose([f"{PLACED.get(group, group)}={choice}", *NEEDED.get(name, [])])
    assert isinstance(run_settings(plain), RunSettings)
    if group.startswith("hydra/"):  # Hydra's own settings are no part of the run's
        return
    node = plain  # where the file's settings stand: what it says must be what was composed
    for key in (
        PLACED.get(group, group).rpartition("@")[2].replace(".", "/").split("/") if group != "experiment" else ()
    ):
        node = node[key]
    written = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    aliases = ("_aliases_", *written.get("_aliases_", ()))
    for path, value in leaves(written):
        if path[0] in aliases or str(value).startswith("${"):
            continue
        found = node
        for key in path:
            found = found[key]
        assert value == "???" or found == value, path


def test_every_option_says_what_it_is_for():
    assert [name for name in options() if not (CONF / f"{name}.yaml").read_text().startswith("# ")] == []


@pytest.mark.parametrize("market", MARKETS)
def test_a_whole_run_is_written_back_as_it_was_and_survives_a_yaml_file(market):
    made = settings_of(*MARKETS[market], "seed=3", "expert.count=2")
    assert (made.seed, made.expert.count) == (3, 2)
    assert all(is_option(type(getattr(made, group))) for group in GROUPS)
    assert build(describe(made), "") == made
    written = OmegaConf.to_yaml(OmegaConf.create(describe(made)))
    assert build(OmegaConf.to_container(OmegaConf.create(written)), "") == made


def test_the_default_run_is_what_the_readme_promises():
    made = settings_of()
    assert [type(getattr(made, group)).__name__ for group in GROUPS] == [
        "TradingTask",
        "PPOExperts",
        "Softmax",
        "Trainer",
    ]
    assert type(made.env.market).__name__ == "Nasdaq"
    assert isinstance(made.gating.losses["information"], Information)
    assert (made.device, made.threads, made.plugins, made.rerun_of) == ("cpu", 1, [], None)


def test_rerun_reads_the_config_of_the_run(tmp_path):
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(compose(["env=synthetic", "seed=41"]))))
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        composed = hydra_compose("rerun", overrides=[f"hydra.searchpath=[file://{tmp_path}]", "trainer.n_envs=3"])
    made = run_settings(to_plain(composed))
    assert (made.seed, made.trainer.n_envs) == (41, 3)
    assert made.env == settings_of("env=synthetic").env


def test_runs_started_in_the_same_second_get_their_own_directory():
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        composed = hydra_compose("train", return_hydra_config=True)
    raw = OmegaConf.to_container(composed.hydra.run, resolve=False)["dir"]
    assert raw.startswith("outputs/")
    assert "-%f}" in raw
    assert OmegaConf.to_container(composed.hydra.sweep, resolve=False)["dir"].startswith("outputs/")


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+expert.gama=0.9"], r"^expert\.gama: unknown setting\. Did you mean `gamma`\? Known here: activation, "),
        (["+expert.foo=1"], r"^expert\.foo: unknown setting\. Known here: activation, batch_size, "),
        (["+foo=1"], r"^foo: unknown setting\. Known here: device, env, expert, gating, "),
        (["+sed=1"], r"^sed: unknown setting\. Did you mean `seed`\?"),
        (["+gating.losses.router_z.wieght=1"], r"^gating\.losses\.router_z\.wieght: unknown .*Did you mean `weight`\?"),
        (["+env.costs.commission.bps=1"], r"^env\.costs\.commission\.bps: unknown setting\. Did you mean `bp`\?"),
        (["+env.costs.borrow=1"], r"^env\.costs\.borrow: Input should be an instance of Cost, got 1"),
        (["~expert.gamma"], r"^expert\.gamma: missing; this setting has no default$"),
        (["~trainer"], r"^trainer: missing; this setting has no default$"),
        (["expert.learning_rate=abc"], r"^expert\.learning_rate: Input should be a valid number, .*got 'abc'$"),
        (["trainer.total_timesteps=-5"], r"^trainer\.total_timesteps: Input should be greater than 0, got -5$"),
        (["trainer.total_timesteps=1.5"], r"^trainer\.total_timesteps: Input should be a valid integer, .*got 1\.5$"),
        (["expert.activation=gelu"], r"^expert\.activation: Input should be 'tanh' or 'relu', got 'gelu'$"),
        (["expert.prefix='a/b'"], r"^expert\.prefix: String should match pattern"),
        (["seed=true"], r"^seed: Input should be a valid integer, got True$"),
        (["threads=1000000"], r"^threads: Input should be less than or equal to 1024, got 1000000$"),
        (["expert.count=1000000"], r"^expert\.count: Input should be less than or equal to 1024, got 1000000$"),
        (["expert.net_arch=[1000000000]"], r"^expert\.net_arch\.0: Input should be less than or equal to 65536, got "),
        (
            ["expert.learning_rate=1e39"],
            r"^expert\.learning_rate: Input should be less than or equal to \S+, got 1e\+39$",
        ),
        (
            ["env=synthetic", "env.market.series.train=99999999999"],
            r"^env\.market\.series\.train: Input should be less than or equal to 100000, got 99999999999$",
        ),
        (["env.initial_equity=1e308"], r"^env\.initial_equity: Input should be less than or equal to .*, got 1e\+308$"),
        (["plugins=[os]"], r"^plugins: 'os' is a module of Python itself; list only packages that define options of"),
        (["gating.floor=1"], r"^gating\.floor: Input should be less than 1, got 1$"),
        (["seed=-1"], r"^seed: Input should be greater than or equal to 0, got -1$"),
        (["env.gate_features=[trend,mood]"], r"^env: gate_features: 'mood' is none of env\.features \(returns, trend"),
        (
            ["env.positions.fractions=[-1,1]"],
            r"^env\.positions: fractions: expected different numbers, 0 among them, got \[-1\.0, 1\.0\]$",
        ),
        (["device=gpu"], r"^device: expected cpu, cuda, cuda:N or mps, got 'gpu'$"),
        (["device=meta"], r"^device: expected cpu, cuda, cuda:N or mps, got 'meta'$"),
        (["device=cuda:77"], r"^device: 'cuda:77' cannot be used here \(.*\); use device=cpu$"),
        (["env=csv"], r"^env\.path: Missing mandatory value: env\.path; give it a value: env\.path=\.\.\.$"),
        (["trainer.n_envs=???"], r"^trainer\.n_envs: Missing .*; give it a value: trainer\.n_envs=\.\.\.$"),
        (["expert._target_=os.system"], r"^expert\._target_: 'os\.system' is outside moe_trader\. To build options of"),
        (
            ["expert._target_=moe_trader.agent.MoEAgent"],
            r"^expert\._target_: 'moe_trader\.agent\.MoEAgent' is not an opt",
        ),
        (
            ["gating=softmax", "expert._target_=moe_trader.trainer.Trainr"],
            r"^expert\._target_: 'moe_trader\.trainer\.Trainr' is not an option .*; did you mean `Trainer`\?$",
        ),
    ],
)
def test_a_mistake_is_told_by_its_place_in_the_config(overrides, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(*overrides)


def test_an_unknown_key_in_a_hand_edited_config_names_the_nearest():
    plain = compose()
    plain["expert"]["gama"] = plain["expert"].pop("gamma")
    with pytest.raises(ConfigError, match=r"^expert\.gama: unknown setting\. Did you mean `gamma`\?"):
        run_settings(plain)


def test_hydra_itself_refuses_an_unknown_key_without_a_plus():
    with pytest.raises(ConfigCompositionException, match=r"Could not override 'expert\.gama'"):
        compose(["expert.gama=0.9"])


UNREADABLE = ["env=null", "gating=1.5", "~gating=[a]", "seed=" + "1" * 5_000, "x." * 200 + "x=1", "env=" + "x" * 300]


@pytest.mark.parametrize("override", UNREADABLE, ids=lambda text: text[:12])
def test_an_override_that_hydra_trips_over_is_refused_as_any_other(override):
    with pytest.raises(
        ConfigCompositionException, match=r"^(Hydra cannot use these overrides \([A-Z]|In 'train'|Could)"
    ):
        compose(["expert.count=2", override])


def test_it_is_shown_with_the_reason(capsys):
    from moe_trader.train import main

    with pytest.raises(SystemExit) as ended:
        main(["expert.count=2", "env=null", "--cfg", "job"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(
        "Hydra cannot use these overrides (ValueError: Config group override must be a string or a list. Got "
        "NoneType): 'expert.count=2', 'env=null'. A group takes a name or a list of names, any other setting a value\n"
    )


@pytest.mark.parametrize("overrides", ["seed=1", None, 3, [1], {"seed": 1}])
def test_overrides_are_a_list_of_texts(overrides):
    with pytest.raises(ConfigError, match=r"^overrides: expected a list of texts, such as \['seed=1'\], got "):
        compose(overrides)


@pytest.mark.parametrize("plain", [None, [], "seed: 1"])
def test_a_plain_config_is_a_mapping(plain):
    with pytest.raises(ConfigError, match=r"^plain: expected a mapping, such as compose\(\) returns, got "):
        run_settings(plain)


def test_hydra_lists_the_options_of_a_group():
    with pytest.raises(MissingConfigException, match="Could not find 'gating/nothing'") as caught:
        compose(["gating=nothing"])
    assert "softmax" in str(caught.value)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_replaced_by_a_string_is_refused(group):
    plain = compose()
    plain[group] = "softmax"
    with pytest.raises(ConfigError, match=rf"^{group}: .*'softmax'"):
        run_settings(plain)


def test_an_option_of_another_group_is_refused():
    plain = compose()
    plain["gating"] = plain["trainer"]
    with pytest.raises(ConfigError, match=r"^gating: Input should be an instance of Gate, got Trainer\("):
        run_settings(plain)


def test_an_interpolation_that_leads_nowhere_is_named():
    with pytest.raises(
        ConfigError, match=r"^trainer\.n_envs: .*'nowhere' not found; give it a value: trainer\.n_envs="
    ):
        compose(["trainer.n_envs=${nowhere}"])


def test_the_path_of_a_price_file_has_a_short_name():
    short = settings_of("env=csv", "env.path=[a.csv,b.csv]")
    assert short.env.market.path == ["a.csv", "b.csv"]
    assert settings_of("env=csv", "env.market.path=[a.csv,b.csv]") == short
    assert "path" not in compose(["env=csv", "env.path=a.csv"])["env"]


def test_an_interpolation_is_resolved():
    assert settings_of("trainer.n_envs=7", "expert.n_steps=${trainer.n_envs}").expert.n_steps == 7


PLUGIN = """
from pydantic import PositiveFloat
from moe_trader.gating import Gate
from moe_trader.gating.softmax import SoftmaxNetwork
from moe_trader.option import option

@option
class Linear(Gate):
    sharpness: PositiveFloat
    losses: dict[str, str]

    def network(self, n_features, n_experts):
        return SoftmaxNetwork(n_features, n_experts, [], 1 / self.sharpness, 0.0)
"""


def test_a_gate_of_the_users_own_package_is_built_only_if_listed(tmp_path, monkeypatch):
    (tmp_path / "plugin_gates.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    plain = compose()
    plain["gating"] = {"_target_": "plugin_gates.Linear", "sharpness": 2.0, "losses": {}}
    with pytest.raises(
        ConfigError, match=r"^gating\._target_: 'plugin_gates\.Linear' is outside moe_trader\. .*plugins: \["
    ):
        run_settings(plain)
    assert "plugin_gates" not in sys.modules
    plain["plugins"] = ["plugin_gates"]
    made = run_settings(plain)
    assert type(made.gating).__name__ == "Linear"
    assert made.gating.network(3, 2).temperature == 0.5
    plain["gating"]["sharpness"] = -1
    with pytest.raises(ConfigError, match=r"^gating\.sharpness: Input should be greater than 0, got -1$"):
        run_settings(plain)
    monkeypatch.delitem(sys.modules, "plugin_gates")


@pytest.mark.parametrize("plugins", ["plugin_gates", None, {"a": 1}])
def test_plugins_must_be_a_list(plugins):
    plain = compose()
    plain["plugins"] = plugins
    with pytest.raises(ConfigError, match=r"^plugins: Input should be a valid list"):
        run_settings(plain)


# --- what is loaded ---------------------------------------------------------------------------------------------------


def loaded_after(statement, names):
    code = f"import sys\n{statement}\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_the_config_module_stays_light():
    heavy = ["torch", "stable_baselines3", "pandas", "numba", "matplotlib", "moe_trader.settings"]
    assert loaded_after("import moe_trader.config", [*heavy, "omegaconf"]) == ["omegaconf"]


def test_composing_stays_light():
    statement = "from moe_trader.config import compose; assert compose(['seed=3'])['seed'] == 3"
    assert loaded_after(statement, ["torch", "stable_baselines3", "pandas", "hydra"]) == ["hydra"]


def test_the_env_room_needs_no_torch():
    statement = (
        "import moe_trader.env.task, moe_trader.env.nasdaq, moe_trader.env.synthetic, moe_trader.env.trading_env"
    )
    assert loaded_after(statement, ["torch", "stable_baselines3", "numpy"]) == ["numpy"]


# --- bounds -----------------------------------------------------------------------------------------------------------

EVERY_NUMBER = {  # configs that together hold all kinds of options
    "default": [],
    "synthetic": [
        "env=synthetic",
        "env/market=rare_crash",
        "env/features=everything",
        "env/costs=retail_stock",
        "env/positions=continuous",
        "env/reward=differential_sharpe",
        "gating=sticky",
        "gating/losses=[standard,diversity,sinkhorn]",
    ],
    "folds": ["env/split=walk_forward", "env/positions=orders", "env/reward=drawdown_penalised", "gating=annealed"],
    "fractions": ["env=sp500", "env/split=by_fraction", "gating=top_k"],
    "india": ["env/costs=india_fixed", "gating=gru", "env/reward=turnover_penalised"],
}
NO_NUMBERS = {
    "a boolean": True,
    "text": "3",
    "NaN": float("nan"),
    "infinity": float("inf"),
    "huge": 10**39,
    "low": -1e300,
}


def numbers(node, path=()):
    """Yield the place of every number in a composed config."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from numbers(value, (*path, key))
    elif type(node) in (int, float):
        yield path


@pytest.mark.parametrize("name", EVERY_NUMBER)
def test_every_number_has_bounds_and_is_neither_text_nor_boolean(name):
    plain = compose(EVERY_NUMBER[name])
    places = list(numbers(plain))
    assert len(places) > 40
    for path in places:
        *parents, last = path
        node = plain
        for key in parents:
            node = node[key]
        good = node[last]
        for what, bad in NO_NUMBERS.items():
            node[last] = bad
            with pytest.raises(ConfigError) as caught:
                run_settings(plain)
            assert str(caught.value).startswith(".".join(map(str, path))), (path, what)
        node[last] = good
    run_settings(plain)


def test_whole_numbers_and_fractions_as_people_write_them():
    made = settings_of("trainer.total_timesteps=400_000", "expert.learning_rate=1e-3", "expert.vf_coef=1", "env.clip=5")
    assert (made.trainer.total_timesteps, made.expert.learning_rate) == (400_000, 1e-3)
    assert (made.expert.vf_coef, made.env.clip) == (1.0, 5.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["env.market.series.train=100_000", "env.market.bars=10_000_000"],
            r"^env\.market\.series, env\.market\.bars: 100,0\d\d series of 10,000,000 bars would need about 56,0",
        ),
        (
            ["trainer.n_envs=65_536", "env.window=300"],
            r"^trainer\.n_envs, env\.window, env\.features: observations of [\d,]+ numbers in 65,536 lanes would need",
        ),
    ],
)
def test_products_that_no_memory_holds_are_refused_before_it_is_taken(overrides, message, make_settings, monkeypatch):
    monkeypatch.setattr(memory, "physical_memory", lambda: 10**9)
    made = make_settings(*overrides)
    with pytest.raises(ConfigError, match=message) as caught:
        made.env.prepare().training_env(made.trainer.n_envs, 0)
    assert str(caught.value).endswith("of memory, and this machine has 1 GB; lower one of them")


def test_this_machine_says_how_much_memory_it_has():
    assert 10**8 < memory.physical_memory() < 10**15


@pytest.mark.parametrize(
    ("market", "added"),
    [
        ("csv", {"ranges", "bad_rows", "order", "decimal", "encoding", "start", "end"}),
        ("parquet", {"ranges", "bad_rows", "order", "decimal", "encoding", "start", "end"}),
        ("yahoo", {"ranges", "bad_rows"}),
        ("ccxt", {"ranges", "bad_rows"}),
    ],
)
def test_the_market_of_a_config_that_version_0_1_0_saved_is_read_as_it_was(market, added):
    node = compose(MARKETS[market])["env"]["market"]
    saved = {key: value for key, value in node.items() if key not in added}
    if "columns" in saved:
        saved["columns"] = {name: heading for name, heading in saved["columns"].items() if name != "day"}
    one, other = build(saved, "env.market"), build(node, "env.market")
    for name in added:
        assert getattr(one, name) == getattr(other, name), f"{name}: the defaults in Python and YAML differ"
    assert one.reading() == dataclasses.replace(other.reading(), columns=one.reading().columns)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.market.ranges=narrow", r"^env\.market\.ranges: Input should be 'refuse' or 'widen', got 'narrow'"),
        ("env.market.encoding=klingon", r"^env\.market: encoding: Python knows no 'klingon'; try latin-1, gb18030 or"),
        (
            "env.market.columns.close=none",
            r"^env\.market\.columns\.close: a market needs it; name its heading, or p",
        ),
        ("env.market.columns.close=-1", r"no column -1 \(env\.market\.columns\.close\): there are 2, counted from 0"),
        ("env.market.decimal=dot", r"^env\.market\.decimal: Input should be 'point' or 'comma', got 'dot'"),
    ],
)
def test_what_a_file_cannot_be_read_with(override, message, tmp_path):
    (tmp_path / "x.csv").write_text("date,close\n2018-12-27,11\n")
    with pytest.raises(ValueError, match=message):
        build(compose(["env=csv", f"env.path={tmp_path / 'x.csv'}", override])["env"]["market"], "env.market").load()


def test_the_bounds_of_a_file_must_be_in_order():
    bounds = ["env.market.start=2020-01-01", "env.market.end=2019-01-01"]
    with pytest.raises(ConfigError, match=r"^env\.market: expected start < end, got 2020-01-01, 2019-01-01$"):
        build(compose([*MARKETS["csv"], *bounds])["env"]["market"], "env.market")

"""Every kind of price file: its bars are those written by hand, and each suggestion, pasted, reads the file."""

import shlex

import pytest
import reading
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from reading import judge, suggestions
from reading_kinds import KINDS, cases

from moe_trader.config import config_directory, to_plain
from moe_trader.env.reading.ways import setting

ALL = {kind.name: kind for kind in [*KINDS, *cases()]}


@pytest.fixture(scope="module", autouse=True)
def composed_once():
    """Compose the config once: Hydra's parser reads each setting, and unknown ones are refused."""
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        env = compose("data", overrides=["env=csv"]).env
    base = OmegaConf.create({"env": {name: env._get_node(name) for name in ("path", "_aliases_", "fill", "market")}})
    OmegaConf.set_struct(base, True)

    def composed(overrides):
        config = base.copy()
        for one in OverridesParser.create().parse_overrides(overrides):
            OmegaConf.update(config, one.key_or_group, one.value(), merge=False)
        return to_plain(config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "composed", composed)
        yield


@pytest.mark.parametrize("name", ALL)
def test_a_kind_of_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = judge(ALL[name], tmp_path)
    assert not result.wrong
    assert ALL[name].outcome in result.outcome
    assert result.outcome != "refused without"


def test_kinds_are_many_and_of_each_outcome():
    assert len(KINDS) >= 40
    assert {kind.outcome for kind in KINDS} == {"read", "repaired", "refused"}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("widen", "env.market.x=widen"),
        ("Adj Close*", "'env.market.x=\"Adj Close*\"'"),
        ("日期", "'env.market.x=\"日期\"'"),
        ('a"b', '\'env.market.x="a\\"b"\''),
        ("it's", "'env.market.x=\"it'\"'\"'s\"'"),
        ("4", "'env.market.x=\"4\"'"),
        ("null", "'env.market.x=\"null\"'"),
        (4, "env.market.x=4"),
        ("none", "env.market.x=none"),
        (["A", "BTC/USDT", "a b"], "'env.market.x=[A,BTC/USDT,\"a b\"]'"),
        ("2020-01-31", "env.market.x=2020-01-31"),
    ],
)
def test_settings_are_quoted_where_a_shell_or_hydra_needs_it(value, written):
    assert setting("x", value) == written
    (word,) = shlex.split(written)
    assert OverridesParser.create().parse_override(word).value() == value


def test_suggestions_are_found_in_a_message():
    message = (
        "x; set env.market.columns.time=0 'env.market.date_format=\"%d %m\"' to do a, or env.market.order=sort to do b"
    )
    assert suggestions(message) == [
        "env.market.columns.time=0 'env.market.date_format=\"%d %m\"'",
        "env.market.order=sort",
    ]
    assert suggestions("set env.market.columns.low=HEADING; columns there: x") == []

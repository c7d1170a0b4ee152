"""Names of earlier versions: they keep their meaning in configs, bundles and overrides, and one line says today's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from moe_trader import legacy
from moe_trader.agent import MoEAgent
from moe_trader.bundle import sha256
from moe_trader.config import compose, run_settings, to_plain
from moe_trader.legacy import translated
from moe_trader.option import ConfigError, build, describe
from moe_trader.saved_config import difference, difference_of_runs, record

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW = "expert.gate_rate_factor", "expert.gate_lr_scale"
LINE = f"{OLD} is called {NEW} now; the old name still works"


@pytest.fixture(autouse=True)
def nothing_warned(monkeypatch):
    monkeypatch.setattr(legacy, "_warned", set())


def with_old_name(node, value=0.25):
    return {name: given for name, given in node.items() if name != "gate_lr_scale"} | {"gate_rate_factor": value}


def test_an_old_name_in_a_config_keeps_its_meaning_and_is_warned_about_once(settings, warnings):
    node = with_old_name(describe(settings.expert))
    for _ in range(3):
        assert build(node, "expert").gate_lr_scale == 0.25
    assert warnings().splitlines() == [LINE]
    assert describe(build(node, "expert"))["gate_lr_scale"] == 0.25
    assert "gate_rate_factor" not in describe(build(node, "expert"))


def test_an_old_name_is_not_known_elsewhere(settings):
    with pytest.raises(ConfigError, match=r"^trainer\.gate_rate_factor: unknown setting"):
        build({**describe(settings.trainer), "gate_rate_factor": 1.0}, "trainer")


def test_both_names_of_a_setting_are_refused(settings):
    message = rf"^{OLD}=0.5, the old name of {NEW}, which is 1.0; remove one of them$".replace(".", r"\.")
    with pytest.raises(ConfigError, match=message):
        build({**describe(settings.expert), "gate_rate_factor": 0.5}, "expert")
    assert build({**describe(settings.expert), "gate_rate_factor": 1.0}, "expert") == settings.expert  # they agree


def test_a_wrong_value_is_refused_under_todays_name(settings):
    with pytest.raises(ConfigError, match=r"^expert\.gate_lr_scale: Input should be greater than or equal to 0, got "):
        build(with_old_name(describe(settings.expert), -1.0), "expert")


def test_an_old_bundle_keeps_its_gates_rate(make_agent, prepared, tmp_path, warnings):
    path = tmp_path / "agent"
    make_agent(gate_lr_scale=0.25).save(path)
    config = path / "config.yaml"
    assert config.read_text().count("gate_lr_scale: 0.25") == 1
    config.write_text(config.read_text().replace("gate_lr_scale", "gate_rate_factor"))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["config.yaml"] = sha256(config)
    (path / "manifest.json").write_text(json.dumps(manifest))
    agent = MoEAgent.load(path, env=prepared.training_env(4, 0))
    assert warnings() == LINE
    assert agent.expert.gate_lr_scale == 0.25
    assert [group["lr_scale"] for group in agent.algorithm.policy.optimizer.param_groups] == [1.0, 0.25]


# --- overrides --------------------------------------------------------------------------------------------------------


def test_overrides_may_use_an_old_name(warnings):
    for word in (f"{OLD}=0.5", f"++{OLD}=0.5"):
        assert run_settings(compose([word])).expert.gate_lr_scale == 0.5
    assert warnings() == LINE


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (f"{OLD}=0.5", f"{NEW}=0.5"),
        (f"+{OLD}=0.5", f"+{NEW}=0.5"),
        (f"++{OLD}=0.1,0.5", f"++{NEW}=0.1,0.5"),
        (f"~{OLD}", f"~{NEW}"),
        (f"{NEW}=0.5", f"{NEW}=0.5"),
        (f"{OLD}s=0.5", f"{OLD}s=0.5"),
        ("gate_rate_factor=1", "gate_rate_factor=1"),
        (f"hydra.run.dir={OLD}=1", f"hydra.run.dir={OLD}=1"),
        ("--multirun", "--multirun"),
    ],
)
def test_only_the_path_of_an_override_is_translated(word, expected, warnings):
    assert translated(["seed=1", word]) == ["seed=1", expected]
    assert warnings() == (LINE if word != expected else "")


@pytest.mark.parametrize("saved", [{"expert": {"gate_rate_factor": 1.0}}, {"expert": {"gate_lr_scale": 1.0}}, {}])
def test_a_rerun_is_changed_under_the_names_that_its_config_has(saved, warnings):
    """A saved config of an old run has the old name, and an override must replace that one."""
    own = OLD if "gate_rate_factor" in saved.get("expert", {}) else NEW
    assert translated([f"{NEW}=0.5"], saved) == [f"{own}=0.5"]
    assert warnings() == ""


# --- settings that are gone, or newer ---------------------------------------------------------------------------------


def test_a_run_of_before_a_setting_means_what_it_did(settings):
    node = {name: value for name, value in describe(settings).items() if name != "kernels"}
    assert build(node, "").kernels == settings.kernels == "auto"


def test_a_removed_setting_is_refused_unless_it_says_what_is_true_today(settings):
    node = describe(settings.trainer)
    assert build({**node, "compile": False}, "trainer") == settings.trainer
    with pytest.raises(ConfigError, match=r"^trainer\.compile: removed setting; expected False or nothing, got True$"):
        build({**node, "compile": True}, "trainer")


def test_the_old_name_changes_a_run_of_today_too():
    today = {"expert": {"gate_lr_scale": 1.0}}
    assert translated(["expert.gate_rate_factor=0.5", "seed=1"], today) == ["expert.gate_lr_scale=0.5", "seed=1"]
    assert translated(["expert.gate_lr_scale=0.5"], today) == ["expert.gate_lr_scale=0.5"]
    old = {"expert": {"gate_rate_factor": 1.0}}
    assert translated(["expert.gate_lr_scale=0.5"], old) == ["expert.gate_rate_factor=0.5"]
    assert translated(["expert.gate_rate_factor=0.5"], old) == ["expert.gate_rate_factor=0.5"]


def test_a_removed_setting_is_dropped_or_refused_on_the_command_line():
    assert translated(["trainer.compile=false", "seed=1"]) == ["seed=1"]
    with pytest.raises(ConfigError, match=r"^trainer\.compile: removed setting; expected False or nothing, got true$"):
        compose(["trainer.compile=true"])


def test_a_rerun_composes_the_settings_that_old_configs_lack():
    composed = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "rerun.yaml"))
    del composed["defaults"]
    groups = {key: node if isinstance(node, dict) else {"": node} for key, node in composed.items()}
    flat = {f"{key}.{name}".rstrip("."): value for key, node in groups.items() for name, value in node.items()}
    assert flat == legacy.ADDED


# --- a setting that moved to another node -----------------------------------------------------------------------------

SEEDS = "trainer.parallel_seeds"
SEEDS_LINE = f"{SEEDS} is called seeds now; the old name still works"
THEY_DIFFER = rf"^{SEEDS}=5, the old name of seeds, which is 3; remove one of them$".replace(".", r"\.")


def old_config(n):
    """The plain config of a run of before ``seeds``."""
    plain = compose([])
    del plain["seeds"], plain["seeds_at_once"]
    plain["trainer"]["parallel_seeds"] = n
    return plain


def test_an_override_may_use_the_name_of_another_node(warnings):
    assert run_settings(compose([f"{SEEDS}=5"])).seeds == 5
    assert warnings() == SEEDS_LINE


def test_a_config_may_use_the_name_of_another_node(warnings):
    old = old_config(5)
    settings = run_settings(old)
    assert (settings.seeds, settings.seeds_at_once) == (5, None)
    assert settings == run_settings({**compose(["seeds=5"])})
    assert old["trainer"]["parallel_seeds"] == 5  # the caller's own config stays as it is
    assert warnings() == SEEDS_LINE


def test_two_values_of_a_setting_that_moved_are_refused():
    with pytest.raises(ConfigError, match=THEY_DIFFER):
        compose([f"{SEEDS}=5", "seeds=3"])
    with pytest.raises(ConfigError, match=THEY_DIFFER):
        run_settings({**old_config(5), "seeds": 3})
    with pytest.raises(ConfigError, match=THEY_DIFFER):
        to_plain(OmegaConf.create({"seeds": 3, "trainer": {"parallel_seeds": 5}}))
    assert compose([f"{SEEDS}=5", "seeds=5"])["seeds"] == 5


def test_a_rerun_of_an_old_run_of_seeds_is_one_of_today():
    """Its saved config is composed under its own name; what is built, saved for each seed and compared has today's."""
    old = old_config(5)
    assert translated(["seeds=2"], old) == translated([f"{SEEDS}=2"], old) == [f"{SEEDS}=2"]
    assert translated([f"{SEEDS}=2"], compose([])) == ["seeds=2"]
    composed = OmegaConf.merge(OmegaConf.load(ROOT / "conf" / "rerun.yaml"), OmegaConf.create(old))
    del composed["defaults"]
    plain = to_plain(composed)
    assert plain == compose(["seeds=5"]) | {"seeds": 5}
    of_before = {**old, "trainer": {**old["trainer"], "parallel_seeds": 5}}
    assert difference_of_runs(plain, to_plain(OmegaConf.create(of_before))) is None
    kept = record(of_before)  # as a version of before kept it in a bundle
    assert difference(plain, kept) is None
    assert difference(compose(["seeds=2"]), kept) == ("seeds", "2", "5")

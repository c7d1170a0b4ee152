"""Options: what a config node builds, what a built option is written back as, and what each mistake is told."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import pkgutil
import runpy
import sys
from typing import Annotated

import pytest
from pydantic import Field

import moe_trader
from moe_trader.gating.losses.information import Information
from moe_trader.gating.losses.minimum_importance import MinimumImportance
from moe_trader.gating.losses.router_z import RouterZ
from moe_trader.option import ConfigError, build, build_option, describe, is_option, option, options_in

HERE = __name__  # this module plays the user's own package
STEADY = {"ramp_start": 0.0, "ramp_end": 0.0, "final_weight": None}  # the schedule of a constant weight


@option
class Engine:
    power: Annotated[float, Field(gt=0)]
    fuel: str | None


@option
class Car:
    engine: Engine
    wheels: list[Engine]
    doors: dict[str, Engine]
    built: datetime.date
    seats: Annotated[int, Field(ge=1)]

    def __post_init__(self) -> None:
        if self.seats > 100 * self.engine.power:
            raise ValueError(f"too weak for {self.seats} seats")


class Tuned(Engine):
    """Inherits from an option without being one."""


def engine(**changes):
    return {"_target_": f"{HERE}.Engine", "power": 2.5, "fuel": None, **changes}


def car(**changes):
    node = {
        "_target_": f"{HERE}.Car",
        "engine": engine(),
        "wheels": [engine(), engine(power=1)],
        "doors": {"left": engine(fuel="oil")},
        "built": "2020-02-29",
        "seats": 4,
    }
    return node | changes


def build_car(**changes):
    return build(car(**changes), "garage.car", [HERE])


def test_build_makes_the_option_and_every_option_inside_it():
    made = build_car()
    assert isinstance(made, Car)
    assert made.engine == Engine(power=2.5, fuel=None)
    assert made.wheels == [Engine(power=2.5, fuel=None), Engine(power=1.0, fuel=None)]
    assert made.doors == {"left": Engine(power=2.5, fuel="oil")}
    assert made.built == datetime.date(2020, 2, 29)
    assert made.seats == 4


def test_describe_is_the_inverse_of_build():
    made = build_car()
    node = describe(made)
    assert node["_target_"] == f"{HERE}.Car"
    assert node["wheels"][1] == {"_target_": f"{HERE}.Engine", "power": 1.0, "fuel": None}
    assert build(node, "garage.car", [HERE]) == made


def test_options_are_frozen_and_equal_by_value():
    made = RouterZ(weight=0.5, **STEADY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.weight = 1.0
    assert made == RouterZ(weight=0.5, **STEADY)
    assert made != RouterZ(weight=0.25, **STEADY)


def test_numbers_that_are_not_finite_are_refused():
    for bad in ("nan", "inf"):
        with pytest.raises(ConfigError, match=r"^loss\.weight: Input should be a finite number, got"):
            build({"_target_": "moe_trader.gating.losses.router_z.RouterZ", "weight": float(bad), **STEADY}, "loss")


def test_unknown_key_names_its_path_and_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"^garage\.car\.seat: unknown setting\. Did you mean `seats`\? Known here: "):
        build_car(seat=4)


def test_unknown_key_far_from_any_lists_what_is_known():
    with pytest.raises(ConfigError) as caught:
        build_car(zzz=4)
    assert str(caught.value) == (
        "garage.car.zzz: unknown setting. Known here: built, doors, engine, seats, wheels"  # no guess
    )


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"engine": engine(fule="oil")}, r"garage\.car\.engine\.fule"),
        ({"wheels": [engine(), engine(fule="oil")]}, r"garage\.car\.wheels\[1\]\.fule"),
        ({"doors": {"left": engine(fule="oil")}}, r"garage\.car\.doors\.left\.fule"),
    ],
)
def test_a_mistake_deep_inside_is_named_by_its_whole_path(changes, place):
    with pytest.raises(ConfigError, match=rf"^{place}: unknown setting\. Did you mean `fuel`\?"):
        build_car(**changes)


def test_missing_wrong_type_and_out_of_range_are_all_named_at_once():
    node = car(seats=0, built="yesterday")
    del node["wheels"]
    with pytest.raises(ConfigError) as caught:
        build(node, "garage.car", [HERE])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "garage.car.wheels: missing; this setting has no default" in lines
    assert "garage.car.seats: Input should be greater than or equal to 1, got 0" in lines
    assert any(line.startswith("garage.car.built: Input should be a valid date") for line in lines)
    assert any(line.endswith("got 'yesterday'") for line in lines)


def test_a_check_across_settings_is_reported_at_the_option():
    with pytest.raises(ConfigError, match=r"^garage\.car: too weak for 1000 seats$"):
        build_car(seats=1000)
    node = {"_target_": "moe_trader.gating.losses.information.Information", "weight": 1.0, "final_weight": None}
    node |= {"ramp_start": 0.5, "ramp_end": 0.1}
    with pytest.raises(
        ConfigError, match=r"^gating\.losses\.information: expected ramp_start <= ramp_end, got 0\.5 and 0"
    ):
        build(node, "gating.losses.information")


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "torch.nn.Linear", "moe_trader_evil.gate.Gate"])
def test_a_target_outside_the_package_is_refused_without_importing_it(target):
    with pytest.raises(ConfigError) as caught:
        build({"_target_": target}, "gating")
    assert str(caught.value) == (
        f"gating._target_: {target!r} is outside moe_trader. To build options of your own package, list it: "
        "`plugins: [your_package]`."
    )
    assert "moe_trader_evil" not in sys.modules


@pytest.mark.parametrize(
    "target",
    ["moe_trader.agent.MoEAgent", "moe_trader.bundle.write", "moe_trader.gating.Gate", "moe_trader.bundle.shutil"],
)
def test_a_target_that_is_no_option_is_refused(target):
    with pytest.raises(ConfigError, match=rf"^gating\._target_: '{target}' is not an option \(a class decorated with"):
        build({"_target_": target}, "gating")


def test_a_class_that_only_inherits_from_an_option_is_refused():
    assert is_option(Engine)
    assert not is_option(Tuned)
    with pytest.raises(ConfigError, match=r"^engine\._target_: '.*Tuned' is not an option"):
        build(engine(_target_=f"{HERE}.Tuned"), "engine", [HERE])


@pytest.mark.parametrize("target", ["moe_trader.gating.softmax.Sofmax", "moe_trader.gating.sofmax.Softmax"])
def test_a_target_that_does_not_exist_is_named(target):
    hint = "; did you mean `Softmax`?" if target.endswith("Sofmax") else ""
    with pytest.raises(ConfigError) as caught:
        build({"_target_": target}, "gating")
    assert str(caught.value) == (
        f"gating._target_: {target!r} is not an option (a class decorated with moe_trader's @option){hint}"
    )


@pytest.mark.parametrize("target", ["", "Softmax", 3, None])
def test_a_target_that_is_no_import_path_is_refused(target):
    with pytest.raises(ConfigError) as caught:
        build({"_target_": target}, "gating")
    assert str(caught.value) == (
        f"gating._target_: expected the full name of an option, PACKAGE.MODULE.CLASS, got {target!r}"
    )


def test_a_plugin_is_built_only_if_listed(tmp_path, monkeypatch):
    package = tmp_path / "my_gates"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "loss.py").write_text(
        "from moe_trader.gating.losses.router_z import RouterZ\n"
        "from moe_trader.option import option\n"
        "@option\n"
        "class Mine(RouterZ):\n"
        "    strength: float\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "my_gates.loss.Mine", "weight": 1.0, "strength": 2.0, **STEADY}
    with pytest.raises(ConfigError, match=r"'my_gates\.loss\.Mine' is outside moe_trader\."):
        build(node, "gating")
    with pytest.raises(ConfigError, match=r"'my_gates\.loss\.Mine' is outside moe_trader, your_gates\."):
        build(node, "gating", ["your_gates"])
    assert "my_gates" not in sys.modules
    made = build(node, "gating", ["my_gates"])
    assert isinstance(made, RouterZ)
    assert (made.weight, made.strength) == (1.0, 2.0)
    assert describe(made) == node
    for name in ("my_gates", "my_gates.loss"):
        monkeypatch.delitem(sys.modules, name)


NO_NAMES = [
    "moe_trader.__main__.x",  # which would train
    "moe_trader.__main__.option.x",
    "moe_trader..gating.softmax.Softmax",
    "moe_trader.gating.softmax.Softmax.",
    ".moe_trader.gating.softmax.Softmax",
    "moe_trader.gating.softmax.__class__",
    "moe_trader.gating/softmax.Softmax",
    "moe_trader.gating.softmax.Softmax\n",
    "moe_trader.gating.softm\N{CYRILLIC SMALL LETTER A}x.Softmax",
    "m\N{CYRILLIC SMALL LETTER O}e_trader.gating.softmax.Softmax",
    "moe_trader." + "a" * 10**6,
    "moe_trader",
    True,
    ["moe_trader.gating.softmax.Softmax"],
    {"a": 1},
]
NO_OPTIONS = [
    "moe_trader.train.main",
    "moe_trader.env.task.dataclasses.x",  # a module within a module
    "moe_trader.env.task.np.load",
    "moe_trader.gating.softmax.Softmax.network",
    "moe_trader.settings.Trainer",  # imported there, defined elsewhere
    "moe_trader.gating.softmax.SoftmaxNetwork",
    "moe_trader.gating.nothing.Softmax",
    "moe_trader.x",
]


@pytest.mark.parametrize("target", NO_NAMES, ids=lambda one: str(one)[:40])
def test_a_target_that_no_option_can_have_is_refused_before_any_import(target, monkeypatch):
    monkeypatch.setattr(importlib, "import_module", pytest.fail)
    with pytest.raises(ConfigError) as caught:
        build({"_target_": target}, "gating")
    assert str(caught.value).startswith(
        "gating._target_: expected the full name of an option, PACKAGE.MODULE.CLASS, got "
    )
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("target", NO_OPTIONS)
def test_only_what_a_module_itself_defines_as_an_option_is_imported(target, monkeypatch):
    monkeypatch.setattr(importlib, "import_module", pytest.fail)
    with pytest.raises(ConfigError, match=rf"^gating\._target_: '{target}' is not an option \("):
        build({"_target_": target}, "gating")


def test_main_trains_only_as_a_program():
    runpy.run_module("moe_trader.__main__", run_name="imported")


@pytest.mark.parametrize("plugin", ["moe_trader", "os", "builtins", "sys"])
def test_a_plugin_that_is_not_the_users_own_is_refused(plugin):
    with pytest.raises(ConfigError, match=rf"^plugins: '{plugin}' is .*; list only packages that define options of yo"):
        build(describe(RouterZ(weight=1.0, **STEADY)), "gating", [plugin])


@pytest.mark.parametrize("plugin", ["os.path", "", "a/b", "..", "__main__", 3, None, ["a"], "my gates"])
def test_a_plugin_that_is_no_package_name_is_refused(plugin):
    with pytest.raises(ConfigError, match=r"^plugins: expected names of top-level packages, got "):
        build(describe(RouterZ(weight=1.0, **STEADY)), "gating", [plugin])


def test_a_single_plugin_must_still_be_in_a_list():
    with pytest.raises(ConfigError, match=r"^plugins: expected a list of packages, got 'mine'; write \['mine'\]$"):
        build(describe(RouterZ(weight=1.0, **STEADY)), "gating", "mine")


def test_a_plugin_offers_its_own_options_and_not_those_of_others(tmp_path, monkeypatch):
    package = tmp_path / "my_offers"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from my_offers.loss import Mine\nfrom moe_trader.gating.losses.router_z import RouterZ\nimport os\n"
    )
    (package / "loss.py").write_text(
        "from moe_trader.option import option\n\n@option\nclass Mine:\n    weight: float\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert build({"_target_": "my_offers.Mine", "weight": 1.0}, "gating", ["my_offers"]).weight == 1.0
    with pytest.raises(ConfigError, match=r"'my_offers\.RouterZ' is moe_trader\..*\.RouterZ; write that name$"):
        build({"_target_": "my_offers.RouterZ"}, "gating", ["my_offers"])
    with pytest.raises(ConfigError, match=r"^gating\._target_: cannot import 'my_offers\.os\.system' \("):
        build({"_target_": "my_offers.os.system"}, "gating", ["my_offers"])
    for name in ("my_offers", "my_offers.loss"):
        sys.modules.pop(name)


def every_option():
    """Return every option class of the package."""
    found = {}
    for info in pkgutil.walk_packages(moe_trader.__path__, "moe_trader."):
        for name, one in vars(importlib.import_module(info.name)).items():
            if isinstance(one, type) and is_option(one) and one.__module__ == info.name:
                found[f"{info.name}.{name}"] = one
    return found


def test_the_options_that_the_source_shows_are_all_there_are():
    modules = [info.name for info in pkgutil.walk_packages(moe_trader.__path__, "moe_trader.")]
    shown = {f"{module}.{name}" for module in modules for name in options_in(module)}
    assert shown == set(every_option())
    assert len(shown) > 50


def unbounded(schema, path):
    """Yield the places in a pydantic schema of numbers without bounds or strictness, and of endless lists of them."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        if kind in ("int", "float"):
            if not ({"le", "lt"} & schema.keys() and {"ge", "gt"} & schema.keys() and schema.get("strict")):
                yield path
        elif kind == "literal" and any(type(one) is int for one in schema["expected"]):
            yield f"{path}, which takes booleans"
        elif kind == "list" and "max_length" not in schema and _holds_numbers(schema["items_schema"]):
            yield f"{path}, its length"
        for key, value in schema.items():
            yield from unbounded(value, f"{path}.{schema['name']}" if key == "schema" and "name" in schema else path)
    elif isinstance(schema, list | tuple):
        for one in schema:
            yield from unbounded(one, path)


def _holds_numbers(schema):
    return schema["type"] in ("int", "float") or ("items_schema" in schema and _holds_numbers(schema["items_schema"]))


def test_no_option_forgets_the_bounds_of_a_number():
    places = [at for name, cls in every_option().items() for at in unbounded(cls.__pydantic_core_schema__, name)]
    assert places == []


def test_a_number_without_bounds_is_noticed():
    assert list(unbounded(Car.__pydantic_core_schema__, "Car")) != []
    assert list(unbounded(Engine.__pydantic_core_schema__, "Engine")) == ["Engine.power"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), True, "1", None, 10**400])
def test_what_is_no_number_is_refused_within_lists_and_mappings_too(bad):
    model = {"intercept": [0.0, bad], "ar1": [0.0, 0.0], "volatility": [1.0, 1.0], "transition": [[0.5, 0.5]] * 2}
    node = {"_target_": "moe_trader.env.features.markov_switching.MarkovSwitching", **model}
    with pytest.raises(ConfigError, match=r"^model\.intercept\.1: Input should be "):
        build(node, "model")
    with pytest.raises(ConfigError, match=r"^model\.transition\.1\.0: Input should be "):
        build({**node, "intercept": [0.0, 0.0], "transition": [[0.5, 0.5], [bad, 1.0]]}, "model")


def test_messages_stay_short_whatever_is_given():
    node = describe(RouterZ(weight=1.0, **STEADY))
    for bad in ("a" * 10**6, list(range(10**5)), 10**5000, {str(i): i for i in range(10**4)}):
        with pytest.raises(ConfigError) as caught:
            build({**node, "weight": bad}, "loss")
        assert len(str(caught.value)) < 300
    with pytest.raises(ConfigError) as caught:
        build({**node, "a" * 10**6: 1}, "loss")
    assert len(str(caught.value)) < 300
    with pytest.raises(
        ConfigError, match=r"^loss\._target_: expected the full name .*, got a int that is too large to"
    ):
        build({"_target_": 10**5000}, "loss")
    with pytest.raises(ConfigError, match=r"^loss\.3: unknown setting"):
        build({**node, 3: 1}, "loss")


def test_what_is_nested_without_end_is_refused():
    node = {}
    for _ in range(10**5):
        node = {"a": node}
    with pytest.raises(ConfigError, match=r"^loss: nested too deeply; write at most 100 levels$"):
        build_option({**describe(RouterZ(weight=1.0, **STEADY)), "weight": node}, "loss", RouterZ)
    while node:  # or Python itself fails to free it
        node = node.pop("a", None)


def test_a_plugin_prefix_is_not_a_plugin():
    with pytest.raises(ConfigError, match="is outside"):
        build({"_target_": "my_gates_evil.Mine"}, "gating", ["my_gates"])


def test_build_option_wants_a_mapping_with_a_target():
    for node in ("router_z", {"weight": 1.0}, None):
        with pytest.raises(ConfigError, match=r"^loss: expected a mapping with `_target_` \(a RouterZ\), got "):
            build_option(node, "loss", RouterZ)


def test_build_option_wants_the_expected_kind():
    node = describe(MinimumImportance(weight=1.0, share=0.5, **STEADY))
    assert build_option(node, "loss", MinimumImportance) == MinimumImportance(weight=1.0, share=0.5, **STEADY)
    with pytest.raises(
        ConfigError, match=r"^loss: moe_trader\.gating\.losses\.minimum_importance\.MinimumImportance is not a RouterZ$"
    ):
        build_option(node, "loss", RouterZ)


def test_an_option_of_another_kind_is_refused_where_a_kind_is_expected():
    node = car(engine=describe(Information(weight=1.0, ramp_start=0.0, ramp_end=1.0, final_weight=None)))
    with pytest.raises(ConfigError, match=r"^garage\.car\.engine: Input should be .*Engine"):
        build(node, "garage.car", [HERE])


def test_a_removed_setting_may_keep_its_only_value(make_settings):
    """Configs saved by 0.1.0 say trainer.compile=false."""

    node = describe(make_settings().trainer)
    assert build({**node, "compile": False}, "trainer") == build(node, "trainer")
    assert "compile" not in describe(build({**node, "compile": False}, "trainer"))
    with pytest.raises(ConfigError, match=r"^trainer\.compile: removed setting; expected False or nothing, got True$"):
        build({**node, "compile": True}, "trainer")


@pytest.mark.parametrize("plugins", [1.5, None, {"a": 1}, {"a"}, b"x"])
def test_plugins_that_are_no_list_are_refused(plugins):
    with pytest.raises(ConfigError, match=r"^plugins: expected "):
        build({"_target_": "moe_trader.gating.fixed.Uniform", "losses": {}}, "gating", plugins)

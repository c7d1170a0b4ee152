"""The house keeps its shape: imports run one way, few modules know Hydra, files stay short, imports change nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import moe_trader

PACKAGE = Path(moe_trader.__file__).parent
ROOMS = {"env", "expert", "gating", "trainer", "evaluation", "dense"}
COMMANDS = {"train", "evaluate", "data", "compare", "__main__"}
LEAVES = {
    "option",
    "terminal",
    "sight",
    "compiled",
    "overrides",
    "__version__",
}  # anyone may import them; they import nothing of ours
MAY_IMPORT = {  # what else a room or module may import of ours; one that is not named here: nothing
    "env": {"env"},
    "dense": {"dense"},
    "gating": {"gating", "dense"},
    "evaluation": {"evaluation"},
    "expert": {"expert", "gating", "dense"},
    "trainer": {"trainer"},
    "agent": {"bundle", "expert", "gating"},
    "bundle": {"expert", "gating"},
    "command": {"env"},
    "config": {"settings"},
    "settings": {"env", "expert", "gating", "trainer"},
}
KNOW_HYDRA = COMMANDS | {"command", "config", "bundle"}
ARRAYS_ONLY = {"evaluation": {"torch", "stable_baselines3"}, "env": {"torch"}, "dense": {"torch"}}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def dotted(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source, module, is_package=False):
    """Return every absolute name that a module's source imports, except for type checkers alone."""
    found = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parents = module.split(".")
                kept = parents[: len(parents) - node.level + is_package]
                start = ".".join([*kept, start]) if start else ".".join(kept)
            found |= {f"{start}.{alias.name}" for alias in node.names}
    return found


def imports_of(file):
    return imported(file.read_text(), dotted(file), file.name == "__init__.py")


def top(name):
    """Return ``env`` for ``moe_trader.env.task.TradingTask``, and None for what is not ours."""
    parts = name.split(".")
    return parts[1] if parts[0] == "moe_trader" and len(parts) > 1 else None


def roots(file):
    """Return the packages a file imports from: ``torch`` for ``torch.nn``."""
    return {name.split(".")[0] for name in imports_of(file)}


def test_the_reader_of_imports_sees_all_of_them():
    source = (
        "from typing import TYPE_CHECKING\n"
        "import torch.nn as nn, hydra\n"
        "from moe_trader import agent\n"
        "from . import lanes\n"
        "from ..gating import Gate\n"
        "if TYPE_CHECKING:\n"
        "    from moe_trader.trainer import Trainer\n"
        "else:\n"
        "    import numpy\n"
        "def late():\n"
        "    from moe_trader.expert.ppo import PPOExperts\n"
    )
    assert imported(source, "moe_trader.env.task") == {
        "typing.TYPE_CHECKING",
        "torch.nn",
        "hydra",
        "moe_trader.agent",
        "moe_trader.env.lanes",
        "moe_trader.gating.Gate",
        "numpy",
        "moe_trader.expert.ppo.PPOExperts",
    }
    assert imported("from .task import A", "moe_trader.env", is_package=True) == {"moe_trader.env.task.A"}
    assert top("moe_trader.expert.ppo.PPOExperts") == "expert"
    assert top("torch.nn") is None


def test_the_walk_sees_the_house():
    names = {dotted(file) for file in modules()}
    assert {
        "moe_trader",
        "moe_trader.option",
        "moe_trader.agent",
        "moe_trader.env.task",
        "moe_trader.expert.ppo",
    } <= names
    assert len(names) >= 25


@pytest.mark.parametrize("file", modules(), ids=dotted)
def test_imports_run_one_way(file):
    ours = top(dotted(file))
    if ours in COMMANDS:
        return
    names = {top(name) for name in imports_of(file)} - {None}
    allowed = MAY_IMPORT.get(ours, set()) | (set() if ours in LEAVES else LEAVES)
    assert names <= allowed, f"{dotted(file)} imports {sorted(names - allowed)}; it may import {sorted(allowed)}"


def test_every_room_has_its_rule():
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert rooms <= ROOMS <= MAY_IMPORT.keys()


@pytest.mark.parametrize("file", modules(), ids=dotted)
def test_only_the_commands_import_the_agent(file):
    if top(dotted(file)) not in COMMANDS:
        assert "agent" not in {top(name) for name in imports_of(file)}


@pytest.mark.parametrize("file", modules(), ids=dotted)
def test_only_commands_config_and_bundle_know_hydra(file):
    if top(dotted(file)) not in KNOW_HYDRA:
        assert not roots(file) & {"hydra", "omegaconf"}


@pytest.mark.parametrize("file", modules(), ids=dotted)
def test_rooms_of_arrays_know_no_networks(file):
    forbidden = ARRAYS_ONLY.get(top(dotted(file)), set())
    assert not roots(file) & forbidden


def test_only_the_vectorised_environment_of_its_room_knows_stable_baselines3():
    knowing = {file.name for file in (PACKAGE / "env").rglob("*.py") if "stable_baselines3" in roots(file)}
    assert knowing == {"trading_vec_env.py"}


@pytest.mark.parametrize("file", modules(), ids=dotted)
def test_files_stay_short(file):
    assert len(file.read_text().splitlines()) < 300


GLOBAL = {
    "filterwarnings",
    "simplefilter",
    "set_num_threads",
    "seed",
    "manual_seed",
    "basicConfig",
    "set_default_dtype",
}


def global_changes(source):
    """Return the calls made at import that change something for the whole process."""
    statements = list(ast.parse(source).body)
    found = []
    while statements:
        node = statements.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in GLOBAL:
            found.append(ast.unparse(node))
        statements.extend(ast.iter_child_nodes(node))
    return found


def test_the_reader_of_global_changes_sees_them():
    assert global_changes("import torch\nif True:\n    torch.set_num_threads(1)") == ["torch.set_num_threads(1)"]
    assert global_changes("def f():\n    torch.manual_seed(0)") == []


@pytest.mark.parametrize("file", modules(), ids=dotted)
def test_importing_changes_nothing_for_others(file):
    assert global_changes(file.read_text()) == []


@pytest.mark.parametrize("file", modules(), ids=dotted)
def test_names_say_what_is_inside(file):
    vague = {"manager", "helper", "helpers", "util", "utils", "base", "common", "core", "misc"}
    assert not set(dotted(file).replace("_", ".").split(".")) & vague

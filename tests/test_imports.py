"""The house keeps its shape: imports run one way, few modules know Hydra, files stay short, imports change nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import moe_trader

PACKAGE = Path(moe_trader.__file__).parent
ROOMS = {"env", "expert", "gating", "trainer", "evaluation", "mixture", "fast", "learner"}
COMMANDS = {"train", "evaluate", "data", "compare", "__main__"}
LEAVES = {
    "option",
    "bounds",
    "compiled",
    "device",
    "finite",
    "legacy",
    "interrupt",
    "durable",
    "exhausted",
    "exit_status",
    "run_files",
    "overrides",
    "plain_yaml",
    "terminal",
    "gate_input",
    "__version__",
}  # anyone may import them; they import nothing of ours
MAY_IMPORT = {  # what else a room or module may import of ours; one that is not named here: nothing
    "env": {"env", "argument", "memory"},
    "option": {"legacy"},
    "lock": set(),
    "evaluation": {"evaluation"},
    "gating": {"gating"},
    "mixture": {"mixture", "gating"},
    "fast": {"fast", "mixture", "gating"},
    "learner": {"learner", "fast", "mixture", "gating"},
    "expert": {"expert", "learner", "fast", "mixture", "gating", "memory"},
    "trainer": {
        "trainer",
        "agent",
        "argument",
        "bundle",
        "env",
        "evaluation",
        "expert",
        "gating",
        "learner",
        "lock",
        "manifest",
    },
    "agent": {"acting", "argument", "bundle", "expert", "gating", "learner", "manifest", "mixture", "parts"},
    "acting": {"argument", "expert", "manifest", "mixture"},
    "parts": {"argument", "bundle", "differences", "expert", "gating"},
    "differences": {"expert", "gating"},
    "bundle": {"expert", "gating", "manifest"},
    "command": {"config", "env", "run_directory", "saved_config", "sweep"},
    "config": {"settings"},
    "saved_config": {"config"},
    "run_directory": {"lock", "sweep"},
    "sweep": set(),
    "rerun": {"config", "saved_config"},
    "resume": {"config", "rerun", "run_directory", "saved_config", "trainer"},
    "settings": {"env", "expert", "gating", "parts", "trainer"},
}
KNOW_HYDRA = COMMANDS | {
    "command",
    "config",
    "bundle",
    "plain_yaml",
    "rerun",
    "resume",
    "run_directory",
    "saved_config",
    "sweep",
}
ARRAYS_ONLY = {"evaluation": {"torch", "stable_baselines3"}, "env": {"torch"}}


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


IMPORTS = {dotted(file): imports_of(file) for file in modules()}  # of every module, by its dotted name


def top(name):
    """Return ``env`` for ``moe_trader.env.task.TradingTask``, and None for what is not ours."""
    parts = name.split(".")
    return parts[1] if parts[0] == "moe_trader" and len(parts) > 1 else None


def roots(module):
    """Return the packages a module imports from: ``torch`` for ``torch.nn``."""
    return {name.split(".")[0] for name in IMPORTS[module]}


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
    names = set(IMPORTS)
    assert {
        "moe_trader",
        "moe_trader.option",
        "moe_trader.agent",
        "moe_trader.env.task",
        "moe_trader.expert.ppo",
    } <= names
    assert len(names) >= 25


def test_imports_run_one_way():
    wrong = {}
    for module, names in IMPORTS.items():
        ours = top(module)
        allowed = MAY_IMPORT.get(ours, set()) | (set() if ours in LEAVES else LEAVES) | {None}
        if ours not in COMMANDS and (more := {top(name) for name in names} - allowed):
            wrong[module] = f"imports {sorted(more)}; it may import {sorted(allowed - {None})}"
    assert not wrong


def modules_named(name):
    """Return the module that an imported name is, or is in; none for a name that is not ours."""
    while name.startswith("moe_trader") and name not in IMPORTS:
        name = name.rpartition(".")[0]
    return {name} if name in IMPORTS else set()


def in_circles(graph):
    """Return what is left of a graph, module -> modules that it imports, once all that end somewhere are taken out."""
    left = {module: set(names) for module, names in graph.items()}
    while ends := [module for module, names in left.items() if not names]:
        for end in ends:
            del left[end]
        for names in left.values():
            names.difference_update(ends)
    return left


def test_a_circle_is_seen():
    graph = {"a": {"b", "d"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": set(), "f": {"d"}}
    assert in_circles(graph) == {"a": {"b"}, "b": {"c"}, "c": {"a"}}
    assert in_circles(graph | {"c": set()}) == {}


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: set().union(*map(modules_named, names)) - {module} for module, names in IMPORTS.items()}
    assert "moe_trader.mixture.model" in graph["moe_trader.mixture.with_weights"]
    assert in_circles(graph) == {}


def test_only_the_rooms_of_kernels_know_numba():
    knowing = {top(module) for module in IMPORTS if roots(module) & {"numba", "llvmlite"}}
    knowing |= {
        top(module) for module, names in IMPORTS.items() if any("moe_trader.compiled" in name for name in names)
    }
    assert knowing == {"fast", "env", "compiled"}


def test_every_room_has_its_rule():
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert rooms <= ROOMS <= MAY_IMPORT.keys()


def test_only_the_commands_and_the_run_import_the_agent():
    knowing = {top(module) for module, names in IMPORTS.items() if "agent" in {top(name) for name in names}}
    assert knowing == {"evaluate", "trainer"}


def test_only_commands_config_and_bundle_know_hydra():
    knowing = {top(module) for module in IMPORTS if roots(module) & {"hydra", "omegaconf"}}
    assert "config" in knowing <= KNOW_HYDRA


@pytest.mark.parametrize("room", ARRAYS_ONLY)
def test_rooms_of_arrays_know_no_networks(room):
    knowing = {module for module in IMPORTS if top(module) == room and roots(module) & ARRAYS_ONLY[room]}
    assert not knowing


def test_only_the_vectorised_environment_of_its_room_knows_stable_baselines3():
    knowing = {module for module in IMPORTS if top(module) == "env" and "stable_baselines3" in roots(module)}
    assert knowing == {"moe_trader.env.trading_vec_env"}


def test_files_stay_short():
    assert {file.name: n for file in modules() if (n := len(file.read_text().splitlines())) >= 300} == {}


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


def test_importing_changes_nothing_for_others():
    assert {dotted(file): found for file in modules() if (found := global_changes(file.read_text()))} == {}


def test_names_say_what_is_inside():
    vague = {"manager", "helper", "helpers", "util", "utils", "base", "common", "core", "misc"}
    assert [module for module in IMPORTS if set(module.replace("_", ".").split(".")) & vague] == []

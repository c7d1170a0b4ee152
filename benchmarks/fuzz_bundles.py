"""The part ``bundles`` of fuzz.py: one small bundle and run directory, damaged or forged in a random way."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from fuzz import Try, Wrong
from safetensors.torch import load_file, save_file

SMALL = ("env=synthetic", "env.market.bars=700", "expert.count=2", "expert.net_arch=[16]", "expert.n_steps=32")
SMALL += ("expert.batch_size=64",)
SMALL += tuple(f"env.market.series.{split}=1" for split in ("train", "validation", "test"))
FEATURES = ("env.features.regime_probabilities.states=2", "env.features.regime_probabilities.starts=2")
VIEW = ("observation_space", "action_space", "gate_columns", "gate_rows", "expert_columns", "experts")

NASTY: list[Any] = [None, True, False, -1, 0, 1, 2, 3.0, 10**6, 10**18, 10**400, 1e308, -1e308, 1e-320, 0.5]
NASTY += [float("nan"), float("inf"), "", "x", "1", "true", "1e3", "../x", "/etc/passwd", "a\0b", "é\u202e", "\ud83d"]
NASTY += [[], {}, [[]], [1], ["x"], {"a": 1}, {"_target_": "os.system"}, "x" * 10**5, list(range(10**4))]
NASTY += [
    "moe_trader.__main__.x",
    "moe_trader.train.main",
    "os.system",
    "moe_trader..option.x",
    "${oc.env:HOME}",
    "${seed}",
]
NASTY += ["moe_trader.gating.softmax.Softmax", "moe_trader.trainer.Trainer", "???", "{'a': 1}", "&a [*a]"]

Rng = np.random.Generator


def prepare(root: Path) -> Callable[[Rng, Path], tuple[str, Try]]:
    """Make a run directory with a saved config and a bundle, and return what makes cases of it."""
    from moe_trader.agent import MoEAgent
    from moe_trader.config import load_config, run_settings, to_plain

    torch.set_num_threads(1)
    good = root / "good"
    write_config(good / ".hydra" / "config.yaml")
    settings = run_settings(to_plain(load_config(good / ".hydra" / "config.yaml")))
    task = settings.env.prepare(gate_input=settings.gating.gate_input())
    agent = MoEAgent(task.training_env(4, seed=0), settings.expert, settings.gating, seed=0)
    agent.save(good / "bundle", task=task.summary())
    observations = np.random.default_rng(0).normal(size=(20, *agent.model.observation_space.shape)).astype(np.float32)
    usual = agent.predict(observations)[0]
    manifest = json.loads((good / "bundle" / "manifest.json").read_text())

    def make(rng: Rng, place: Path) -> tuple[str, Try]:
        shutil.copytree(good, place)
        if rng.random() < 0.25:
            what = damage(rng, place / ".hydra" / "config.yaml")
            return what, lambda: build(place)
        done = [one_change(rng, place / "bundle") for _ in range(int(rng.choice([1, 1, 2, 3])))]
        if rng.random() < 0.7 and rehash(place / "bundle"):
            done.append("hashes made again")
        return ", ".join(done), lambda: load(place, observations, usual, manifest)

    return make


def write_config(file: Path) -> None:
    """Save the composed config as ``moe-train`` does."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from moe_trader.config import config_directory

    file.parent.mkdir(parents=True)
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        OmegaConf.save(compose("train", overrides=[*SMALL, *FEATURES]), file)


def build(place: Path) -> None:
    """Build a run's settings from its saved config; whatever is accepted must be written back as it is."""
    from moe_trader.config import load_config, run_settings, to_plain
    from moe_trader.option import build as built
    from moe_trader.option import describe

    settings = run_settings(to_plain(load_config(place / ".hydra" / "config.yaml")))
    if built(describe(settings), "", settings.plugins) != settings:
        raise Wrong("the settings are not written back as they are")


def load(place: Path, observations: np.ndarray, usual: np.ndarray, manifest: dict[str, Any]) -> None:
    """Load a bundle as ``moe-evaluate`` does; whatever is accepted must be what the files hold."""
    from moe_trader.agent import MoEAgent
    from moe_trader.config import load_config, run_settings, to_plain
    from moe_trader.evaluate import saved_features, saved_scaler

    bundle, good = place / "bundle", place.parent / "good"
    agent = MoEAgent.load(bundle)
    state, held = agent.model.state_dict(), load_file(bundle / "policy.safetensors")
    if state.keys() != held.keys() or not all(torch.equal(state[name], held[name]) for name in held):
        raise Wrong("the weights are not those of the file")
    same = ("config.yaml", "policy.safetensors")
    found = json.loads((bundle / "manifest.json").read_text())
    if (
        all((bundle / name).read_bytes() == (good / "bundle" / name).read_bytes() for name in same)
        and all(found[key] == manifest[key] for key in VIEW)
        and not np.array_equal(agent.predict(observations)[0], usual)
    ):
        raise Wrong("the agent acts otherwise")
    settings = run_settings(to_plain(load_config(place / ".hydra" / "config.yaml")))
    saved_scaler(bundle)
    saved_features(bundle, settings.env.features)


# --- changes ----------------------------------------------------------------------------------------------------------


def one_change(rng: Rng, bundle: Path) -> str:
    """Change a bundle in some way, and say how."""
    kind = rng.choice(["bytes", "manifest", "config", "files", "weights"], p=[0.2, 0.35, 0.2, 0.1, 0.15])
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return "nothing left"
    if kind == "bytes":
        return change_bytes(rng, files[rng.integers(len(files))])
    if kind in ("manifest", "config"):
        return damage(rng, bundle / ("manifest.json" if kind == "manifest" else "config.yaml"))
    return change_files(rng, bundle, files) if kind == "files" else change_weights(rng, bundle / "policy.safetensors")


def damage(rng: Rng, file: Path) -> str:
    """Change a YAML or JSON file: a node of its tree, most of the time, else its text."""
    if not file.is_file() or rng.random() < 0.15:
        return change_bytes(rng, file)
    if rng.random() < 0.1:
        return change_text(rng, file)
    is_json = file.suffix == ".json"
    try:
        tree = json.loads(file.read_text()) if is_json else yaml.safe_load(file.read_text())
    except (ValueError, yaml.YAMLError, RecursionError):
        return change_bytes(rng, file)
    what = change_tree(rng, tree)
    try:
        file.write_text(json.dumps(tree) if is_json else yaml.safe_dump(tree))
    except (ValueError, yaml.YAMLError, RecursionError):
        return f"{what} of {file.name}, which cannot be written"
    return f"{what} of {file.name}"


def nodes(tree: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Yield container, key and path of each node; of long lists the first few."""
    items = (
        list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree))[:3] if isinstance(tree, list) else []
    )
    for key, value in items:
        yield tree, key, f"{path}.{key}"
        yield from nodes(value, f"{path}.{key}")


def change_tree(rng: Rng, tree: Any) -> str:
    """Change one node of a tree."""
    places = list(nodes(tree))
    if not places:
        return "nothing"
    node, key, path = places[rng.integers(len(places))]
    other, other_key, other_path = places[rng.integers(len(places))]
    kind = str(rng.choice(["nasty", "delete", "rename", "copy", "number", "list"], p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]))
    value = node[key]
    if kind == "delete":
        del node[key]
    elif kind == "rename" and isinstance(node, dict):
        node[str(rng.choice(["x", key + "_", key[:-1], "__class__", "_target_", "defaults", "hydra"]))] = node.pop(key)
    elif kind == "copy":
        node[key] = copy.deepcopy(other[other_key])
        return f"{path} made that of {other_path}"
    elif kind == "number" and type(value) in (int, float):
        node[key] = [value + 1, value * 1000, -value, value / 3, str(value), value * 10**9][rng.integers(6)]
    elif kind == "list" and isinstance(value, list):
        node[key] = [value * 2, value[:-1], value[::-1], [value], value * 1000 if len(value) < 100 else []][
            rng.integers(5)
        ]
    else:
        node[key] = NASTY[rng.integers(len(NASTY))]
        return f"{path} made {node[key]!r:.60}"
    return f"{kind} {path}"


def change_text(rng: Rng, file: Path) -> str:
    """Change the text of a file in a way that a parser may mind."""
    lines = file.read_text(errors="replace").splitlines(keepends=True) or [""]
    text, at = "".join(lines), int(rng.integers(len(lines)))
    changes = {
        "a line twice": "".join([*lines[: at + 1], *lines[at:]]),
        "a line lost": "".join([*lines[:at], *lines[at + 1 :]]),
        "a byte order mark": "\ufeff" + text,
        "tabs": text.replace("  ", "\t"),
        "deep brackets": "[" * 100_000,
        "deep mappings": '{"a":' * 100_000,
        "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "two documents": text + "\n---\n" + text,
        "a tag": "x: !!python/object/apply:os.system ['touch owned']\n" + text,
    }
    kind = str(rng.choice(list(changes)))
    file.write_text(changes[kind])
    return f"{kind} in {file.name}"


def change_bytes(rng: Rng, file: Path) -> str:
    """Change the bytes of a file."""
    if not file.is_file():
        return f"{file.name} is not there"
    content = bytearray(file.read_bytes())
    size = max(len(content), 1)
    # Most of a file of weights is numbers, and what is interesting is at its head.
    at = int(rng.integers(min(size, 3_000) if rng.random() < 0.5 else size))
    until = at + int(rng.integers(1, 100))
    kind = str(rng.choice(["flip", "cut", "lose", "repeat", "insert", "zero", "empty"]))
    if kind == "flip" and content:
        content[at] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del content[at:]
    elif kind == "lose":
        del content[at:until]
    elif kind == "repeat":
        content[at:at] = content[at:until]
    elif kind == "insert":
        content[at:at] = rng.bytes(until - at)
    elif kind == "zero":
        content[at:until] = bytes(until - at)
    else:
        content.clear()
    file.write_bytes(bytes(content))
    return f"{kind} at byte {at} of {file.name}"


def change_files(rng: Rng, bundle: Path, files: list[Path]) -> str:
    """Rename, swap, lose or add files."""
    one, other = (files[rng.integers(len(files))] for _ in range(2))
    kind = str(rng.choice(["delete", "rename", "swap", "add", "folder", "link", "link out", "pipe", "in its place"]))
    extra = bundle / str(rng.choice(["x", ".DS_Store", "experts/x.zip", "config.yml"]))
    if kind == "delete":
        one.unlink()
    elif kind == "rename":
        one.rename(one.with_name(one.name + "x"))
    elif kind == "swap":
        a, b = one.read_bytes(), other.read_bytes()
        one.write_bytes(b)
        other.write_bytes(a)
    elif extra.exists() or not extra.parent.is_dir():
        return "nothing"
    elif kind == "add":
        extra.write_bytes(rng.bytes(10))
    elif kind == "folder":
        extra.mkdir()
    elif kind == "pipe":
        os.mkfifo(extra)
    elif kind == "in its place":
        one.unlink()
        one.mkdir()
    else:
        extra.symlink_to(one if kind == "link" else "/etc/passwd")
    return f"{kind}: {one.name}, {other.name}, {extra.name}"


def change_weights(rng: Rng, file: Path) -> str:
    """Change a tensor."""
    try:
        tensors = load_file(file)
    except Exception:
        return change_bytes(rng, file)
    name = str(rng.choice(sorted(tensors)))
    tensor = tensors.pop(name)
    first = torch.zeros_like(tensor)
    first.view(-1)[:1] = 1
    changes = {
        "lost": {},
        "renamed": {name + "x": tensor},
        "doubled": {name: tensor, name + "x": tensor.clone()},
        "NaN": {name: tensor + torch.where(first > 0, float("nan"), 0.0)},
        "infinite": {name: tensor + torch.where(first > 0, float("inf"), 0.0)},
        "scaled": {name: tensor * 2},
        "float64": {name: tensor.double()},
        "float16": {name: tensor.half()},
        "int64": {name: tensor.long()},
        "bool": {name: tensor.bool()},
        "turned": {name: tensor.T.contiguous() if tensor.ndim == 2 else tensor[None]},
        "longer": {name: torch.cat([tensor.flatten()] * 2)},
        "empty": {name: tensor.flatten()[:0]},
    }
    kind = str(rng.choice(list(changes)))
    save_file(tensors | changes[kind], file)
    return f"{name} {kind}"


def rehash(bundle: Path) -> bool:
    """Do what a forger does: make the manifest agree with the files that it lists."""
    from moe_trader.bundle import sha256

    try:
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["files"] = {
            name: sha256(bundle / name) if (bundle / name).is_file() else digest
            for name, digest in manifest["files"].items()
        }
        (bundle / "manifest.json").write_text(json.dumps(manifest))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        return False
    return True

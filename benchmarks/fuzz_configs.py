"""The part ``configs`` of fuzz.py: random overrides of the config, composed, built, and trained for a few steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fuzz import Try, Wrong

if TYPE_CHECKING:
    from moe_trader.settings import RunSettings

EXPERT = ("expert.count=2", "expert.net_arch=[16]", "expert.n_steps=32", "expert.batch_size=64", "trainer.n_envs=4")
SYNTHETIC = ("env=synthetic", "env.market.bars=700", "env.features.regime_probabilities.states=2")
SYNTHETIC += ("env.features.regime_probabilities.starts=2",)
SYNTHETIC += tuple(f"env.market.series.{split}=1" for split in ("train", "validation", "test"))
SMALL = {"bars": 2_000, "n_envs": 16, "n_steps": 256, "count": 8, "n_epochs": 4, "series": 3, "starts": 5, "states": 4}
SMALL |= dict.fromkeys(("net_arch", "hidden_sizes", "hidden_size", "rows", "window"), 128)
SMALL |= dict.fromkeys(("total_timesteps", "seed", "seeds", "threads", "initial_equity"), math.inf)
OTHERWISE = 1_000  # largest whole number of another name in a config that is trained
STEPS = 200

NUMBERS = "null true False -1 0 1 2 3 7 -0.0 0.5 1.5 .5 5. +1 1e-320 1e-9 1e9 1e308 -1e308 1e400 inf -inf nan 0x10"
NUMBERS += f" 1_000 1__0 {2**31} {2**31 - 1} {2**63} {10**18} 1{'0' * 400} 1{'0' * 5_000} 1e-{'9' * 400}"
TEXTS = ["''", "x", "'1'", "'true'", "é", "日本", "\u202e", "a\u0000b", "\udcff", "a b", "2020-01-01", "'2020-01-01'"]
TEXTS += [
    "/etc/passwd",
    "../x",
    "~/x",
    ".",
    "\\",
    "\\\\",
    "a=b",
    "#",
    ":",
    "@",
    "!!python/object:os.system",
    "x" * 10**5,
]
NESTED = [
    "[]",
    "{}",
    "[[]]",
    "[1]",
    "[1,2,3]",
    "[x,null]",
    "[1.5,-1]",
    "[0]",
    "[nan]",
    "[true]",
    "{a:1}",
    "{a:{b:[1]}}",
]
NESTED += ["[" * 60 + "]" * 60, "{a:" * 60 + "1" + "}" * 60, f"[{'1,' * 2_000}1]", "{1:2}", "{null:1}", "{true:1,a:2}"]
NESTED += ["{_target_:os.system}", "{_target_:builtins.eval,x:1}", "{_target_:moe_trader.gating.softmax.Softmax}"]
NESTED += ["{_target_:moe_trader.env.costs.Proportional,bp:1}", "{_target_:null}", "{_target_:[a]}", "{_args_:[1]}"]
REFERENCES = ["${seed}", "${nothing}", "${oc.env:HOME}", "${oc.env:NOT_THERE}", "${now:%Y}", "${hydra:runtime.cwd}"]
REFERENCES += ["${env}", "${..x}", "${.}", "${", "'${seed'", "${oc.create:{a:1}}", "${oc.decode:'['}", "${oc.decode:1}"]
REFERENCES += ["${oc.select:x}", "${oc.dict.keys:env}", "${no.such:1}", "${env.window}", "${expert.count}", "x${seed}"]
REFERENCES += ["${expert}", "${trainer.n_envs}", "[${seed},${env.window}]", "${${seed}}", "???", "[???]", "'???'"]
SWEEPS = ["1,2", "choice(1,2)", "range(1,4)", "glob(*)", "interval(0,1)", "shuffle(1,2)", "int(1.5)", "int(x)", "f(1)"]
SWEEPS += ["float(x)", "str(1)", "bool(x)", "json_str({a:1})", "sort(3,2,1)", "extend_list(1)", "tag(a,1)", "int(nan)"]
BROKEN = ["", "[", "]", "{", "}", "'", '"', "[1", "{a", "(", "a,", "[1,,2]", "{a:1,a:2}", "\n", "\t", "[" * 3_000]
VALUES = {"numbers": NUMBERS.split(), "texts": TEXTS, "nested": NESTED, "references": REFERENCES}
VALUES |= {"sweeps": SWEEPS, "broken": BROKEN}
TARGETS = ["os.system", "builtins.exec", "moe_trader.train.main", "moe_trader.__main__.x", "moe_trader..option.x", "x"]
TARGETS += ["subprocess.Popen", "moe_trader.trainer.Trainer", "moe_trader.env.costs.Proportional", "''", "null", "1"]
TARGETS += [
    "moe_trader.gating.softmax.softmax",
    "moe_trader.gating.fixed.Uniform",
    "moe_trader.env.csv.Csv",
    "a" * 10**4,
]
NAMES = [
    "x",
    "_target_",
    "_args_",
    "_aliases_",
    "_partial_",
    "_recursive_",
    "_convert_",
    "defaults",
    "hydra",
    "1",
    "a.b",
]
NAMES += ["__class__", "é", "${seed}", "[0]", "a[0]", "..", ""]
RAW = [
    "=",
    "==",
    "a",
    "a=b=c",
    "+",
    "~",
    "++",
    "+=",
    "~=1",
    "@",
    "@a=b",
    "a@b=c",
    "a@:b=c",
    "a@b:c=d",
    "-m",
    "--cfg",
    "env",
]
RAW += ["env=", "env.=1", ".env=1", "env..window=1", "env[window]=1", "env.window.=3", "a.b.c[0]=1", "é=1", "\u0000=1"]
RAW += ["x" * 10**5, "x." * 3_000 + "x=1", "+" + "x." * 300 + "x=1", "~env", "~expert", "~trainer", "~seed", "env=null"]
RAW += ["expert=null", "+env=nasdaq", "++env=nasdaq", "env=[nasdaq,synthetic]", "experiment=[quick]", "~gating.losses"]
RAW += ["hydra.run.dir=/tmp/x", "hydra.nothing=1", "hydra=null", "~hydra.job", "hydra.job.num=x", "hydra/launcher=none"]
RAW += [
    "hydra/job_logging=none",
    "hydra.searchpath=[file:///tmp]",
    "hydra.searchpath=[pkg://os]",
    "hydra.mode=MULTIRUN",
]
RAW += [
    "+hydra.callbacks.x._target_=os.system",
    "hydra.searchpath=1",
    "hydra.output_subdir=/tmp/x",
    "hydra.verbose=[x]",
]
LOOPS = [["seed=${expert.count}", "expert.count=${seed}"], ["env=${expert}", "expert=${env}"], ["seed=${seed}"]]
LOOPS += [["env.clip=${env}"], ["plugins=${plugins}"], ["+a=${b}", "+b=${a}"], ["plugins=[${plugins}]"]]

Rng = np.random.Generator


def prepare(root: Path) -> Callable[[Rng, Path], tuple[str, Try]]:
    """Learn what the config holds, and return what makes overrides of it."""
    from moe_trader.config import compose

    torch.set_num_threads(1)
    bars = root / "bars.csv"
    write_bars(bars)
    bases = {"synthetic": SYNTHETIC, "nasdaq": ("env=nasdaq",), "sp500": ("env=sp500",)}
    bases["csv"] = ("env=csv", f"env.path={bars}")
    base = [*SYNTHETIC, *EXPERT]
    known = [one for one in leaves(compose(base)) if not one[0].endswith("_target_")]
    groups = list(choices())
    attempt(base, root / "first", whole=True)  # imports and compiles what a case needs

    def make(rng: Rng, place: Path) -> tuple[str, Try]:
        on = str(rng.choice(list(bases), p=[0.85, 0.05, 0.05, 0.05]))
        given = [override(rng, known, groups) for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.55, 0.3, 0.1, 0.05])))]
        if rng.random() < 0.05:
            given += LOOPS[rng.integers(len(LOOPS))]
        if rng.random() < 0.05:
            given += [f"{given[0].partition('=')[0]}={value(rng)}"]  # the same key twice
        shown = " ".join(f"{one:.80}" for one in given)
        whole = bool(rng.random() < 0.05)
        return f"{on}: {shown!a}", lambda: attempt([*bases[on], *EXPERT, *given], place, whole)

    return make


def attempt(overrides: list[str], place: Path, whole: bool) -> None:
    """Compose and build; train where that is quick. The whole of a run is evaluated too."""
    from moe_trader.config import compose, run_settings
    from moe_trader.option import build, describe

    settings = run_settings(compose(overrides))
    if build(describe(settings), "", settings.plugins) != settings:
        raise Wrong("the settings are not written back as they are")
    if is_small(plain := describe(settings)) and not plain["trainer"].get("compile") and is_offline(settings):
        train(settings, place, whole)


def train(settings: RunSettings, place: Path, whole: bool) -> None:
    """Train and save an agent for a few steps, as ``moe-train`` does; what is saved must load."""
    from moe_trader.agent import MoEAgent
    from moe_trader.evaluation.evaluate import evaluate, write_tables

    trainer, task = settings.trainer, settings.env.prepare(gate_input=settings.gating.gate_input())
    env = task.training_env(trainer.n_envs, settings.seed, trainer.cost_multiple)
    agent = MoEAgent(env, settings.expert, settings.gating, seed=settings.seed, device=settings.device)
    steps = min(trainer.steps(task, settings.expert), STEPS)
    bundle = trainer.fit(agent, place, task=task.summary(), total_timesteps=steps)
    loaded = MoEAgent.load(bundle, plugins=settings.plugins)
    observations = env.reset()
    if not np.array_equal(loaded.predict(observations)[0], agent.predict(observations)[0]):
        raise Wrong("the loaded agent acts otherwise")
    if whole:
        write_tables(evaluate(task, agent, None, settings.seed, shapley=False), place)


def is_small(node: Any, most: float = OTHERWISE) -> bool:
    """Whether every whole number is one with which a case takes a second or two."""
    if isinstance(node, dict):
        return all(is_small(value, SMALL.get(key, most)) for key, value in node.items())
    if isinstance(node, list):
        return len(node) < 50 and all(is_small(value, most) for value in node)
    return not isinstance(node, int) or node <= most


def is_offline(settings: RunSettings) -> bool:
    """Whether the market needs no network."""
    return type(settings.env.market).__name__ in ("Synthetic", "Nasdaq", "SP500", "Csv", "Parquet")


def write_bars(file: Path) -> None:
    """Write a price file."""
    import pandas as pd

    close = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, 700).cumsum())
    time = pd.bdate_range("2015-01-01", periods=700)
    bars = {"time": time, "open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1_000.0}
    pd.DataFrame(bars).to_csv(file, index=False)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of every setting, and of every mapping of settings."""
    for key, value in node.items():
        place = f"{path}.{key}" if path else key
        yield place, value
        if isinstance(value, dict):
            yield from leaves(value, place)


def choices() -> Iterator[tuple[str, str]]:
    """Yield every group and option of ``conf``."""
    from moe_trader.config import config_directory

    root = Path(config_directory())
    for file in sorted(root.glob("*/**/*.yaml")):
        yield str(file.parent.relative_to(root)), file.stem


# --- overrides --------------------------------------------------------------------------------------------------------


def pick(rng: Rng, options: list[Any]) -> Any:
    """Return one of a list."""
    return options[rng.integers(len(options))]


def value(rng: Rng) -> str:
    """Return the text of a value."""
    return str(pick(rng, VALUES[pick(rng, ["numbers"] * 4 + ["texts", "nested", "nested", "references", *VALUES])]))


def override(rng: Rng, known: list[tuple[str, Any]], groups: list[tuple[str, str]]) -> str:
    """Return one override."""
    kinds = {"value": 0.11, "near": 0.56, "group": 0.19, "add": 0.04, "delete": 0.03, "target": 0.03, "raw": 0.04}
    kind = str(rng.choice(list(kinds), p=list(kinds.values())))
    path, now = pick(rng, known)
    if kind == "raw":
        return str(pick(rng, RAW))
    if kind == "group":
        return choice(rng, groups)
    if kind == "delete":
        return f"~{path}" + (f"={value(rng)}" if rng.random() < 0.3 else "")
    if kind == "add":
        key = str(pick(rng, [*NAMES, path.rpartition(".")[2] + "s"]))
        return (
            f"{pick(rng, ['', '+', '++'])}{path.rpartition('.')[0] if rng.random() < 0.7 else path}.{key}={value(rng)}"
        )
    if kind == "target":
        return f"{pick(rng, ['', '+', '++'])}{path.rpartition('.')[0] or 'env'}._target_={pick(rng, TARGETS)}"
    text = near(rng, now) if kind == "near" else value(rng)
    return f"{pick(rng, ['', '', '', '', '', '++', '+'])}{path}={text}"


def near(rng: Rng, now: Any) -> str:
    """Return a value of the kind that is there."""
    if isinstance(now, bool):
        return str(not now).lower()
    if isinstance(now, int):
        return str(
            pick(rng, [now + 1, now - 1, 1, 2, 3, 5, 0, -now, now * 2, now // 2, now * 10, now * 10**6, now / 2])
        )
    if isinstance(now, float):
        return repr(
            pick(rng, [now * 2, now / 2, 0.0, 1.0, 0.1, 0.9, 5.0, -now, now * 1e6, now * 1e-6, now * 1e30, int(now)])
        )
    if isinstance(now, list):
        changed = [
            now[:1],
            now * 2,
            now[::-1],
            [],
            [now],
            [*now, -1],
            [*now, 0],
            [*now, 1.5],
            [*now, "x"],
            [one + 1 if isinstance(one, int) else one for one in now],
        ]
        return str(pick(rng, changed)).replace("None", "null")
    return str(pick(rng, ["null", "{}", now, "x"])) if rng.random() < 0.5 and isinstance(now, str) else value(rng)


def choice(rng: Rng, groups: list[tuple[str, str]]) -> str:
    """Return the choice of an option, at times of one that is not there, or in another place of the config."""
    group, option = pick(rng, groups)
    other = pick(rng, groups)
    sign = pick(rng, [""] * 7 + ["+", "++", "~"])
    package = (
        ""
        if rng.random() < 0.7
        else pick(rng, ["@env", "@_global_", "@_here_", "@env.gate_labels", "@x.y", "@", "@_group_", "@é"])
    )
    name = pick(rng, [option] * 6 + [f"[{option}]", f"[{option},{option}]", f"[{option},{other[1]}]", other[1], "null"])
    name = (
        name
        if rng.random() < 0.9
        else pick(rng, ["nothing", "[]", "[nothing]", "''", "../x", value(rng), "/env", "{}"])
    )
    return f"{sign}{group}{package}={name}"

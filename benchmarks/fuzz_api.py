"""The part ``api`` of fuzz.py: the Python API called with one argument that is wrong, by kind and at random."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz import Refused, Try
from fuzz_configs import EXPERT, SYNTHETIC
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from moe_trader.agent import MoEAgent
from moe_trader.config import compose, run_settings
from moe_trader.env import Feature, Instrument, Market
from moe_trader.gating import Gate, GateLoss, GatingNetwork
from moe_trader.option import build, build_option, describe, option
from moe_trader.trainer import Trainer

ANYTHING: list[Any] = [None, True, -1, 0, 1, 3, 2**31, 2**64, 10**400, 1.5, float("nan"), float("inf"), "", "x", b"x"]
ANYTHING += ["é\u202e", "a\0b", "\ud83d", [], [1], ["x"], [[1], [1, 2]], {}, {"a": 1}, (), (1,), set(), object(), int]
ANYTHING += [np.float32(1), np.array(np.nan), np.zeros(3), np.zeros((2, 3, 4)), np.array(["a"]), np.array([None])]
ANYTHING += [np.array([1 + 2j]), np.array(["2020"], dtype="M8"), np.zeros((0, 3)), Path("/nothing/x"), Ellipsis, print]
ANYTHING += [torch.zeros(3), torch.zeros(3, requires_grad=True), range(3), NotImplemented, Box(0, 1), "x" * 10**5, 1j]

Rng = np.random.Generator


@dataclass
class World:
    """What is misused: real objects, made once."""

    def __init__(self, root: Path) -> None:
        torch.set_num_threads(1)
        self.settings = run_settings(compose([*SYNTHETIC, *EXPERT]))
        self.market = self.settings.env.market.load()
        self.task = self.settings.env.prepare(market=self.market)
        self.env = self.task.training_env(4, seed=0)
        self.agent = self.made()
        self.box = self.made(env=make_vec_env("Pendulum-v1", n_envs=2, seed=0))
        self.agent.learn(1)
        self.saved = root / "saved"
        self.agent.save(self.saved)
        self.observations = self.env.reset()

    def made(self, **changes: Any) -> MoEAgent:
        """Return a new agent."""
        usual = {"env": self.env, "expert": self.settings.expert, "gating": self.settings.gating, "seed": 0}
        return MoEAgent(**(usual | changes))


@option
class Broken(Feature):
    """A feature that breaks its contract in one way."""

    how: str
    value: Any

    def _other(self, how: str, usual: Any) -> Any:
        return self.value if how == self.how else usual

    def columns(self) -> list[str]:
        """Return one column."""
        return self._other("columns", ["broken"])

    def warmup(self) -> int:
        """Return no bars."""
        return self._other("warmup", 0)

    def compute(self, instrument: Instrument) -> Any:
        """Return zeros."""
        return self._other("compute", np.zeros((len(instrument), 1)))


class BrokenNetwork(GatingNetwork):
    """A gate that breaks its contract in one way."""

    def __init__(self, n_features: int, n_experts: int, how: str, value: Any) -> None:
        super().__init__()
        self.linear, self.how, self.value = nn.Linear(n_features, n_experts), how, value

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        return self._other("logits", self.linear(features))

    def weights(self, logits: torch.Tensor) -> torch.Tensor:
        """Return a softmax."""
        return self._other("weights", torch.softmax(logits, -1))

    def _other(self, how: str, usual: torch.Tensor) -> Any:
        return usual if how != self.how else self.value(usual) if callable(self.value) else self.value


@option
class BrokenGate(Gate):
    """The settings of it."""

    how: str
    value: Any
    losses: dict[str, GateLoss]

    def network(self, n_features: int, n_experts: int) -> Any:
        """Return a fresh network."""
        return self.value if self.how == "network" else BrokenNetwork(n_features, n_experts, self.how, self.value)


@option
class BrokenLoss(GateLoss):
    """A loss that returns something else."""

    value: Any

    def weight_at(self, progress: float) -> float:
        """Return the whole weight."""
        return 1.0

    def __call__(self, batch: Any) -> Any:
        """Return what it was made with."""
        return self.value(batch.logits.sum()) if callable(self.value) else self.value


def prepare(root: Path) -> Callable[[Rng, Path], tuple[str, Try]]:
    """Make the objects that are misused, and return what makes cases."""
    world = World(root)

    def make(rng: Rng, place: Path) -> tuple[str, Try]:
        place.mkdir()
        name = str(rng.choice(list(KINDS)))
        argument, given, call = KINDS[name](rng, world, place)
        return f"{name}, {argument}: {given!r:.80}", lambda: named(argument, call)

    return make


def named(argument: str, call: Callable[[], object]) -> None:
    """Call; an error must be one of a caller's mistake, and name the argument (words, separated by ``|``)."""
    try:
        call()
    except (ValueError, TypeError, OSError, ResetNeeded) as error:
        if not re.search(argument, str(error)):
            raise
        raise Refused(str(error)) from None


# --- kinds: each returns the words of which a message must hold one, what is given, and a call -----------------------

Kind = tuple[str, Any, Callable[[], object]]


def pick(rng: Rng, options: Any) -> Any:
    """Return one of them."""
    options = list(options)
    return options[rng.integers(len(options))]


def array(rng: Rng, good: np.ndarray) -> Any:
    """Return an array with another shape, type or number, or something else."""
    bad = good.copy()
    bad.flat[rng.integers(bad.size)] = pick(rng, [np.nan, np.inf, -np.inf, 1e38, -1.0])
    others = [bad, good[0], good[:0], good[:, :-1], good[None], good.T, good.astype(str), good.astype(complex)]
    others += [
        good.astype(object),
        good.astype(np.float16),
        good.tolist(),
        torch.tensor(good),
        good.astype(float) * 1e300,
        -good,
    ]
    others += [np.ma.masked_array(good, good > 0), np.concatenate([good, good], 1), good > 0, good.astype(np.int8)]
    return pick(rng, others if rng.random() < 0.6 else ANYTHING)


def make_agent(rng: Rng, world: World, place: Path) -> Kind:
    """Make an agent."""
    name = str(pick(rng, ["env", "expert", "gating", "seed", "device"]))
    given = pick(rng, [*ANYTHING, world.settings, world.task, world.task.env("train"), world.settings.gating])
    return f"{name}|VecEnv" if name == "env" else name, given, lambda: world.made(**{name: given})


def observe(rng: Rng, world: World, place: Path) -> Kind:
    """Ask an agent with other observations."""
    agent, size = pick(rng, [(world.agent, world.observations.shape[1]), (world.box, 3)])
    given = array(rng, rng.normal(size=(4, size)).astype(np.float32))
    method = pick(rng, ["predict", "gate_weights", "expert_actions"])
    return "observation", given, lambda: getattr(agent, method)(given)


def predict(rng: Rng, world: World, place: Path) -> Kind:
    """Predict with another argument that is wrong."""
    name, given = pick(rng, ["state", "episode_start", "deterministic"]), pick(rng, ANYTHING)
    return name, given, lambda: world.agent.predict(world.observations, **{name: given})


def decide(rng: Rng, world: World, place: Path) -> Kind:
    """Decide under other weights."""
    weights, name = np.full((4, 2), 0.5), pick(rng, ["weights", "weights", "drawn", "seed"])
    given = array(rng, weights) if name == "weights" else pick(rng, [*ANYTHING, *[np.ones(n, bool) for n in range(9)]])
    arguments = {"weights": weights, "drawn": np.ones(4, bool), "seed": 0} | {name: given}
    method = pick(rng, ["act", "decide", "under"]) if name == "weights" else "decide"
    if method == "act":
        return name, given, lambda: world.agent.act(world.observations, given)
    if method == "under":
        return name, given, lambda: world.agent.under(given)
    return name, given, lambda: world.agent.decide(world.observations, **arguments)


def learn(rng: Rng, world: World, place: Path) -> Kind:
    """Learn something else."""
    name, given = pick(rng, ["total_timesteps", "callback"]), pick(rng, ANYTHING)
    if name == "total_timesteps" and isinstance(given, int | np.integer) and given > 1_000:
        given = str(given)
    steps = {"total_timesteps": 1} | {name: given}
    return name, given, lambda: world.made().learn(**steps)


def path(rng: Rng, place: Path, saved: Path) -> Any:
    """Return something in the way, or no path at all."""
    (place / "file").write_text("x")
    (place / "full").mkdir()
    (place / "full" / "x").write_text("x")
    ways = [place / "file", place / "full", place / "file" / "x", place / ("x" * 300), place / "a" / "b", str(place)]
    ways += [place / "\0", place / "é\udcff", f"{place}/x/../y", saved / "manifest.json", place / "x\n"]
    return pick(rng, ways if rng.random() < 0.5 else [one for one in ANYTHING if not isinstance(one, str)])


def save(rng: Rng, world: World, place: Path) -> Kind:
    """Save somewhere else, or remember another task."""
    name = pick(rng, ["path", "task"])
    given = path(rng, place, world.saved) if name == "path" else pick(rng, ANYTHING)
    where = given if name == "path" else place / "new"
    task = {} if name == "path" else given if rng.random() < 0.5 else {"own": given}
    return f"{name}|{re.escape(str(place))}", given, lambda: world.agent.save(where, task=task)


def load(rng: Rng, world: World, place: Path) -> Kind:
    """Load from somewhere else, or into something else."""
    name = pick(rng, ["path", "path", "env", "device", "plugins"])
    given = path(rng, place, world.saved) if name == "path" else pick(rng, [*ANYTHING, world.box.algorithm.env])
    arguments = {"path": world.saved} | {name: given}
    words = f"path|{re.escape(str(place))}|bundle" if name == "path" else f"{name}|spaces|VecEnv"
    return words, given, lambda: MoEAgent.load(**arguments)


def instrument(rng: Rng, world: World, place: Path) -> Kind:
    """Make an instrument of other bars."""
    good = world.market.instruments[0]
    name = pick(rng, [field.name for field in dataclasses.fields(good)])
    now = getattr(good, name)
    given = pick(rng, ANYTHING)
    if isinstance(now, np.ndarray) and rng.random() < 0.6:
        given = (
            pick(rng, [now[::-1], now[:-1], now[None], -now.astype(float), now.astype(str), now * 0.0, now.tolist()])
            if now.dtype.kind != "M"
            else pick(rng, [now[::-1], now.astype(int), now.astype(str), now[:1], now.tolist()])
        )
    words = f"{name}|close later|lie between" if name != "symbol" else name
    return (
        words,
        given,
        lambda: world.task.task.prepare(market=Market("own", (one(good, name, given), *rest(world)), True)),
    )


def one(good: Instrument, name: str, given: Any) -> Instrument:
    """Return an instrument with another field."""
    return dataclasses.replace(good, **{name: given})


def rest(world: World) -> tuple[Instrument, ...]:
    """Return the other instruments."""
    return world.market.instruments[1:]


def market(rng: Rng, world: World, place: Path) -> Kind:
    """Make another market."""
    name = pick(rng, [field.name for field in dataclasses.fields(world.market)])
    given = pick(rng, [*ANYTHING, world.market.instruments * 2, list(world.market.instruments)])
    return name, given, lambda: world.task.task.prepare(market=dataclasses.replace(world.market, **{name: given}))


def task(rng: Rng, world: World, place: Path) -> Kind:
    """Prepare a task with something else."""
    name, given = pick(rng, ["scaler", "market", "gate_input"]), pick(rng, ANYTHING)
    return name, given, lambda: world.task.task.prepare(**({"market": world.market} | {name: given}))


def environment(rng: Rng, world: World, place: Path) -> Kind:
    """Ask a task for another environment."""
    name = pick(rng, ["split", "n_envs", "seed", "cost_multiple"])
    given = pick(rng, ANYTHING)
    method = {"split": ["env", "walk", "evaluated", "vec_env"], "cost_multiple": ["training_env"]}
    arguments = {"split": "train", "n_envs": 2, "seed": 0, "cost_multiple": 1.0} | {name: given}
    how = pick(rng, method.get(name, ["vec_env", "training_env"]))
    calls = {
        "env": lambda: world.task.env(given),
        "evaluated": lambda: world.task.evaluated(given),
        "walk": lambda: world.task.walk(given, 1),
        "vec_env": lambda: world.task.vec_env(*(arguments[one] for one in ("split", "n_envs", "seed"))),
        "training_env": lambda: world.task.training_env(
            *(arguments[one] for one in ("n_envs", "seed", "cost_multiple"))
        ),
    }
    return name, given, calls[how]


def step(rng: Rng, world: World, place: Path) -> Kind:
    """Step, or reset, an environment."""
    name, given = (
        pick(rng, ["action", "action", "seed", "options"]),
        pick(rng, [*ANYTHING, np.full(2, 5), np.full(2, 0.5)]),
    )
    if rng.random() < 0.5:
        env = world.task.env("train")
        env.reset(seed=0)
        return name, given, lambda: env.step(given) if name == "action" else env.reset(**{name: given})
    lanes = world.task.vec_env("train", 2, 0)
    lanes.reset()
    return "action", given, lambda: lanes.step(given)


def feature(rng: Rng, world: World, place: Path) -> Kind:
    """Use a feature that breaks its contract."""
    how = pick(rng, ["columns", "warmup", "compute"])
    given = pick(
        rng, [*ANYTHING, 10**6, ["a", "a"], ["mean"], "return_1", np.full((700, 1), np.nan), np.zeros((700, 2))]
    )
    broken = {"broken": Broken(how=how, value=given)}
    used = lambda: dataclasses.replace(world.task.task, features=broken, gate_features=["broken"])  # noqa: E731
    return "broken|warm-up", given, lambda: used().prepare(market=world.market).training_env(2, 0).reset()


def gate(rng: Rng, world: World, place: Path) -> Kind:
    """Learn with a gate or a loss that breaks its contract."""
    how = pick(rng, ["network", "logits", "weights", "loss"])
    changes = {"nan": lambda x: x * float("nan"), "huge": lambda x: x * 1e38, "negative": lambda x: -x}
    changes |= {"one column": lambda x: x[..., None][:1], "twice": lambda x: x * 2, "flat": lambda x: x.sum()}
    changes |= {"double": lambda x: x.double(), "turned": lambda x: x.transpose(0, -1), "cut off": lambda x: x.detach()}
    changes |= {"an array": lambda x: x.detach().numpy(), "zeros": lambda x: x * 0, "wide": lambda x: x.repeat(1, 2)}
    name = pick(rng, changes) if how != "network" and rng.random() < 0.7 else ""
    given = changes[name] if name else pick(rng, [one for one in ANYTHING if not callable(one)])
    if how == "loss":
        gating = dataclasses.replace(world.settings.gating, losses={"broken": BrokenLoss(value=given)})
    else:
        gating = BrokenGate(how=how, value=given, losses={})
    return (
        "gat|[Ll]oss",
        f"{how} {name or repr(given)}",
        lambda: world.made(gating=gating).learn(1).predict(world.observations),
    )


def describing(rng: Rng, world: World, place: Path) -> Kind:
    """Build something else."""
    given = pick(rng, ANYTHING)
    node = describe(world.settings.gating)
    calls = {
        "node": lambda: build(given, "node"),
        "plugins": lambda: build(node, "", given),
        "gating": lambda: build_option({**node, "losses": given}, "gating", Gate),
        "_target_": lambda: build({"_target_": given}, ""),
        "describe": lambda: describe(given),
        "overrides": lambda: compose(given),
        "plain": lambda: run_settings(given),
        "own": lambda: build_option(given, "own", Gate),
    }
    name = pick(rng, calls)
    return name, given, calls[name]


def trainer(rng: Rng, world: World, place: Path) -> Kind:
    """Make a trainer, or have it train something else somewhere else."""
    small = dataclasses.replace(world.settings.trainer, total_timesteps=1)
    usual = {field.name: getattr(small, field.name) for field in dataclasses.fields(small)}
    name = pick(rng, [*usual, "agent", "run_directory", "title", "task"])
    given = path(rng, place, world.saved) if name == "run_directory" else pick(rng, ANYTHING)
    if name in usual:
        return name, given, lambda: Trainer(**(usual | {name: given}))
    arguments = {"agent": world.made(), "run_directory": place / "run"} | {name: given}
    return f"{name}|{re.escape(str(place))}", given, lambda: Trainer(**usual).fit(**arguments)


KINDS = {
    one.__name__: one for one in (make_agent, observe, predict, decide, learn, save, load, instrument, market, task)
}
KINDS |= {one.__name__: one for one in (environment, step, feature, gate, describing, trainer)}

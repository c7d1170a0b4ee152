"""Which columns of an environment's observations gate and experts see."""

from __future__ import annotations

from typing import Any, NoReturn

from gymnasium.wrappers import NormalizeObservation
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from moe_trader.gate_input import ObservationLayout
from moe_trader.gating import Gate
from moe_trader.option import ConfigError


def layout_of(env: VecEnv, gating: Gate, n_experts: int) -> ObservationLayout:
    """Return which columns of the observations of ``env`` the gate and each of so many experts see.

    One expert has no gate that could see anything for it, and sees what gate and experts would see together; so do the
    experts of a gate that reads regimes, not features.

    :raises ConfigError: when it is not there
    :raises ValueError: for a wrapper after which these columns are not known, or whose statistics no bundle would hold
    """
    _refuse_wrappers(env)
    gate_input, name = gating.gate_input(), type(gating).__name__
    n_columns = (env.observation_space.shape or ())[0]
    shows = {name: shown(env, name) for name in ("gate_columns", "gate_only", "gate_tail", "gate_input")}
    if shows["gate_columns"] is None:  # not ours: everything is the gate's to see, but it is of one bar
        if gating.compares_bars() or gate_input.of != "features":
            wants, way_out = f"reads {gate_input}", "choose another gate, such as gating=softmax,"
            if gate_input.of == "features":
                comparing = ",".join(f"~gating.losses.{key}" for key, one in gating.losses.items() if one.compares_bars)
                wants = "compares neighbouring bars (gating.losses)"
                way_out = f"take the loss away, '{comparing}',"
            raise ConfigError(
                f"gating: {name} {wants}, and this environment shows it one bar of features; {way_out} or use "
                "moe_trader's own environment"
            )
        return ObservationLayout(tuple(range(n_columns)), 1, tuple(range(n_columns)))
    tail = shows["gate_tail"] or 0
    hidden = set(shows["gate_only"] or ()) if n_experts > 1 and gate_input.of == "features" else set()
    experts = tuple(column for column in range(n_columns - tail) if column not in hidden)
    if not gate_input.beyond_the_window:
        return ObservationLayout(tuple(shows["gate_columns"]), 1, experts)
    if shows["gate_input"] != gate_input:
        raise ConfigError(
            f"gating: {name} reads {gate_input}, and this environment shows it {shows['gate_input']}; prepare the task "
            "for the gate: settings.env.prepare(gate_input=settings.gating.gate_input())"
        )
    return ObservationLayout(tuple(range(n_columns - tail, n_columns)), gate_input.rows, experts)


def check_layout(env: VecEnv, gating: Gate, n_experts: int, trained: ObservationLayout) -> None:
    """Refuse an environment that shows other columns than those of the training. :raises ValueError: naming both."""
    found = layout_of(env, gating, n_experts)
    if found != trained:
        raise ValueError(
            f"env: expected one that shows {trained}, as in training, got one that shows {found}; make it as "
            "moe_trader's own, with the env.features, env.gate_features, env.gate_only and env.window of the training"
        )


def _refuse_wrappers(env: VecEnv) -> None:
    inner = env
    while isinstance(inner, VecEnvWrapper):
        if isinstance(inner, VecNormalize) and inner.norm_obs:
            _refuse_statistics("VecNormalize", "use norm_obs=False (norm_reward may stay)")
        inner = inner.venv
    if any(env.env_is_wrapped(NormalizeObservation)):
        _refuse_statistics("NormalizeObservation", "remove it")
    observed, own = env.observation_space.shape, inner.observation_space.shape
    if shown(env, "gate_columns") is not None and observed != own:
        raise ValueError(
            f"a wrapper around the environment made observations of shape {observed} out of {own}: where the gate's "
            "columns went is not known; take it away"
        )


def _refuse_statistics(wrapper: str, way_out: str) -> NoReturn:
    raise ValueError(
        f"env: the running means of {wrapper} are not saved with the agent, which would act on other numbers once "
        f"loaded; {way_out}, or scale observations by constants in the environment"
    )


def shown(env: VecEnv, name: str) -> Any:
    """Return what an environment of ours says of its observations, also from within one of SB3's; others: ``None``."""
    return env.get_attr(name)[0] if env.has_attr(name) else None

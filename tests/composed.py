"""The settings of the real config: Hydra takes a tenth of a second to compose them, so each choice is composed once."""

import dataclasses
import functools

from moe_trader.config import compose, run_settings


@functools.cache
def settings_of(*overrides):
    """``settings_of("gating=top_k", ...)``: the real config with these overrides, as frozen ``RunSettings``."""
    return run_settings(compose(overrides))


def trainer_of(**changes):
    """``trainer_of(total_timesteps=512, n_envs=4)``: the real trainer with these settings."""
    return dataclasses.replace(settings_of().trainer, **changes)

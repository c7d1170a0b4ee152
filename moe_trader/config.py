"""Hydra at arm's length: where the config files are, and how a composed config becomes options.

Light on purpose: importing this module loads Hydra and OmegaConf, nothing heavier, so that ``--help`` is instant.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from moe_trader.settings import RunSettings


_READ_OVERRIDES = ("hydra._internal.config_loader_impl", "hydra.core.override_parser")


def config_directory() -> str:
    """Return the absolute folder of ``train.yaml``: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "conf", here.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"moe_trader's conf folder is in neither {here} nor {here.parent}; reinstall the package")


def to_plain(config: Any) -> dict[str, Any]:
    """Return a composed config as plain containers, interpolations resolved.

    A node may list under ``_aliases_`` settings that are short names for others of its own, which refer to them
    (``path: ${..path}``): these are left out, since nothing reads them by that name.

    Settings have today's names, see :func:`moe_trader.legacy.renamed`.

    :raises ConfigError: when an interpolation or a mandatory value (``???``) cannot be resolved
    """
    from omegaconf.errors import OmegaConfBaseException

    from moe_trader.legacy import renamed
    from moe_trader.option import ConfigError

    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None) or "config"
        reason = str(error).splitlines()[0]
        if "Missing mandatory value: " in reason:  # of the setting that an interpolation leads to
            where = reason.rpartition(": ")[2]
            reason = f"Missing mandatory value: {where}"
        raise ConfigError(f"{where}: {reason}; give it a value: {where}=...") from None
    plain = _settled(plain, "")
    assert isinstance(plain, dict)
    try:
        return renamed(plain)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _settled(node: Any, path: str) -> Any:
    """Return ``node`` without aliases, and refuse a mandatory value that nobody gave."""
    from moe_trader.option import ConfigError, join

    if isinstance(node, dict):
        dropped = {"_aliases_", *node.get("_aliases_", ())}
        return {key: _settled(value, join(path, str(key))) for key, value in node.items() if key not in dropped}
    if isinstance(node, list):
        return [_settled(value, f"{path}[{index}]") for index, value in enumerate(node)]
    if node == "???":
        raise ConfigError(f"{path}: Missing mandatory value: {path}; give it a value: {path}=...")
    return node


def load_config(path: Path) -> DictConfig:
    """Load a saved config, which anyone may have written.

    :raises ConfigError: when it is no mapping of plain values, or holds settings of Hydra itself
    """
    from omegaconf.errors import OmegaConfBaseException

    from moe_trader.option import ConfigError
    from moe_trader.plain_yaml import load_yaml

    try:
        plain = load_yaml(path)
        header = re.search(r"^\s*#\s*@.*", path.read_text(encoding="utf-8"), re.MULTILINE)
        if not isinstance(plain, dict):
            raise ValueError(f"{path}: expected a mapping, as moe-train saves it")
        found = [header[0].strip()] if header else [key for key in ("hydra", "defaults") if key in plain]
        if found:
            raise ValueError(
                f"{path}: `{found[0]}`: a saved config holds no instructions to Hydra, which could write files or "
                "import code; delete them, or restore the config of the run"
            )
        return OmegaConf.create(plain)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose ``conf/train.yaml`` with overrides, for notebooks: ``compose(["env=synthetic", "expert.count=2"])``.

    :raises HydraException: when Hydra refuses an override
    :raises ConfigError: when a value cannot be resolved, or ``overrides`` is not a list of texts
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from moe_trader.legacy import translated
    from moe_trader.option import ConfigError, shown

    if not (isinstance(overrides, list | tuple) and all(isinstance(one, str) for one in overrides)):
        raise ConfigError(f"overrides: expected a list of texts, such as ['seed=1'], got {shown(overrides)}")
    try:
        current = translated(overrides)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    with initialize_config_dir(version_base="1.3", config_dir=config_directory()), composing(overrides):
        return to_plain(hydra_compose("train", overrides=current))


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Turn any error that Hydra meets while it reads these overrides into the one that it prints as a line.

    Hydra refuses most mistakes in words, but for some (``env=null``, a name that is too long for a file, a number of
    thousands of digits) it raises an error of Python.
    """
    from hydra.errors import ConfigCompositionException, HydraException

    from moe_trader.option import shown

    try:
        yield
    except HydraException:
        raise
    except Exception as error:
        frames = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
        if not any(name.startswith(_READ_OVERRIDES) for name in frames):
            raise
        reason = str(error).partition("\n")[0][:200]
        raise ConfigCompositionException(
            f"Hydra cannot use these overrides ({type(error).__name__}{reason and f': {reason}'}): "
            f"{', '.join(map(shown, overrides))}. A group takes a name or a list of names, any other setting a value"
        ) from None


def run_settings(plain: Mapping[str, Any]) -> RunSettings:
    """Build every option of a run's config. Nothing is trained, and nothing is read but the config.

    :raises ConfigError: naming the path of the setting that cannot be used
    """
    from moe_trader.option import ConfigError, build_option, shown
    from moe_trader.settings import RunSettings

    if not isinstance(plain, Mapping):
        raise ConfigError(f"plain: expected a mapping, such as compose() returns, got {shown(plain)}")
    plugins = plain.get("plugins")
    node = {"_target_": "moe_trader.settings.RunSettings", **plain}
    return build_option(node, "", RunSettings, plugins if isinstance(plugins, list) else ())

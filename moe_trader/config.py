"""Hydra at arm's length: where the config files are, and how a composed config becomes options.

Light on purpose: importing this module loads Hydra and OmegaConf, nothing heavier, so that ``--help`` is instant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from moe_trader.settings import RunSettings


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

    :raises ConfigError: when an interpolation or a mandatory value (``???``) cannot be resolved
    """
    from omegaconf.errors import OmegaConfBaseException

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
    return {str(key): value for key, value in plain.items()}


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
    """Compose ``conf/train.yaml`` with overrides, for notebooks: ``compose(["env=synthetic", "expert.count=2"])``."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(version_base="1.3", config_dir=config_directory()):
        return to_plain(hydra_compose("train", overrides=list(overrides)))


def run_settings(plain: Mapping[str, Any]) -> RunSettings:
    """Build every option of a run's config. Nothing is trained, and nothing is read but the config.

    :raises ConfigError: naming the path of the setting that cannot be used
    """
    from moe_trader.option import build_option
    from moe_trader.settings import RunSettings

    plugins = plain.get("plugins")
    node = {"_target_": "moe_trader.settings.RunSettings", **plain}
    return build_option(node, "", RunSettings, plugins if isinstance(plugins, list) else ())

"""What the Hydra commands have in common: how they start, and how they refuse."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal import utils
from hydra._internal.utils import _run_hydra, get_args_parser, run_and_report
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

import moe_trader
from moe_trader import interrupt
from moe_trader.config import composing, config_directory
from moe_trader.interrupt import Terminated, listen
from moe_trader.legacy import translated
from moe_trader.option import ConfigError
from moe_trader.overrides import override
from moe_trader.run_directory import RunDirectories, claimed_job, release_sweeps
from moe_trader.saved_config import check_folder

log = logging.getLogger(__name__)

# Last among the overrides, so that no config undoes them. The job itself saves `.hydra`, once its directory is claimed.
_OWN_OVERRIDES = (
    "++hydra.output_subdir=null",
    f"++hydra.callbacks.run_directories={{_target_: {RunDirectories.__module__}.{RunDirectories.__name__}}}",
)


class Refusal(CompactHydraException):
    """A user's mistake: Hydra prints its message alone, without a traceback, and exits with status 1."""


@contextmanager
def run_directory(config: DictConfig, keep: bool = True) -> Iterator[Path]:
    """Give a Hydra job its run directory, turn mistakes into :class:`Refusal`, and log everything else that fails.

    :param keep: whether the directory is the run's for good once it began to train
    """
    from moe_trader.env import MarketError
    from moe_trader.env.lookahead import LookAheadError
    from moe_trader.finite import TrainingError

    try:
        with claimed_job(config, keep) as directory, _logged(directory):
            yield directory
    except (ConfigError, MarketError, LookAheadError, TrainingError) as error:
        raise Refusal(f"{type(error).__name__}: {error}") from None


@contextmanager
def _logged(directory: Path) -> Iterator[None]:
    """Log how a run ended, unless it came to its end; the log file is in its directory."""
    from moe_trader.env import MarketError
    from moe_trader.env.lookahead import LookAheadError
    from moe_trader.finite import TrainingError

    try:
        try:
            yield
        except Exception:
            interrupt.check()  # a signal within a compiled kernel comes out as an error of Python's
            raise
    except (ConfigError, MarketError, LookAheadError) as error:
        log.debug("Refused: %s", error)  # for the log file; Hydra prints it
        raise
    except TrainingError:
        log.debug("Training failed", exc_info=True)  # for the log file
        raise
    except KeyboardInterrupt:
        log.warning("Interrupted; partial results are in %s", directory)
        raise
    except Exception:
        log.exception("The run failed; partial results are in %s", directory)
        raise


def start(task: Callable[[DictConfig], None], config_name: str, arguments: Sequence[str]) -> None:
    """Run a job on command-line arguments, as ``@hydra.main`` would, but in no directory that is taken."""
    if list(arguments) == ["--version"]:  # Hydra's own would print Hydra's version
        print(f"moe_trader {moe_trader.__version__}")
        return
    version.setbase("1.3")
    parser = get_args_parser()
    given = parser.parse_args(list(arguments))
    if given.experimental_rerun:
        sys.exit("--experimental-rerun: it unpickles a file, which can run any code; use moe-train rerun RUN")
    try:
        for folder in (given.config_path, given.config_dir):
            check_folder(folder, given.config_name or config_name, given.overrides)
    except ConfigError as error:
        sys.exit(f"ConfigError: {error}")
    check_overrides(given.overrides)
    is_saved = any(".hydra" in str(folder) for folder in (given.config_path, given.config_dir))
    if not is_saved:  # a saved config has the names of its own version
        try:
            given.overrides = translated(given.overrides)
        except ValueError as error:
            sys.exit(f"ConfigError: {error}")
    overrides = list(given.overrides)
    if _runs(given):
        given.overrides += _OWN_OVERRIDES
    listen()
    try:
        with _reporting(overrides):
            _run_hydra(given, parser, task, config_directory(), config_name)
    except BrokenPipeError:  # `moe-train --help | head` is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Terminated:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as shells have it
    finally:
        release_sweeps()


@contextmanager
def _reporting(overrides: Sequence[str]) -> Iterator[None]:
    """Have Hydra report whatever goes wrong while it reads overrides in a line, as it reports most mistakes."""

    def report(func: Any) -> Any:
        def composed() -> Any:
            with composing(overrides):
                return func()

        return run_and_report(composed)

    utils.run_and_report = report
    try:
        yield
    finally:
        utils.run_and_report = run_and_report


def _runs(given: Namespace) -> bool:
    """Whether Hydra will start a job, rather than print something."""
    return not (given.help or given.hydra_help or given.cfg or given.info or given.shell_completion)


def check_overrides(arguments: Sequence[str]) -> None:
    """Exit where Hydra's grammar cannot read a value, with the same override in quotes that it can read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for word in arguments:
        path, equals, value = word.partition("=")
        if word.startswith("-") or not equals:
            continue
        try:
            parser.parse_override(word)
        except HydraException:
            inner = value.strip("[]").split(",")
            quoted = override(path, [one.strip() for one in inner] if value.startswith("[") else value)
            try:
                parser.parse_override(shlex.split(quoted)[0])
            except HydraException:
                continue  # it is not the value; Hydra says what it is
            sys.exit(f"{path}: {value} holds characters that need quotes; write {quoted}")

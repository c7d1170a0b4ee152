"""What the Hydra commands have in common: how they start, and how they refuse."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal import utils
from hydra._internal.utils import _run_hydra, get_args_parser, run_and_report
from hydra.errors import CompactHydraException, HydraException
from omegaconf import DictConfig, OmegaConf

import moe_trader
from moe_trader import interrupt
from moe_trader.config import composing, config_directory
from moe_trader.exhausted import explained
from moe_trader.exit_status import FAILED, parsed
from moe_trader.interrupt import exiting, listen
from moe_trader.legacy import translated
from moe_trader.option import ConfigError
from moe_trader.overrides import override
from moe_trader.run_directory import (
    RunDirectories,
    claimed_job,
    end_jobs,
    job_directory,
    release_sweeps,
    sweeps,
)
from moe_trader.run_files import holds_run
from moe_trader.saved_config import check_folder
from moe_trader.sweep import unfinished_lines

log = logging.getLogger(__name__)

# Last among the overrides, so that no config undoes them. The job itself saves `.hydra`, once its directory is claimed.
_OWN_OVERRIDES = (
    "++hydra.output_subdir=null",
    f"++hydra.callbacks.run_directories={{_target_: {RunDirectories.__module__}.{RunDirectories.__name__}}}",
)


class Refusal(CompactHydraException):
    """A user's mistake: Hydra prints its message alone, without a traceback, and exits with status 1."""


class Failure(Refusal):
    """A run that failed, through no mistake of the user's: printed as a line too, with exit status 2."""


def mistakes() -> tuple[type[Exception], ...]:
    """Return the errors that a user corrects."""
    from moe_trader.env import MarketError
    from moe_trader.env.lookahead import LookAheadError

    return (ConfigError, MarketError, LookAheadError)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a user's mistakes into :class:`Refusal`, and a training that diverged into :class:`Failure`."""
    from moe_trader.finite import TrainingError

    try:
        yield
    except mistakes() as error:
        raise Refusal(f"{type(error).__name__}: {error}") from None
    except TrainingError as error:
        raise Failure(f"{type(error).__name__}: {error}") from None


@contextmanager
def run_directory(config: DictConfig, keep: bool = True) -> Iterator[Path]:
    """Give a Hydra job its run directory, turn mistakes into :class:`Refusal`, and log everything else that fails.

    :param keep: whether the directory is the run's for good once it began to train
    """
    plugins = OmegaConf.select(config, "plugins", default=())
    with refusing(), claimed_job(config, keep) as directory, _logged(directory, plugins):
        yield directory


@contextmanager
def _logged(directory: Path, plugins: Sequence[str]) -> Iterator[None]:
    """Log how a run ended, unless it came to its end; the log file is in its directory.

    :raises Failure: where disk or memory were too small, or the directory is gone
    """
    from moe_trader.finite import TrainingError

    try:
        try:
            yield
        except Exception:
            interrupt.check()  # a signal within a compiled kernel comes out as an error of Python's
            raise
    except mistakes() as error:
        log.debug("Refused: %s", error)  # for the log file; Hydra prints it
        raise
    except (TrainingError, Failure):
        log.debug("Training failed", exc_info=True)  # for the log file
        raise
    except KeyboardInterrupt:
        log.warning("Interrupted. %s", way_on(directory, plugins))
        raise
    except Exception as error:
        if line := explained(error, directory, job_directory()[1]):
            log.debug("Failed", exc_info=True)  # for the log file
            raise Failure(f"{line}. {way_on(directory, plugins)}") from None
        log.exception("The run failed. %s", way_on(directory, plugins))
        raise


def way_on(directory: Path, plugins: Sequence[str]) -> str:
    """Return how to go on with a run that began to train."""
    if not holds_run(directory):
        return f"Nothing was trained in {directory}"
    return f"To go on: moe-train resume {shlex.quote(os.path.relpath(directory))}{naming(plugins)}"


def naming(plugins: Sequence[str]) -> str:
    """Return how a command names the packages that a run imports: nothing of a saved run is imported without."""
    return f" --plugins {','.join(plugins)}" if plugins else ""


def start(task: Callable[[DictConfig], None], config_name: str, arguments: Sequence[str]) -> None:
    """Run a job on command-line arguments, as ``@hydra.main`` would, but in no directory that is taken."""
    if list(arguments) == ["--version"]:  # Hydra's own would print Hydra's version
        print(f"moe_trader {moe_trader.__version__}")
        return
    version.setbase("1.3")
    parser = get_args_parser()
    given = parsed(parser, arguments)
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
    listen()
    interrupt.at_signal[:] = [end_jobs]
    try:
        _run(task, config_name, given, parser)
    except SystemExit as left:
        if left.code:
            for sweep in sweeps:
                for line in unfinished_lines(sweep.directory, sweep.jobs, arguments):
                    print(line, file=sys.stderr)
        raise
    finally:
        release_sweeps()


def _run(task: Callable[[DictConfig], None], config_name: str, given: Namespace, parser: ArgumentParser) -> None:
    """Have Hydra run the job, and exit with the status that says how it ended."""
    overrides, failures = list(given.overrides), list[Exception]()
    if _runs(given):
        given.overrides += _OWN_OVERRIDES
    try:
        with exiting(), _reporting(overrides, failures):
            _run_hydra(given, parser, task, config_directory(), config_name)
    except SystemExit as left:
        if left.code == 1 and failures:
            sys.exit(FAILED)
        raise
    except BrokenPipeError:  # `moe-train --help | head` is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _reporting(overrides: Sequence[str], failures: list[Exception]) -> Iterator[None]:
    """Have Hydra report whatever goes wrong while it reads overrides in a line, as it reports most mistakes.

    :param failures: gets the error of a run that failed through no mistake of the user's
    """

    def report(func: Any) -> Any:
        def composed() -> Any:
            try:
                with composing(overrides):
                    return func()
            except Exception as error:
                if isinstance(error, Failure) or not isinstance(error, HydraException):
                    failures.append(error)
                raise

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

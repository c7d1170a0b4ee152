"""What the Hydra commands have in common: how they start, and how they refuse."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException

import moe_trader
from moe_trader.overrides import override

log = logging.getLogger(__name__)


class Refusal(CompactHydraException):
    """A user's mistake: Hydra prints its message alone, without a traceback, and exits with status 1."""


@contextmanager
def run_directory() -> Iterator[Path]:
    """Give a Hydra job its run directory, turn mistakes into :class:`Refusal`, and log everything else that fails."""
    from moe_trader.env import MarketError
    from moe_trader.env.lookahead import LookAheadError
    from moe_trader.option import ConfigError

    directory = Path(HydraConfig.get().runtime.output_dir)
    try:
        yield directory
    except (ConfigError, MarketError, LookAheadError) as error:
        log.debug("Refused: %s", error)  # for the log file; Hydra prints it
        raise Refusal(f"{type(error).__name__}: {error}") from None
    except KeyboardInterrupt:
        log.warning("Stopped from outside; what there is of the run is in %s", directory)
        raise
    except Exception:
        log.exception("The run failed; what there is of it is in %s", directory)
        raise


def start(job: Callable[[], None], arguments: Sequence[str]) -> None:
    """Run a ``@hydra.main`` function on command-line arguments."""
    if list(arguments) == ["--version"]:  # Hydra's own would print Hydra's version
        print(f"moe_trader {moe_trader.__version__}")
        return
    check_overrides(arguments)
    sys.argv = [sys.argv[0], *arguments]
    signal.signal(signal.SIGTERM, _terminate)
    try:
        job()
    except BrokenPipeError:  # `moe-train --help | head` is no mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Terminated:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as shells have it


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


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers and containers stop a run: it saves what a Ctrl-C saves."""


def _terminate(*_: object) -> None:
    raise Terminated

"""Try to break moe_trader with random mistakes; each must be accepted, or refused in words.

    python benchmarks/fuzz.py                                       # every part: configs, bundles, api
    python benchmarks/fuzz.py --only bundles --runs 1000 --seed 0
    python benchmarks/fuzz.py --only bundles --seed 0 --case 17     # one case again, with its traceback

A case is made from the seed and its number alone. A *fault* is any other exception than those that mean a refusal, a
case of more than 20 s or 8 GB, a program started, a file opened for writing outside the case's own directory, or an
agent that is loaded but is not the one in the files. Another part is another function in ``PARTS``.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SECONDS, MEMORY = 20, 8 * 2**30  # of a case; memory beyond what Python holds before the first
STARTS_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.truncate", "shutil.rmtree")

Try = Callable[[], object]
Part = Callable[[Path], Callable[[np.random.Generator, Path], tuple[str, Try]]]
"""Takes a directory to prepare in; returns a function that makes a case: what was done, and what is then tried."""


class Hang(BaseException):
    """A case that takes too long; no ``except Exception`` may stop it."""


class Wrong(Exception):  # noqa: N818 - a finding
    """Something that was accepted, but not as it should be."""


class Refused(Exception):  # noqa: N818 - an outcome
    """An error of the Python API that names what was wrong."""


@dataclass
class Result:
    """How the cases of a part ended."""

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


class Watch:
    """Sees what a case writes and starts, by Python's audit events."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event.startswith(STARTS_PROGRAMS):
            self.seen.append(f"{event} {arguments!r:.200}")
        writes = event in WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & 3)
        if writes and isinstance(arguments[0], str | bytes | os.PathLike):
            path = Path(os.path.realpath(os.fsdecode(arguments[0])))
            if not path.is_relative_to(self.allowed) and "__pycache__" not in path.parts:
                self.seen.append(f"{event} {path}")


WATCH: list[Watch] = []  # audit hooks cannot be taken away: one for each process


@contextmanager
def limits(seconds: int, memory: int) -> Iterator[None]:
    """Raise :class:`Hang` and MemoryError beyond them."""

    def late(*_: object) -> None:
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refusing() -> tuple[type[Exception], ...]:
    """Return the errors that mean a refusal: commands print them in a line, without a traceback."""
    from hydra.errors import CompactHydraException

    from moe_trader.bundle import BundleError
    from moe_trader.env import MarketError
    from moe_trader.env.lookahead import LookAheadError
    from moe_trader.finite import TrainingError
    from moe_trader.option import ConfigError

    return BundleError, CompactHydraException, ConfigError, LookAheadError, MarketError, TrainingError, Refused


def run(part: Part, name: str, runs: range, seed: int, loud: bool = False) -> Result:
    """Try these cases of a part."""
    watch = WATCH[0] if WATCH else Watch()
    WATCH[:] = [watch]
    result, refusals = Result(), refusing()
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # numbers that overflow unnoticed
        warnings.filterwarnings("ignore", module="stable_baselines3")
        root = Path(made).resolve()
        make = part(root)
        for number in runs:
            place = root / "case"
            what, attempt = make(np.random.default_rng([seed, number]), place)
            began, problem = time.perf_counter(), ""
            watch.allowed, watch.seen = place, []
            try:
                with limits(SECONDS, MEMORY):
                    attempt()
                result.accepted += 1
            except refusals as error:
                result.refused += 1
                problem = "an empty message" if not str(error) else ""
                if loud:
                    print(f"{name} {number}: {what}\n  {type(error).__name__}: {error}")
            except (Exception, Hang) as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                problem = f"{type(error).__name__}: {error!s:.200} ({where.filename}:{where.lineno})"
                if loud:
                    traceback.print_exc()
            finally:
                watch.allowed = None
            took = time.perf_counter() - began
            if took >= SECONDS:  # also where some library swallowed the exception
                problem = f"took {took:.0f} s"
            result.slowest = max(result.slowest, took)
            if problem := "; ".join(filter(None, [problem, *watch.seen])):
                result.faults.append(f"{name} {number} (seed {seed}): {what}: {problem}")
            shutil.rmtree(place, ignore_errors=True)
    return result


def bundles(root: Path) -> Callable[[np.random.Generator, Path], tuple[str, Try]]:
    """Bundles and saved configs that were damaged or forged."""
    from fuzz_bundles import prepare

    return prepare(root)


def configs(root: Path) -> Callable[[np.random.Generator, Path], tuple[str, Try]]:
    """Random overrides of the config, composed, built and trained for a few steps."""
    from fuzz_configs import prepare

    return prepare(root)


def api(root: Path) -> Callable[[np.random.Generator, Path], tuple[str, Try]]:
    """Call the Python API with one wrong argument."""
    from fuzz_api import prepare

    return prepare(root)


PARTS: dict[str, tuple[Part, int]] = {"configs": (configs, 2_000), "bundles": (bundles, 1_000), "api": (api, 100)}
"""Name -> part, and how many cases are tried by default."""


def main() -> None:
    """Try the parts and print a table; exit status 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; by default all")
    parser.add_argument("--runs", type=int, help="cases of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="try this case alone, and print what comes of it")
    given = parser.parse_args()
    results = {}
    for name in given.only or PARTS:
        part, usual = PARTS[name]
        numbers = range(given.runs or usual) if given.case is None else range(given.case, given.case + 1)
        results[name] = (len(numbers), run(part, name, numbers, given.seed, loud=given.case is not None))
    for _, result in results.values():
        print("\n".join(result.faults))
    print(f"seed {given.seed}")
    print(f"{'part':<10}{'runs':>8}{'accepted':>10}{'refused':>10}{'faults':>8}{'slowest s':>11}")
    for name, (runs, one) in results.items():
        print(f"{name:<10}{runs:>8}{one.accepted:>10}{one.refused:>10}{len(one.faults):>8}{one.slowest:>11.2f}")
    sys.exit(any(one.faults for _, one in results.values()))


if __name__ == "__main__":
    import fuzz  # the module that the parts import: what they raise is of its classes

    fuzz.main()

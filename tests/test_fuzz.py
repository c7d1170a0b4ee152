"""The fuzzer finds each kind of fault, and finds none in a hundred cases of every part."""

from __future__ import annotations

import re
import subprocess
import time

import fuzz
import pytest

from moe_trader.bundle import BundleError
from moe_trader.option import ConfigError


def refuse(place):
    raise ConfigError("no")


def refuse_without_words(place):
    raise BundleError


def act_otherwise(place):
    raise fuzz.Wrong("the agent acts otherwise")


def hang_and_refuse(place):
    try:
        time.sleep(60)
    finally:  # as OmegaConf does
        raise ConfigError("no")


FAULTS = {
    "silent": (refuse_without_words, r": an empty message$"),
    "another exception": (lambda place: {}["x"], r": KeyError: 'x' \(.*test_fuzz\.py:\d+\)$"),
    "accepted wrongly": (act_otherwise, r": Wrong: the agent acts otherwise \("),
    "hanging": (lambda place: time.sleep(60), r": took 1 s$"),
    "hanging, and refusing at last": (hang_and_refuse, r": took 1 s$"),
    "memory": (lambda place: bytearray(2**40), r": MemoryError: "),
    "written outside": (lambda place: (place.parent / "other.txt").write_text("x"), r": open .*/other\.txt$"),
    "removed outside": (lambda place: (place.parent / "there.txt").unlink(), r": os\.remove .*/there\.txt$"),
    "a program": (lambda place: subprocess.run(["true"], check=True), r": subprocess\.Popen "),
}


def tried(attempt):
    """Return how one case that does this ends."""

    def part(root):
        (root / "there.txt").write_text("x")

        def make(rng, place):
            place.mkdir()
            return "a case", lambda: attempt(place)

        return make

    return fuzz.run(part, "own", range(3, 4), seed=7)


@pytest.mark.parametrize("kind", FAULTS)
def test_each_kind_of_fault_is_found(kind, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    attempt, fault = FAULTS[kind]
    (line,) = tried(attempt).faults
    assert line.startswith("own 3 (seed 7): a case: ")
    assert re.search(fault, line)


def test_what_is_accepted_or_refused_in_words_is_no_fault():
    accepted, refused = tried(lambda place: (place / "own.txt").write_text("x")), tried(refuse)
    assert (accepted.accepted, accepted.refused, accepted.faults) == (1, 0, [])
    assert (refused.accepted, refused.refused, refused.faults) == (0, 1, [])


@pytest.mark.parametrize("name", fuzz.PARTS)
def test_a_hundred_cases_have_no_fault(name):
    part, _ = fuzz.PARTS[name]
    result = fuzz.run(part, name, range(100), seed=0)
    assert result.faults == []
    assert min(result.accepted, result.refused) >= 5

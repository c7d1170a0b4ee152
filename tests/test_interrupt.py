"""A Ctrl-C or a SIGTERM ends a run even where Python swallows the exception that it raises."""

import os
import signal

import pytest

from moe_trader import interrupt


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    monkeypatch.setattr(interrupt, "_requested", None)


class Finaliser:
    """Python ignores what is raised in here, but for a line on stderr."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        for _ in range(1000):
            pass  # where the handler runs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, interrupt.Terminated), (signal.SIGINT, KeyboardInterrupt)], ids=str
)
def test_a_signal_that_a_finaliser_swallows_is_raised_at_the_next_step(number, raised):
    interrupt.listen()
    interrupt.check()
    one = Finaliser(number)
    del one
    with pytest.raises(raised) as found:
        interrupt.check()
    assert type(found.value) is raised


def test_a_signal_is_raised_at_once_elsewhere():
    interrupt.listen()
    with pytest.raises(interrupt.Terminated):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_ctrl_c_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupt.listen()
    os.kill(os.getpid(), signal.SIGINT)
    interrupt.check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

"""Exit statuses: 0 done, 1 a user's mistake, 2 failed, 3 other tables, 130 and 143 interrupted; see the README.

Those of a training that fails or is interrupted are in tests/test_crash.py.
"""

import contextlib
import errno
import logging
import re

import pytest

from moe_trader import data, evaluate, interrupt, train
from moe_trader.terminal import LogFile


@pytest.mark.parametrize("main", [train.main, evaluate.main, data.main], ids=["moe-train", "moe-evaluate", "moe-data"])
def test_a_command_line_that_cannot_be_read_is_a_users_mistake(main, capsys):
    with pytest.raises(SystemExit) as left:
        main(["--nonsense", "run"])
    assert left.value.code == 1
    assert "error: unrecognized arguments: --nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("main", [train.main, evaluate.main, data.main], ids=["moe-train", "moe-evaluate", "moe-data"])
def test_help_is_no_mistake(main, capsys):
    with contextlib.suppress(SystemExit):  # with 0, as of argparse: else it would have no text on stdout
        main(["--help"])
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (KeyboardInterrupt(), 130, ""),
        (interrupt.Terminated(), 143, ""),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "--output: no space left for {output} (No space left on"),
        (MemoryError(), 2, "out of memory; free some"),
        (
            OSError(errno.EACCES, "Permission denied", "bars.csv"),
            "moe-evaluate: [Errno 13] Permission denied: 'bars.csv'",
            "",
        ),
    ],
    ids=repr,
)
def test_an_evaluation_that_cannot_go_on_exits_with_the_status_of_its_reason(
    raised, status, line, finished_run, tmp_path, monkeypatch, capsys
):
    def fail(*arguments, **named):
        raise raised

    monkeypatch.setattr(evaluate, "evaluate_run", fail)
    with pytest.raises(SystemExit) as left:
        evaluate.main([str(finished_run), "--output", str(tmp_path / "again")])
    assert left.value.code == status
    assert capsys.readouterr().err.startswith(line.format(output=tmp_path / "again"))


def test_a_log_that_cannot_be_written_is_one_line(tmp_path, capsys):
    """A full disk or a removed directory is no traceback for every line."""
    for handler, place in (
        (LogFile(tmp_path / "gone" / "log", delay=True), tmp_path / "gone" / "log"),
        (LogFile("/dev/full"), "/dev/full"),
    ):
        for _ in range(2):
            handler.handle(logging.LogRecord("moe_trader", logging.INFO, "", 1, "a line", (), None))
        said = capsys.readouterr().err
        assert re.fullmatch(rf"{place}: cannot be written \(.*\); the log is incomplete there\n", said)
        with contextlib.suppress(OSError):
            handler.close()

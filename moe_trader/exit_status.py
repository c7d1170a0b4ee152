"""Exit statuses of the commands: 0 done, 1 a user's mistake, 2 failed, 130 and 143 interrupted; see the README."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

MISTAKE, FAILED = 1, 2


def parsed(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse a command line; exit with :data:`MISTAKE` where it cannot be read, for which argparse has 2."""
    try:
        return parser.parse_args(list(arguments))
    except SystemExit as left:
        sys.exit(MISTAKE if left.code == 2 else left.code)

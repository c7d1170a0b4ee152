"""``status.json``: which stages of a run are done, and the sha256 of each file that they left."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import moe_trader
from moe_trader.bundle import sha256
from moe_trader.durable import write_file
from moe_trader.option import ConfigError
from moe_trader.run_files import STATUS

FORMAT_VERSION = 1

log = logging.getLogger(__name__)


class StatusError(ConfigError):
    """A run of which nothing says how far it came; the message names the file and the way out."""


class Status:
    """How far the run in a directory came; every change is written at once.

    :raises StatusError: for a file that is damaged, or of another format version
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self._file = directory, directory / STATUS
        self.total_timesteps: int | None = None
        self.market_sha256: str | None = None
        self.extended_from: list[int] = []
        """Totals that the run had, and was extended from."""
        self.finished = False
        """Whether all stages are done; see :func:`moe_trader.run_files.is_finished`."""
        self._stages: dict[str, dict[str, str]] = {}
        if self._file.is_file():
            self._read()

    def check_total(self, total_timesteps: int) -> None:
        """Refuse fewer steps than the run has. :raises ConfigError: naming both."""
        if self.total_timesteps is not None and total_timesteps < self.total_timesteps:
            raise ConfigError(
                f"trainer.total_timesteps: {total_timesteps:,}, and the run in {self.directory} has "
                f"{self.total_timesteps:,}; give that number or more"
            )

    def check_market(self, market_sha256: str) -> None:
        """Refuse other prices. :raises ConfigError: with the way out."""
        if self.market_sha256 not in (None, market_sha256):
            raise ConfigError(
                f"env.market: the prices are not those of the run in {self.directory}; restore the data, or start a "
                f"new run: moe-train rerun {self.directory}"
            )

    def begin(self, total_timesteps: int, market_sha256: str) -> None:
        """Note what is trained on and for how many steps; more than before: the stages are to be done again.

        :raises ConfigError: for other prices than before, and for fewer steps
        """
        self.check_market(market_sha256)
        self.check_total(total_timesteps)
        self.market_sha256 = market_sha256
        if self.total_timesteps == total_timesteps:
            return
        if self.total_timesteps is not None:
            self.extended_from.append(self.total_timesteps)
            self._stages, self.finished = {}, False
        self.total_timesteps = total_timesteps
        self._write()

    def done(self, stage: str, files: Sequence[str]) -> None:
        """Note that a stage is done, with the files that it left."""
        self._stages[stage] = {name: sha256(self.directory / name) for name in files}
        self._write()

    def is_done(self, stage: str) -> bool:
        """Whether a stage is done, and its files are as it left them; else it is to be done again."""
        if stage not in self._stages:
            return False
        for name, digest in self._stages[stage].items():
            file = self.directory / name
            if not file.is_file() or sha256(file) != digest:
                log.warning("%s is missing or was altered: the stage is done again: %s", file, stage)
                return False
        return True

    def finish(self) -> None:
        """Note that all stages are done."""
        if not self.finished:
            self.finished = True
            self._write()

    def _write(self) -> None:
        content = {
            "format_version": FORMAT_VERSION,
            "moe_trader": moe_trader.__version__,
            "total_timesteps": self.total_timesteps,
            "market_sha256": self.market_sha256,
            "extended_from": self.extended_from,
            "finished": self.finished,
            "stages": self._stages,
        }
        write_file(self._file, json.dumps(content, indent=2) + "\n")

    def _read(self) -> None:
        try:
            content: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
            if content["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {content['format_version']}")
            self.total_timesteps, self.extended_from = content["total_timesteps"], content["extended_from"]
            self.market_sha256 = content["market_sha256"]
            self._stages, self.finished = content["stages"], content["finished"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StatusError(
                f"{self._file}: cannot be read ({error}); delete it to go on from the last checkpoints"
            ) from None

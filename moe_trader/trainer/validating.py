"""The callback through which training validates, and ends when patience is exhausted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from stable_baselines3.common.callbacks import BaseCallback

from moe_trader.trainer.validation import Validation

if TYPE_CHECKING:
    from moe_trader.trainer.progress import Learner


class Validating(BaseCallback):
    """Calls a :class:`Validation` after every update, and writes its curve where it grew.

    :param file: of the curve, ``validation.csv`` in the run directory
    """

    def __init__(self, validation: Validation, file: Path) -> None:
        super().__init__()
        self._validation, self._file = validation, file
        self._stop = False

    def _on_training_start(self) -> None:
        cast("Learner", self.model).update_listeners.append(self._after_update)

    def _on_step(self) -> bool:
        return not self._stop

    def close(self) -> None:
        """Stop listening."""
        listeners = cast("Learner", self.model).update_listeners if hasattr(self, "model") else []
        if self._after_update in listeners:
            listeners.remove(self._after_update)

    def _after_update(self) -> None:
        known = len(self._validation.curve)
        self._stop = self._validation.after_update(self.num_timesteps)
        if len(self._validation.curve) > known:
            self._validation.write_curve(self._file)

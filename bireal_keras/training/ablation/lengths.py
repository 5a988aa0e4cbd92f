"""How many epochs each network of a study is trained."""

import dataclasses
from typing import Any

from bireal_keras.training.ablation.cells import PRETRAINING


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How long a cell and each real-valued network before it are trained, in epochs.

    Attributes:
        epochs: of the cell; with an equal budget its pre-training is counted in.
        pretrain_epochs: of each real-valued network before it.
        is_equal: whether the budget is equal.
    """

    epochs: int
    pretrain_epochs: int
    is_equal: bool

    @classmethod
    def of(cls, description: dict[str, Any]) -> "Lengths":
        """Those of the study that a config.json describes."""
        return cls(
            description["recipe"]["epochs"],
            description["pretrain_epochs"],
            description.get("equal_budget", False),
        )

    def pretraining(self, start: str) -> int:
        """Epochs of all real-valued networks before a cell."""
        return len(PRETRAINING[start]) * self.pretrain_epochs

    def one_bit(self, start: str) -> int:
        """Epochs of a cell's 1-bit training; none or fewer where pre-training takes them all."""
        return self.epochs - self.pretraining(start) if self.is_equal else self.epochs

    def total(self, start: str) -> int:
        """Epochs of a cell, its pre-training counted."""
        return self.pretraining(start) + self.one_bit(start)

    def scaled(self, epochs: int) -> "Lengths":
        """The same in proportion, for cells of this many epochs."""
        share = epochs / self.epochs
        return dataclasses.replace(
            self, epochs=epochs, pretrain_epochs=max(1, round(share * self.pretrain_epochs))
        )

"""Several processes that measure one thing together. Imports no torch.

Work is dealt out in whole batches, and what comes back is added up, so that the sum is the same for any number of
processes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

_Item = TypeVar("_Item")


def spread(items: Sequence[_Item], limit: int | None) -> Sequence[_Item]:
    """At most ``limit`` items, evenly spaced, so that pictures in the order of places or classes show many of them."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]


def _alone(array: "np.ndarray") -> "np.ndarray":
    return array


@dataclass(frozen=True)
class Share:
    """One process's part of the work; by default all of it.

    Attributes:
        rank: Number of this process, from 0.
        world: How many processes there are.
        add_up: The sum of everybody's array, given to everybody; called by every process in the same order.
    """

    rank: int = 0
    world: int = 1
    add_up: "Callable[[np.ndarray], np.ndarray]" = _alone

    def batches(self, items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
        """Every ``world``-th batch of ``size`` items, beginning with this process's number."""
        for first in range(self.rank * size, len(items), self.world * size):
            yield items[first : first + size]

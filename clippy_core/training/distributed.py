"""The processes that train together: who they are, and what they tell each other besides gradients.

A process is one of several if its environment says so in torchrun's words (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``,
``MASTER_ADDR``, …); otherwise it is alone, and nothing here communicates.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from clippy_core import meeting

all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
"""Joins the same-sized tensors of all ranks; torch 2.14 gave the function another name."""


GO_ON = "--resume auto goes on from the last checkpoint"


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees it.

    Attributes:
        rank: Number of this process, from 0; 0 speaks and writes.
        size: How many there are.
        device: Where this one computes.
        group: For collectives on ``device``; None if there is one process only.
        side: For small values on the CPU that must not wait for the device; None if there is one process only.
    """

    rank: int
    size: int
    device: torch.device
    group: dist.ProcessGroup | None = None
    side: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def gather(self, values: list[float]) -> Tensor:
        """Everybody's ``values``, ``float64`` of shape (size, len(values)) in rank order, on the CPU.

        Raises:
            LostProcessError: Another process ended or does not answer in time.
        """
        mine = torch.tensor(values, dtype=torch.float64)
        if self.side is None:
            return mine[None]
        everybody = torch.empty(self.size * len(values), dtype=torch.float64)
        with watching():
            all_gather(everybody, mine, group=self.side)
        return everybody.view(self.size, len(values))

    def gather_objects(self, item: Any) -> list[Any]:
        """Everybody's ``item``, in rank order; for rare and small things."""
        if self.side is None:
            return [item]
        items: list[Any] = [None] * self.size
        with watching():
            dist.all_gather_object(items, item, group=self.side)
        return items

    def wait(self) -> None:
        """Return when every process has come here."""
        self.gather([0.0])


@contextmanager
def join(device: str, timeout: float) -> Iterator[World]:
    """Join the processes that the environment names, if it names any.

    Args:
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU if this process can have one.
        timeout: Seconds without an answer after which the others are taken to be gone.

    Raises:
        DeviceError: There is no GPU for this process.
        LostProcessError: The others did not come.
    """
    rank, size, local = (int(os.environ.get(name, fallback)) for name, fallback in _PLACES)
    where = _device(device, local)
    if "RANK" not in os.environ:
        yield World(0, 1, where)
        return
    patience = timedelta(seconds=timeout)
    backend, gpu = ("nccl", where) if where.type == "cuda" else ("gloo", None)
    with meeting.meeting(patience, backend=backend, device=gpu, hint=GO_ON):
        group = dist.group.WORLD
        with watching():
            side: Any = group if backend == "gloo" else dist.new_group(backend="gloo", timeout=patience)
        yield World(rank, size, where, group, side)


def watching() -> AbstractContextManager[None]:
    """As :func:`clippy_core.meeting.watching`, with what one can do about a training run."""
    return meeting.watching(GO_ON)


def _device(device: str, local_rank: int) -> torch.device:
    from clippy_core.model.device import place

    if device == "cpu":
        return torch.device("cpu")
    if device == "auto" and not torch.cuda.is_available():
        return place("auto", "fp32").device
    chosen = place(f"cuda:{local_rank}", "fp32").device
    torch.cuda.set_device(chosen)
    return chosen


_PLACES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))

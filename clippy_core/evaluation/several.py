"""Several processes on this machine that measure together: each finds its share in the environment.

They add up whole numbers on the CPU, whatever computes the features, so gloo serves everywhere.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from clippy_core.evaluation.share import Share
from clippy_core.launch import is_one_of_several
from clippy_core.meeting import meeting, watching

if TYPE_CHECKING:
    import numpy as np

PATIENCE = timedelta(hours=24)
"""How long one waits for the others; one that is lost ends its connections at once, so nobody waits for that."""


@contextmanager
def join() -> Iterator[Share]:
    """This process's share of the work: all of it, unless torchrun's variables say that it is one of several.

    Raises:
        LostProcessError: The others did not come, or one of them was lost.
    """
    if not is_one_of_several():
        yield Share()
        return
    with meeting(PATIENCE) as (rank, world):
        yield Share(rank, world, add_up)


def add_up(array: "np.ndarray") -> "np.ndarray":
    """The sum of everybody's array, in an array of its own.

    Raises:
        LostProcessError: Another process was lost.
    """
    import torch
    from torch import distributed as dist

    total = torch.from_numpy(array.copy())
    with watching():
        dist.all_reduce(total)
    return total.numpy()


def own_device(device: str) -> str:
    """The device of this process: of several on GPUs, each has one of its own."""
    if is_one_of_several() and device == "cuda":
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device

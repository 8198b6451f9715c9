"""Processes that were started together find one another, and notice when one of them is gone.

Torchrun's variables (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, …) say who this process is and where all meet.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from clippy_core.errors import DeviceError

if TYPE_CHECKING:
    import torch

THE_SAME_COMMAND = "the same command goes on"


class LostProcessError(DeviceError):
    """Another process of the run ended or does not answer."""


@contextmanager
def meeting(
    patience: timedelta,
    *,
    backend: str = "gloo",
    device: "torch.device | None" = None,
    hint: str = THE_SAME_COMMAND,
) -> Iterator[tuple[int, int]]:
    """This process's number and how many there are, while they are connected.

    Args:
        patience: How long one waits for another before it is taken to be gone.
        backend: What carries the messages, as torch names it.
        device: The GPU of this process, for NCCL.
        hint: What the user can do if the others do not come, for the message.

    Raises:
        LostProcessError: The others did not come.
    """
    from torch import distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with watching(hint):
        store, _, _ = next(rendezvous("env://", timeout=patience))
        # Processes that were started again must not take the addresses of those before them, which the store still has.
        store = PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=patience, device_id=device)
    try:
        yield rank, world
    finally:
        dist.destroy_process_group()


@contextmanager
def watching(hint: str = THE_SAME_COMMAND) -> Iterator[None]:
    """Say in our words that another process is gone, wherever a collective noticed it.

    Args:
        hint: What the user can do, for the message.

    Raises:
        LostProcessError: Instead of what torch raises; anything else passes.
    """
    from torch import distributed as dist

    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        # Gloo raises plain RuntimeError, known only by its words.
        if not isinstance(error, dist.DistError) and not re.search("gloo|process group|Connection", reason):
            raise
        raise LostProcessError(
            f"another process of this run ended or does not answer ({reason[:120]}…); {hint}"
        ) from error

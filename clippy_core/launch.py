"""Starting the processes of a run with torch's own elastic agent, the one behind torchrun.

Every process runs the same command again and finds its place in the environment. If one is lost, the agent ends the
others, so that nobody waits for an answer that never comes.
"""

import os
import signal
import sys
from collections.abc import Sequence

from clippy_core.errors import DeviceError

RUN = "clippy"
"""How the names begin that runs have among torch's agents."""
PATIENCE = 600
"""Seconds that processes have to finish their step and save after they were asked to stop."""


def is_one_of_several() -> bool:
    """Whether this process was started by an agent, ours or torchrun."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launched_as() -> tuple[int, int]:
    """How many processes a machine and how many machines the environment of such a process tells of."""
    world = int(os.environ["WORLD_SIZE"])
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    return here, max(1, world // here)


def is_leader() -> bool:
    """Whether this process is the one of its run that speaks."""
    return os.environ.get("RANK", "0") == "0"


def is_launched() -> bool:
    """Whether this process was started by :func:`launch`, by a process that says for all that they were interrupted."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(RUN)


def launch(
    arguments: Sequence[str],
    *,
    processes: int,
    nodes: int = 1,
    rendezvous: str | None = None,
    restarts: int = 0,
    hint: str,
) -> int:
    """Run ``python -m clippy_cli ARGUMENTS`` in several processes here, together with those of other machines.

    Args:
        arguments: The command line.
        processes: How many on this machine.
        nodes: How many machines; each runs the same command.
        rendezvous: ``HOST:PORT`` of one of them, where all meet; not needed for one machine.
        restarts: How often all processes are started again after one was lost.
        hint: What the user can do after one was lost, for the message.

    Returns:
        The exit code of the first process that failed, 0 if none did, or 128 + the number of the signal that ended
        this one.

    Raises:
        DeviceError: A process was lost.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _quiet()
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        run_id=RUN if rendezvous else f"{RUN}-{os.getpid()}",
        max_restarts=restarts,
        monitor_interval=0.5,
        shutdown_timeout=PATIENCE,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "clippy_cli", *arguments)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode  # that process has said why
        name = signal.Signals(-failure.exitcode).name
        cause = ", which the system sends when memory runs out" if name == "SIGKILL" else ""
        raise DeviceError(
            f"process {rank} of {processes * nodes} was lost ({name}{cause}); the others were ended; {hint}"
        ) from error
    return 0


def _quiet() -> None:
    """Failures are told in our words; the agent's own reports and tracebacks would bury them."""
    import logging

    for name in list(logging.root.manager.loggerDict):
        # Each of them has a level of its own, which goes before that of the loggers above it.
        if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher")):
            logging.getLogger(name).setLevel(logging.CRITICAL)

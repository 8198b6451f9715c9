"""Runs training in forked children as a JSON plan says; see the ``attempts`` fixture. Imports once, forks often."""

import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import torch

from clippy_core import events
from clippy_core.errors import ClippyError
from clippy_core.training import checkpoint, loop
from clippy_core.training.data.loader import Loader
from clippy_core.training.settings import resolve
from clippy_core.training.train import train


def main(plans):
    codes = []
    for plan in plans:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = plan.get("processes", 1)
        children = [fork(plan, rank, processes, port) for rank in range(processes)]
        codes.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    print(json.dumps(codes))


def fork(plan, rank, processes, port):
    child = os.fork()
    if child:
        return child
    try:
        code = run(plan, rank, processes, port)
    except ClippyError as error:
        print(f"rank {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 40
    except BaseException:
        traceback.print_exc()
        code = 41
    os._exit(code)


def run(plan, rank, processes, port):
    torch.set_num_threads(1)
    if processes > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
    config = resolve({}, plan["set"], {})
    record_samples(Path(config.run.out) / f"samples-{rank}.jsonl")
    if "poison" in plan:
        poison(rank, *plan["poison"])
    sink = killer(rank, *plan["kill"]) if "kill" in plan else events.ignore
    outcome = train(config, sink=sink, resume=plan.get("resume"), inexact=plan.get("inexact", False))
    return 128 + outcome.signal if outcome.signal else 0


def killer(rank, victim, step, when):
    """Ends this process from outside its own will; ``"save"`` does so when the weights are written, the rest not."""
    if when == "save" and rank == victim:
        save = checkpoint.save_directory

        def die(path, *arguments, **more):
            if checkpoint.TEMPORARY_PREFIX in path.name and current[0] >= step:
                save(path, *arguments, **{**more, "extra": None})
                os.kill(os.getpid(), signal.SIGKILL)
            return save(path, *arguments, **more)

        checkpoint.save_directory = die
    current = [0]
    finish = loop.Trainer._step

    def counted(self, *arguments):
        asked = finish(self, *arguments)
        current[0] = self.progress.step
        if rank == victim and self.progress.step == step and when != "save":
            os.kill(os.getpid(), signal.SIGKILL if when == "step" else getattr(signal, when))
        return asked

    loop.Trainer._step = counted
    return events.ignore


def poison(rank, victim, step, what):
    """Makes an embedding of one process not a number at a step."""
    forward = loop.TrainedPair.forward
    calls = [0]

    def poisoned(self, *arguments):
        found = forward(self, *arguments)
        calls[0] += 1
        if rank == victim and calls[0] == step:
            image = found.image_BD.clone()
            image[1] = float(what)
            return found._replace(image_BD=image)
        return found

    loop.TrainedPair.forward = poisoned


def record_samples(path):
    batches = Loader.batches

    def recorded(self, step):
        for number, parts in enumerate(batches(self, step), start=step + 1):
            with open(path, "a") as file:
                file.write(json.dumps([number, [key for part in parts for key in part.keys]]) + "\n")
            yield parts

    Loader.batches = recorded


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

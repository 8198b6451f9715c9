"""Measures in forked children as JSON plans say, one a line; see ``test_dense_evaluation.py``. Imports once.

A plan has a ``result`` (file for what the first process found), the number of ``processes``, ``out`` and ``options``;
with ``kill`` (seconds) all processes get SIGKILL so long after the first state was written, with ``kill_save`` (number)
the first process gets it while it writes its state for the so many-th time. The answer is a line with exit codes.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist

from clippy_core import files
from clippy_core.evaluation.benchmarks import BENCHMARKS, BenchmarkOptions
from clippy_core.evaluation.dense import evaluate
from clippy_core.evaluation.options import Calibration
from clippy_core.evaluation.share import Share
from clippy_core.model.device import place
from clippy_core.model.weights import load_directory
from clippy_core.segmentation.segmenter import Segmenter


def main(model, data):
    torch.set_num_threads(1)
    # Before it forks: with the model come libraries that take longer to import than a plan takes to run.
    segmenter = Segmenter(load_directory(model), place("cpu"))
    for line in sys.stdin:
        plan = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = [fork(segmenter, data, plan, rank, port) for rank in range(plan["processes"])]
        if "kill" in plan or "kill_save" in plan:
            end(children, plan)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def end(children, plan):
    folder, deadline = Path(plan["out"]) / "progress", time.monotonic() + 60
    if "kill" in plan:
        while time.monotonic() < deadline and not list(folder.glob("*.npz")):
            time.sleep(0.002)
        time.sleep(plan["kill"])
    else:
        os.waitid(os.P_PID, children[0], os.WEXITED | os.WNOWAIT)
    for child in children:
        os.kill(child, signal.SIGKILL)


def fork(segmenter, data, plan, rank, port):
    child = os.fork()
    if child:
        return child
    code = 41
    try:
        run(segmenter, data, plan, rank, port)
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def run(segmenter, data, plan, rank, port):
    evaluate.SAVE_EVERY = 2
    if rank == 0 and "kill_save" in plan:
        die_at(plan["kill_save"])
    world = plan["processes"]
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    heard = []

    def sink(event):
        heard.append(str(event))
        time.sleep(plan.get("pause", 0))

    options = plan.get("options", {})
    if "calibrate" in options:
        options = options | {"calibrate": Calibration(tuple(options["calibrate"]), share=0.25)}
    out = Path(plan["out"]) if "out" in plan else None
    wanted = BenchmarkOptions(share=Share(rank, world, add_up), sink=sink, out=out, **options)
    report = BENCHMARKS.load("folder")(segmenter, Path(data), wanted)
    if rank == 0:
        images = [{key: value for key, value in row.items() if key != "seconds"} for row in report.images]
        found = {"metrics": report.metrics, "confusion": report.confusion, "images": images, "heard": heard}
        Path(plan["result"]).write_text(json.dumps(found | {"measured": report.timing["pictures"]}))
    dist.destroy_process_group()


def add_up(array):
    total = torch.from_numpy(np.ascontiguousarray(array))
    dist.all_reduce(total)
    return total.numpy()


def die_at(number):
    replace, calls = files.os.replace, [0]

    def replace_or_die(source, target):
        if str(target).endswith(".npz"):
            calls[0] += 1
            if calls[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    files.os.replace = replace_or_die


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

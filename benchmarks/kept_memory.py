"""Does it pay to keep freed memory while training on the CPU? Whole training steps, in alternating processes.

    python benchmarks/kept_memory.py [--rounds 5] [--batch 64]

Each round runs both ways one after the other, each in a process of its own: forward and backward pass of an
EfficientNet-Lite2 at 256 × 256, three steps to warm up and three measured. Writes kept_memory.csv: the medians of
each way. What it saves is page faults, which are counted too.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

from surroundings import surroundings  # beside this file

STEP = """
import json, resource, sys, time
if sys.argv[1] == "kept":
    from clippy_core.training.memory import keep_freed_memory
    assert keep_freed_memory()
import timm, torch
model = timm.create_model("tf_efficientnet_lite2", num_classes=0)
pixels = torch.rand(int(sys.argv[2]), 3, 256, 256).contiguous(memory_format=torch.channels_last)
def step():
    model(pixels).square().mean().backward()
for _ in range(3):
    step()
faults, begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
for _ in range(3):
    step()
seconds = (time.perf_counter() - begin) / 3
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds, (usage.ru_minflt - faults) / 3, usage.ru_maxrss / 1024]))
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    found: dict[str, list[list[float]]] = {"usual": [], "kept": []}
    for _ in range(arguments.rounds):
        for way, results in found.items():
            command = [sys.executable, "-c", STEP, way, str(arguments.batch)]
            results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    with open(Path(__file__).with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        where = surroundings()
        writer.writerow(["memory", "batch", "seconds a step", "page faults a step", "peak MB", *where])
        for way, results in found.items():
            medians = [statistics.median(column) for column in zip(*results, strict=True)]
            writer.writerow(
                [way, arguments.batch, f"{medians[0]:.3f}", f"{medians[1]:.0f}", f"{medians[2]:.0f}", *where.values()]
            )
            print(way, medians)
    pairs = zip(found["usual"], found["kept"], strict=True)
    print("ratio of times, round by round:", [round(usual[0] / kept[0], 2) for usual, kept in pairs])


if __name__ == "__main__":
    main()

"""Time and memory of the contrastive losses, side by side: plain PyTorch and in tiles, forward and backward.

    python benchmarks/loss.py                          the whole table, to loss.csv beside this file
    python benchmarks/loss.py --batches 1024 4096      other batches
    python benchmarks/loss.py --table                  print the table of docs/loss.md from the CSV

Methods, in float32, on unit vectors of 768 channels, one process:

    plain    the whole similarity matrix, ``cross_entropy`` twice or ``logsigmoid``, autograd (``reference_losses``)
    tiled    ``contrastive_loss`` with its default tile

Times: both methods by turns in one process, so that whatever else the machine does meets both; medians. ``ratio`` is
the median of the ratios of neighbouring calls, ``cpu_ratio`` the same of processor time, which other programs disturb
less. Memory: one call in a process of its own, the rise of its peak over what it took before the embeddings were made;
so embeddings and their gradients are included. On a GPU: the allocator's peak. What would need more than
``--largest-gb`` is recorded as skipped.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from surroundings import surroundings

HERE = Path(__file__).resolve()
BATCHES = (256, 1024, 2048, 4096, 8192, 16384, 32768)
KINDS = ("infonce", "siglip")
METHODS = ("plain", "tiled")
DIMENSION = 768
LARGE = 16384
"""From this batch on, where a call takes long, one call may be enough, without another to warm up."""
PLAIN_MATRICES = 6
"""Matrices of batch x batch values that the plain methods hold at their peak, roughly."""
COLUMNS = (  # noqa: SIM905 - reads better as a line
    "kind batch dimension threads method median_s fastest_s cpu_s ratio cpu_ratio repeats peak_mb note "
    "device dtype commit python torch"
).split()


@dataclass
class Case:
    """One combination to measure: the time of several methods, or the memory of one."""

    kind: str
    batch: int
    methods: tuple[str, ...]
    threads: int
    device: str
    memory: bool = False
    seconds: float = 20.0


def run_case(case: Case) -> dict[str, dict[str, Any]]:
    """Measure in this process; a row a method."""
    import torch

    torch.set_num_threads(case.threads)
    _call(case, 64)()  # libraries load at the first call
    before = _start_of_peak(case.device)
    call = _call(case, case.batch)
    if not case.memory and case.batch < LARGE:
        call(case.methods[0])
    walls, cpus = ({method: [] for method in case.methods} for _ in range(2))
    begin = time.perf_counter()
    while True:
        for method in case.methods:
            wall, cpu = time.perf_counter(), time.process_time()
            call(method)
            walls[method].append(time.perf_counter() - wall)
            cpus[method].append(time.process_time() - cpu)
        repeats = len(walls[case.methods[0]])
        enough = repeats >= 3 or case.batch >= LARGE
        if case.memory or repeats >= 50 or (enough and time.perf_counter() - begin > case.seconds):
            break
    rows = {}
    for method in case.methods:
        rows[method] = {
            "median_s": round(statistics.median(walls[method]), 4),
            "fastest_s": round(min(walls[method]), 4),
            "cpu_s": round(statistics.median(cpus[method]), 4),
            "repeats": repeats,
        }
        if case.memory:
            rows[method]["peak_mb"] = round((_peak(case.device) - before) / 1e6, 1)
        elif "plain" in case.methods:
            for name, times in (("ratio", walls), ("cpu_ratio", cpus)):
                each = [a / b for a, b in zip(times[method], times["plain"], strict=True)]
                rows[method][name] = round(statistics.median(each), 3)
    return rows


def _call(case: Case, batch: int) -> Callable[..., None]:
    """A forward and a backward pass of a method."""
    import torch
    from torch.nn.functional import normalize

    from clippy_core.training.losses import contrastive_loss
    from clippy_core.training.reference_losses import infonce_reference, siglip_reference

    random = torch.Generator().manual_seed(0)
    image = torch.randn(batch, DIMENSION, generator=random).to(case.device)
    text = torch.randn(batch, DIMENSION, generator=random).to(case.device)
    image, text = normalize(image, dim=1).requires_grad_(), normalize(text, dim=1).requires_grad_()
    scale, bias = (torch.tensor(x, device=case.device, requires_grad=True) for x in (20.0, -10.0))

    def call(method: str = "tiled") -> None:
        image.grad = text.grad = None
        if method == "tiled":
            loss = contrastive_loss(image, text, scale, kind=case.kind, bias=bias)
        elif case.kind == "siglip":
            loss = siglip_reference(image, text, scale, bias)
        else:
            loss = infonce_reference(image, text, scale)
        loss.backward()
        if case.device != "cpu":
            torch.cuda.synchronize()

    return call


def _start_of_peak(device: str) -> float:
    """Bytes now, from where the peak is counted."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak(device: str) -> float:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024.0 * int(line.split()[1])
    return float("nan")


def in_child(case: Case) -> dict[str, dict[str, Any]]:
    """Run one case in a process of its own."""
    environment = dict(os.environ) | {"OMP_WAIT_POLICY": "PASSIVE"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(case.threads))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, str(HERE), "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {method: {"note": f"failed: {reason}"} for method in case.methods}
    return json.loads(done.stdout.splitlines()[-1])


def measure(kind: str, batch: int, threads: int, device: str, largest: float) -> dict[str, dict[str, Any]]:
    """Time and memory of both methods, or of the one that fits."""
    need = PLAIN_MATRICES * 4.0 * batch**2
    methods = METHODS if need <= largest else ("tiled",)
    rows = {method: in_child(Case(kind, batch, (method,), threads, device, memory=True))[method] for method in methods}
    if len(methods) > 1:
        for method, row in in_child(Case(kind, batch, methods, threads, device)).items():
            rows[method] |= row
    else:
        rows["plain"] = {"note": f"skipped: needs about {need / 1e9:.0f} GB"}
    return rows


def run(arguments: argparse.Namespace) -> None:
    """Measure every case and write the CSV, row by row."""
    import torch

    with open(arguments.out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
            around = {"dtype": "float32", **surroundings(device)}
            for batch in arguments.batches:
                for kind in KINDS:
                    rows = measure(kind, batch, arguments.threads, device, 1e9 * arguments.largest_gb)
                    shape = {"kind": kind, "batch": batch, "dimension": DIMENSION, "threads": arguments.threads}
                    for method in METHODS:
                        line = {**shape, "method": method, **rows[method], **around}
                        writer.writerow([line.get(column, "") for column in COLUMNS])
                    file.flush()
                    print(kind, batch, rows, file=sys.stderr, flush=True)


def table(path: Path) -> None:
    """Print the CSV as Markdown."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    by_case = {(row["device"], row["kind"], int(row["batch"]), row["method"]): row for row in rows}
    for device, kind in dict.fromkeys(key[:2] for key in by_case):
        threads = next(row["threads"] for row in rows if row["device"] == device)
        print(f"\n`{kind}`, {device}, {threads} threads\n")
        print("| batch | plain, s | tiled, s | ratio | plain, CPU s | tiled, CPU s | ratio | plain, MB | tiled, MB |")
        print("|---|---|---|---|---|---|---|---|---|")
        for batch in dict.fromkeys(key[2] for key in by_case if key[:2] == (device, kind)):
            plain, tiled = (by_case[device, kind, batch, method] for method in METHODS)
            shown = [plain["median_s"], tiled["median_s"], tiled["ratio"]]
            shown += [plain["cpu_s"], tiled["cpu_s"], tiled["cpu_ratio"], plain["peak_mb"], tiled["peak_mb"]]
            print(
                f"| {batch:,} |",
                " | ".join(f"{float(x):.3g}" if x and float(x) < 1000 else x or "–" for x in shown),
                "|",
            )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".csv"), help="CSV file (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="pairs in a batch")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--largest-gb", type=float, default=12.0, help="leave out what needs more (default: %(default)s)"
    )
    parser.add_argument("--table", action="store_true", help="print the CSV as Markdown and measure nothing")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run_case(Case(**json.loads(arguments.case)))))
    elif arguments.table:
        table(arguments.out)
    else:
        run(arguments)


if __name__ == "__main__":
    main()

"""Memory while a checkpoint is converted to a model directory, against the size of the file.

    python benchmarks/convert_memory.py                        every kind of file, to convert_memory.csv beside it
    python benchmarks/convert_memory.py --kinds pickle --json  one kind, as JSON on stdout, and no CSV

The checkpoint has the layout and the size of the published one (``clippy_5k.pt``: ViT-B/16, T5-base encoder, dense
layer) and random weights. It is written by one process and converted by another, which reads it as
``clippy models pull`` and ``--checkpoint`` do and writes the model directory. ``factor`` is (peak - baseline) / size of
the file: the peak is the largest resident set from the first byte read to the last one written, pages of the mapped
file included; the baseline is the resident set after imports. Linux only, because that is where the kernel tells the
peak of a part of a process.

Kinds of files:

    pickle       torch.save as it is today, a zip archive, float32 throughout
    training     the same in a wrapper {"state_dict": {"module.…"}, "epoch", "optimizer"} with an optimiser's state
    legacy       torch.save as before torch 1.6, which cannot be mapped
    safetensors  the same tensors
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from surroundings import surroundings

HERE = Path(__file__).resolve()
MODEL = "clippy-B-16"
KINDS = ("pickle", "training", "legacy", "safetensors")


def main() -> int:
    """Measure every kind in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--json", action="store_true", help="print the rows instead of writing the CSV")
    parser.add_argument("--write", nargs=2, metavar=("KIND", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--convert", nargs=2, metavar=("FILE", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write[0], Path(options.write[1]))
    elif options.convert:
        json.dump(convert(*map(Path, options.convert)), sys.stdout)
    else:
        rows = [measure(kind) for kind in options.kinds]
        if options.json:
            json.dump(rows, sys.stdout)
        else:
            save(rows)
    return 0


def measure(kind: str) -> dict[str, Any]:
    """Write, convert, forget."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("checkpoint.safetensors" if kind == "safetensors" else "checkpoint.pt")
        _run("--write", kind, str(file))
        found = json.loads(_run("--convert", str(file), str(Path(folder) / "model")))
        size = file.stat().st_size
    factor = (found["peak_bytes"] - found["baseline_bytes"]) / size
    return {
        "kind": kind,
        "file_mb": round(size / 1e6, 1),
        "baseline_mb": round(found["baseline_bytes"] / 1e6, 1),
        "peak_mb": round(found["peak_bytes"] / 1e6, 1),
        "factor": round(factor, 3),
        "seconds": found["seconds"],
    }


def write(kind: str, file: Path) -> None:
    """A checkpoint in the published layout with random weights, and a tokenizer beside it."""
    import torch
    from safetensors.torch import save_file

    from clippy_core.model.convert import LAYOUTS
    from clippy_core.model.dual_encoder import DualEncoder
    from clippy_core.model.presets import BUNDLED, get_preset
    from clippy_core.model.weights import tied_names

    torch.manual_seed(0)
    model = DualEncoder(get_preset(MODEL).config)
    tied = tied_names(model)
    ours = {new: old for old, new in LAYOUTS["published"].items()}
    state = {}
    for key, tensor in model.state_dict().items():
        prefix = next(prefix for prefix in ours if key.startswith(prefix))
        if key not in tied:
            state[ours[prefix] + key.removeprefix(prefix)] = tensor
    (file.parent / "tokenizer.json").write_bytes((BUNDLED / "clippy-lite" / "tokenizer.json").read_bytes())
    if kind == "safetensors":
        save_file(state, file)
    elif kind == "training":
        moments = {index: {"exp_avg": torch.randn_like(tensor)} for index, tensor in enumerate(state.values())}
        wrapped = {f"module.{key}": tensor for key, tensor in state.items()}
        torch.save({"epoch": 5, "state_dict": wrapped, "optimizer": {"state": moments, "lr": 0.1}}, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind != "legacy")


def convert(file: Path, folder: Path) -> dict[str, Any]:
    """What ``clippy models pull`` does with a file that has arrived, and the memory that takes."""
    from clippy_core.model.card import model_card
    from clippy_core.model.convert import load_checkpoint
    from clippy_core.model.presets import get_preset
    from clippy_core.model.weights import build, save_directory

    build(get_preset("clippy-lite").config)  # so that what is imported late counts as imported
    baseline = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    start = time.perf_counter()
    loaded = load_checkpoint(MODEL, file)
    save_directory(folder, loaded.model, loaded.tokenizer.path.read_bytes(), model_card(loaded.model.config))
    seconds = round(time.perf_counter() - start, 1)
    return {"baseline_bytes": baseline, "peak_bytes": resident("VmHWM"), "seconds": seconds}


def resident(what: str) -> int:
    """This process's resident set, now (``VmRSS``) or at its peak (``VmHWM``), in bytes."""
    found = re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit(f"this kernel does not tell {what}")
    return int(found[1]) * 1024


def save(rows: list[dict[str, Any]]) -> None:
    """The rows as CSV, with what they were measured on."""
    about = {"dtype": "float32", **surroundings()}
    with open(HERE.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(row | about)
            print(row)


def _run(*args: str) -> str:
    return subprocess.run([sys.executable, str(HERE), *args], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory of label maps, side by side: every way of getting from patch features to a label per pixel.

    python benchmarks/label_map.py                          the whole table, to label_map.csv beside this file
    python benchmarks/label_map.py --photos photo.jpg       other photographs than docs/photographs/castle.jpg
    python benchmarks/label_map.py --features real.npz      your own features: arrays features_PD, labels_KD, grid
    python benchmarks/label_map.py --table                  print the table of docs/label-maps.md from the CSV

Methods, all from the same features P (patches x D) and label embeddings T (labels x D), all in float32:

    product            P·Tᵀ alone: what every method but (a) starts with
    write floor        writing one int32 per pixel and nothing else
    (a) features       upsample the D feature channels to pixels, then multiply
    (b) logits         product, F.interpolate of the labels x h x w logits, arg-max
    (b') channels last the same on a channels-last view, torch's fast path
    numpy              product, then the label map of this package; with scores or margins where the name says so
    numpy, map only    the same without the product
    triton, torch      the GPU implementations, where there is a GPU

Each case runs in a process of its own, and its memory in another one, whose allocator returns everything it frees:
``extra_mb`` is the rise of the peak over what features and embeddings already took, logits and label map included.
A case that would need more than 12 GB or 90 seconds is recorded as skipped, with the reason.

Features: ``castle-256`` and the like are a photograph through the bundled model at that working size, with words of its
own tokenizer as labels; ``scene`` is a synthetic picture of six regions; ``noise`` is pure noise, the worst case for
pruning and like no picture.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from surroundings import surroundings

HERE = Path(__file__).resolve()
PHOTO = HERE.parents[1] / "docs" / "photographs" / "castle.jpg"
WORKING_SIZES = (256, 448)
SIZES = (224, 512, 1024, 2048)
LABELS = (2, 21, 150, 847, 5000)
GRID = 28
DIMENSION = 768
LARGEST_BYTES = 12e9
LONGEST_SECONDS = 90.0
LONGEST_FOR_MEMORY = 8.0
BASELINES = ("(a) features", "(b) logits", "(b') channels last")


@dataclass
class Case:
    """One combination to measure; ``features`` is ``scene``, ``noise`` or a file for ``load_case``."""

    features: str
    labels: int
    size: int
    threads: int
    device: str = "cpu"
    memory: bool = False
    methods: list[str] = field(default_factory=list)


def load_case(path: str | Path) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Real features: ``features_PD``, ``labels_KD`` and ``grid`` (rows, columns) from an .npz file."""
    with np.load(path) as arrays:
        rows, columns = (int(n) for n in arrays["grid"])
        return arrays["features_PD"].astype(np.float32), arrays["labels_KD"].astype(np.float32), (rows, columns)


def photo_case(photo: Path, working_size: int, out: Path) -> Path:
    """Save a photograph's features and 5,000 words' embeddings by the bundled model, for ``load_case``."""
    from clippy_core import load
    from clippy_core.images import to_picture
    from clippy_core.model.presets import find
    from clippy_core.segmentation.options import SegmentOptions

    segmenter = load("clippy-lite", device="cpu", precision="fp32", runtime="torch")
    tokenizer = json.loads((Path(find("clippy-lite")) / "tokenizer.json").read_text(encoding="utf-8"))
    rank = tokenizer["model"]["vocab"]
    words = [word for word in sorted(rank, key=rank.get) if word.isascii() and word.isalpha() and len(word) > 3]
    labels_KD = segmenter.embed_words(words[: max(LABELS)], ("a photo of a {}.",))
    features_PD, grid = segmenter.encode(to_picture(photo).pixels_HW3, SegmentOptions(size=working_size))
    path = out / f"{photo.stem}-{working_size}.npz"
    np.savez(path, features_PD=features_PD.numpy(), labels_KD=labels_KD.numpy(), grid=np.array(grid))
    return path


def make_case(
    kind: str, labels: int, grid: int = GRID, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Synthetic features: a scene of a few regions with soft borders and noise, or pure noise (the worst case).

    As in a trained model, label embeddings share a common direction, and patches resemble their neighbours.
    """
    rng = np.random.default_rng(seed)
    if kind == "noise":
        features_PD = _unit(rng.standard_normal((grid * grid, DIMENSION)))
        return features_PD, _unit(rng.standard_normal((labels, DIMENSION))), (grid, grid)
    common = _unit(rng.standard_normal(DIMENSION))
    labels_KD = _unit(common + 1.2 * _unit(rng.standard_normal((labels, DIMENSION))))
    regions = 6
    named = labels_KD[rng.integers(0, labels, regions)]
    regions_RD = _unit(named + 1.5 * _unit(rng.standard_normal((regions, DIMENSION))))
    place = (np.arange(grid) + 0.5) / grid
    centre_R2 = rng.random((regions, 2))
    distance_hwR = np.hypot(place[:, None, None] - centre_R2[:, 0], place[:, None] - centre_R2[:, 1])
    share_hwR = np.exp(-distance_hwR / 0.05)
    share_hwR /= share_hwR.sum(-1, keepdims=True)
    noise_hwD = rng.standard_normal((grid + 2, grid + 2, DIMENSION))
    around = noise_hwD[:-2, 1:-1] + noise_hwD[2:, 1:-1] + noise_hwD[1:-1, :-2] + noise_hwD[1:-1, 2:]
    smooth_hwD = _unit(2 * noise_hwD[1:-1, 1:-1] + around)
    features_hwD = share_hwR @ regions_RD + 0.55 * smooth_hwD
    return _unit(features_hwD.reshape(grid * grid, DIMENSION)), labels_KD, (grid, grid)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def need(method: str, case: Case, dimension: int) -> tuple[float, float]:
    """Rough bytes and seconds of the baselines, to leave out what does not fit."""
    pixels, giga = case.size**2, 1e9
    if method == "(a) features":
        values = pixels * (dimension + case.labels)
        return 4.0 * values, (80 * pixels * dimension + 25 * pixels * case.labels) / giga
    if method in ("(b) logits", "(b') channels last"):
        return 4.0 * pixels * case.labels, 10 * pixels * case.labels / giga
    return 0.0, 0.0


def build(case: Case) -> tuple[dict[str, Callable[[], Any]], tuple[int, int], int]:
    """The methods as functions without arguments; also the patch grid and the embedding's dimension."""
    import torch
    from torch.nn.functional import interpolate

    from clippy_core.kernels import label_map, patch_logits

    torch.set_num_threads(case.threads)
    synthetic = case.features in ("scene", "noise")
    made = make_case(case.features, case.labels) if synthetic else load_case(case.features)
    features_PD, labels_KD, (h, w) = made
    features_PD = torch.from_numpy(features_PD).to(case.device)
    labels_KD = torch.from_numpy(labels_KD[: case.labels]).contiguous().to(case.device)
    size = (case.size, case.size)
    K, D = labels_KD.shape

    def product() -> torch.Tensor:
        return patch_logits(features_PD, labels_KD, (h, w))

    def features_first() -> torch.Tensor:
        features_1Dhw = features_PD.T.reshape(1, D, h, w)
        features_DN = interpolate(features_1Dhw, size=size, mode="bilinear").reshape(D, -1)
        return (labels_KD @ features_DN).reshape(K, *size).argmax(0)

    def logits_first() -> torch.Tensor:
        logits_1Khw = (labels_KD @ features_PD.T).reshape(1, K, h, w)
        return interpolate(logits_1Khw, size=size, mode="bilinear")[0].argmax(0)

    def channels_last() -> torch.Tensor:
        logits_1Khw = product().reshape(1, h, w, K).permute(0, 3, 1, 2)
        return interpolate(logits_1Khw, size=size, mode="bilinear")[0].argmax(0)

    def ours(implementation: str, **wanted: bool) -> torch.Tensor:
        return label_map(product(), size, implementation=implementation, images_ahead=1000, **wanted).labels_HW

    ready_hwK = product()
    methods: dict[str, Callable[[], Any]] = {
        "product": product,
        "write floor": lambda: torch.full(size, 1, dtype=torch.int32, device=case.device),
    }
    for name in ("numpy",) if case.device == "cpu" else ("triton", "torch"):
        methods[name] = lambda name=name: ours(name)
        methods[f"{name}, map only"] = lambda name=name: label_map(ready_hwK, size, implementation=name)
        methods[f"{name} with scores"] = lambda name=name: ours(name, scores=True)
        methods[f"{name} with margins"] = lambda name=name: ours(name, margins=True)
    methods |= dict(zip(BASELINES, (features_first, logits_first, channels_last), strict=True))
    return methods, (h, w), D


def run_case(case: Case) -> list[dict[str, Any]]:
    """Measure one case in this process."""
    import torch

    methods, grid, dimension = build(case)
    known = {"rows": grid[0], "columns": grid[1], "dimension": dimension}
    rows, labels_HW = [], None
    for name in case.methods:
        row: dict[str, Any] = {"method": name, **known}
        rows.append(row)
        size, seconds = need(name, case, dimension)
        if size > LARGEST_BYTES:
            row["note"] = f"skipped: needs about {size / 1e9:.0f} GB"
        elif case.memory and seconds > LONGEST_FOR_MEMORY and case.device == "cpu":
            pass
        elif seconds > LONGEST_SECONDS and case.device == "cpu":
            row["note"] = f"skipped: needs about {seconds:.0f} s"
        elif case.memory:
            row["extra_mb"] = round(_extra_memory(methods[name], case.device) / 1e6, 1)
        else:
            times, result = _time(methods[name], case.device)
            row |= {"median_ms": round(1e3 * statistics.median(times), 4), "fastest_ms": round(1e3 * min(times), 4)}
            row["repeats"] = len(times)
            if name in ("numpy", "triton", "torch"):
                labels_HW = result
            elif name in BASELINES and labels_HW is not None:
                row["pixels_that_differ"] = int((result != labels_HW).sum())
            if case.device != "cpu":
                torch.cuda.empty_cache()
    return rows


def _time(method: Callable[[], Any], device: str) -> tuple[list[float], Any]:
    """Seconds per call, after one call to warm up: at least 3 calls and a third of a second, at most 200 calls."""
    import torch

    def once() -> tuple[float, Any]:
        begin = time.perf_counter()
        result = method()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - begin, result

    warm, result = once()
    if warm > 5:
        return [warm], result
    times = []
    while len(times) < 3 or (sum(times) < 0.35 and len(times) < 200):
        del result
        seconds, result = once()
        times.append(seconds)
    return times, result


def _extra_memory(method: Callable[[], Any], device: str) -> float:
    """Bytes by which one call raises the peak of this process, or of the GPU's allocator."""
    if device != "cpu":
        import torch

        method()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        method()
        return torch.cuda.max_memory_allocated() - before
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    result = method()
    peak = _status("VmHWM")
    del result
    return peak - before


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024.0 * int(line.split()[1])
    return float("nan")


def in_child(case: Case) -> list[dict[str, Any]]:
    """Run one case in a process of its own."""
    threads = str(case.threads)
    environment = dict(os.environ)
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    if case.memory:
        environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, str(HERE), "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return [{"method": name, "note": f"failed: {reason}"} for name in case.methods]
    return json.loads(done.stdout.splitlines()[-1])


COLUMNS = (  # noqa: SIM905 - reads better as a line
    "features rows columns dimension labels height width threads method median_ms fastest_ms repeats extra_mb "
    "pixels_that_differ note device dtype commit python numpy torch triton"
).split()


def run(arguments: argparse.Namespace) -> None:
    """Measure every case and write the CSV, row by row."""
    import torch

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with tempfile.TemporaryDirectory() as folder, open(arguments.out, "w", newline="") as file:
        kinds = [str(path) for path in arguments.features]
        if not kinds:
            photos = [photo_case(photo, size, Path(folder)) for photo in arguments.photos for size in WORKING_SIZES]
            kinds = [*map(str, photos), "scene", "noise"]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for device in devices:
            around = {"dtype": "float32", **surroundings(device, "numpy", "triton")}
            for case in cases(arguments, kinds, device):
                measured = in_child(case)
                case.memory = True
                memory = {row["method"]: row.get("extra_mb", "") for row in in_child(case)}
                for row in measured:
                    plain = {"features": Path(case.features).stem, "labels": case.labels, "threads": case.threads}
                    extra = {"extra_mb": memory.get(row["method"], "") if "median_ms" in row else ""}
                    line = {**plain, "height": case.size, "width": case.size, **row, **extra, **around}
                    writer.writerow([line.get(column, "") for column in COLUMNS])
                file.flush()
                shown = {row["method"]: row.get("median_ms", row.get("note")) for row in measured}
                print(
                    Path(case.features).stem, case.labels, case.size, case.threads, shown, file=sys.stderr, flush=True
                )


def cases(arguments: argparse.Namespace, kinds: list[str], device: str) -> list[Case]:
    """The combinations: the first features on every number of threads, the others on one; no baselines for noise."""
    found = []
    for kind in kinds:
        count = max(arguments.labels) if kind in ("scene", "noise") else len(load_case(kind)[1])
        ours = ["numpy"] if device == "cpu" else ["triton", "torch"]
        methods = ["product", "write floor", *(name + end for name in ours for end in ("", ", map only"))]
        methods += [f"{ours[0]} with scores", f"{ours[0]} with margins"]
        threads_of_kind = arguments.threads if kind == kinds[0] and device == "cpu" else arguments.threads[:1]
        for threads in threads_of_kind:
            # The features-first order takes up to a minute a call, whatever the values: twice is enough.
            slow = kind in (kinds[0], "scene") and threads == arguments.threads[0]
            others = () if kind == "noise" else BASELINES if slow else BASELINES[1:]
            for labels in arguments.labels:
                if labels > count:
                    print(f"{kind} holds {count} labels: {labels} left out", file=sys.stderr)
                    continue
                for size in arguments.sizes:
                    found.append(Case(kind, labels, size, threads, device, methods=[*methods, *others]))
    return found


def table(path: Path) -> None:
    """Print the CSV as Markdown: milliseconds, product included, and memory; then the promises."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    cell = {}
    for row in rows:
        grid = f"{row['rows']} × {row['columns']} × {row['dimension']}"
        key = (row["device"], row["features"], grid, row["threads"], int(row["height"]), int(row["labels"]))
        cell.setdefault(key, {})[row["method"]] = row
    for device, features, grid, threads in dict.fromkeys(key[:4] for key in cell):
        mine = "triton" if any("triton" in cell[key] for key in cell if key[0] == device) else "numpy"
        columns = [*BASELINES, mine, "product", f"{mine} with scores", f"{mine} with margins", "write floor"]
        print(f"\n{device}, {features}, patches {grid}, {threads} thread(s), milliseconds\n")
        print("| output | labels |", " | ".join(columns), "| faster than (b) | extra MB |")
        print("|" + "---|" * (len(columns) + 4))
        for key in cell:
            if key[:4] != (device, features, grid, threads):
                continue
            found = cell[key]
            shown = [_milliseconds(found.get(name)) for name in columns]
            b, own = found.get("(b) logits"), found[mine]
            ratio = f"{float(b['median_ms']) / float(own['median_ms']):.0f}×" if b and b["median_ms"] else ""
            print(f"| {key[4]}² | {key[5]} |", " | ".join(shown), f"| {ratio} | {own['extra_mb']} |")


def _milliseconds(row: dict[str, str] | None) -> str:
    if row is None:
        return ""
    if not row["median_ms"]:
        return "–"
    value = float(row["median_ms"])
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    features = "`.npz` files with features_PD, labels_KD and grid, in place of photographs and synthetic ones"
    parser.add_argument("--features", type=Path, nargs="+", default=(), help=features)
    parser.add_argument("--photos", type=Path, nargs="+", default=(PHOTO,), help="photographs for the bundled model")
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".csv"), help="CSV file (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="output sides in pixels")
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS, help="numbers of labels")
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2), help="CPU threads")
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

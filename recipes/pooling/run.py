"""The paper's pooling ablation in small: max, mean and CLS pooling on shapes, from nothing, same budget, several seeds.

    python recipes/pooling/run.py                    trains, measures, writes docs/pooling.md and its pictures
    python recipes/pooling/run.py --jobs 4           four runs at a time
    python recipes/pooling/run.py --only-write       table and curves from runs that are there

Every run is ``clippy train --model clippy-micro --pool POOL --seed SEED`` on one thread, with the preset's own recipe;
run again after an interruption, it goes on. Measured is by ``clippy eval shapes`` on 1,000 held-out scenes. Needs
matplotlib (``pip install ".[dev]"``).

Source: *Perceptual Grouping in Contrastive Vision-Language Models*, table of pooling on CC-12M.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BEGIN, END = "<!-- written by recipes/pooling/run.py: begin -->", "<!-- written by recipes/pooling/run.py: end -->"
POOLS = ("max", "mean", "cls")
COLUMNS = {
    "mIoU": "mIoU",
    "mIoU of things": "mIoU, things",
    "mIoU of stuff": "mIoU, stuff",
    "JS": "JS",
    "top-1 of things": "top-1, things",
    "image to text R@1": "R@1",
}
COLOURS = {"max": "#0072B2", "mean": "#D55E00", "cls": "#009E73"}
PAPER = {"max": "42.3 / 50.8 / 47.5", "mean": "44.0 / 11.6 / 38.1", "cls": "46.0 / 4.0 / 40.4"}


def train_and_measure(runs: Path, pool: str, seed: int) -> dict[str, Any]:
    """One run, from wherever it was; returns its row of the table."""
    name = f"{pool}-{seed}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "clippy_cli"]
    settings = ["--gpus", "0", "--workers", "0", "--pool", pool, "--seed", str(seed), "--set", "run.keep=1"]
    train = ["train", "shapes", "--model", "clippy-micro", "--name", name, "--out", str(runs), "--resume", "auto"]
    with open(runs / f"{name}.log", "ab") as log:
        subprocess.run([*command, *train, *settings], env=environment, cwd=ROOT, check=True, stdout=log, stderr=log)
        measured = runs / name / "eval"
        measure = ["eval", "shapes", "--model", str(runs / name / "model"), "--out", str(measured)]
        subprocess.run([*command, *measure], env=environment, cwd=ROOT, check=True, stdout=log, stderr=log)
    metrics = json.loads((measured / "eval.json").read_text())["metrics"]
    steps = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
    minutes = sum(step["seconds"] for step in steps) / 60
    figures = {key: round(100 * metrics[key], 2) for key in COLUMNS}
    return {"pool": pool, "seed": seed, "steps": len(steps), "minutes": round(minutes, 1), **figures}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean and standard deviation over seeds, in percent."""
    lines = ["| pooling | " + " | ".join(COLUMNS.values()) + " | paper: ImageNet / VOC mIoU / VOC JS |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for pool in POOLS:
        own = [row for row in rows if row["pool"] == pool]
        cells = []
        for key in COLUMNS:
            values = [float(row[key]) for row in own]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.1f} ± {spread:.1f}")
        lines.append(f"| {pool} | " + " | ".join(cells) + f" | {PAPER[pool]} |")
    minutes = [float(row["minutes"]) for row in rows]
    lines.append("")
    lines.append(
        f"{len({row['seed'] for row in rows})} seeds, {int(rows[0]['steps']):,} steps each, {min(minutes):.1f} to "
        f"{max(minutes):.1f} minutes a run on one core; percent, mean ± standard deviation over seeds; chance is 6.2 "
        "for top-1 and 0.1 for R@1 (1,000 scenes)."
    )
    return "\n".join(lines)


def draw_curves(runs: Path, rows: list[dict[str, Any]], path: Path) -> None:
    """Validation while training, a line a run."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = {"shapes/mIoU of things": "mIoU of things", "shapes/mIoU": "mIoU", "shapes/JS": "JS"}
    figure, axes = plt.subplots(1, len(shown), figsize=(11, 3.2), constrained_layout=True)
    for axis, (key, title) in zip(axes, shown.items(), strict=True):
        for row in rows:
            lines = (runs / f"{row['pool']}-{row['seed']}" / "validation.jsonl").read_text().splitlines()
            records = [json.loads(line) for line in lines]
            label = row["pool"] if row["seed"] == rows[0]["seed"] else None
            steps, values = [r["step"] for r in records], [100 * r[key] for r in records]
            axis.plot(steps, values, color=COLOURS[row["pool"]], label=label, linewidth=1.4, alpha=0.9)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("percent")
    axes[-1].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train what is not trained, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, a thread each")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "pooling")
    parser.add_argument("--only-write", action="store_true")
    given = parser.parse_args()
    results = DOCS / "pooling.csv"
    if not given.only_write:
        given.runs.mkdir(parents=True, exist_ok=True)
        jobs = [(pool, seed) for seed in given.seeds for pool in POOLS]
        with ThreadPoolExecutor(given.jobs) as threads:
            rows = list(threads.map(lambda job: train_and_measure(given.runs, *job), jobs))
        with open(results, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    with open(results, newline="") as file:
        rows = list(csv.DictReader(file))
    page = DOCS / "pooling.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    draw_curves(given.runs, rows, DOCS / "pictures" / "pooling.png")


if __name__ == "__main__":
    main()

"""Two models on the same hand-labelled points: is one better, beyond chance, and in which group?

    python recipes/clippy-lite/compare.py BEFORE AFTER --photographs DIR

DIR is what fetch_photos.py wrote, with points.json in it. For each candidate set and group: points right before and
after, the exact two-sided sign test on points where they differ (McNemar), and a 95 % interval of the difference from
resampling whole photographs, since points of one photograph are not independent.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from measure import SETS, kind_of  # beside this file

from clippy_core.evaluation.benchmarks import BenchmarkOptions, points
from clippy_core.segmentation.segmenter import load

RESAMPLES = 10_000


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--photographs", type=Path, required=True)
    arguments = parser.parse_args()
    before, after = (
        list(points.outcomes(load(model, runtime="torch"), arguments.photographs, BenchmarkOptions()))
        for model in (arguments.before, arguments.after)
    )
    print("| words | group | points | before | after | difference, 95 % interval | sign test |")
    print("|---|---|---|---|---|---|---|")
    for name in SETS:
        for group in ("all", "thing", "stuff", "person"):
            pairs = [
                (one.photograph, one.predicted == one.label, two.predicted == two.label)
                for one, two in zip(before, after, strict=True)
                if one.candidates == name and group in ("all", kind_of(one.label))
            ]
            words = "4" if name == SETS[0] else "12"
            print(f"| {words} | {group} | {row(pairs)} |")


def row(pairs: list[tuple[str, bool, bool]]) -> str:
    """The cells of one line."""
    right = np.array([pair[1:] for pair in pairs], float)
    low, high = interval(pairs)
    won, lost = (sum(pair[1:] == which for pair in pairs) for which in ((False, True), (True, False)))
    before, after = right.mean(0)
    difference = f"{after - before:+.1%} ({low:+.1%} to {high:+.1%})".replace("%", " %")
    return (
        f"{len(pairs)} | {before:.1%} | {after:.1%}".replace("%", " %")
        + f" | {difference} | {sign_test(won, lost):.2g}"
    )


def interval(pairs: list[tuple[str, bool, bool]]) -> tuple[float, float]:
    """Of the difference in the share of right points, photographs resampled."""
    names = sorted({pair[0] for pair in pairs})
    sums_N2 = np.array(
        [
            [sum(after - before for one, before, after in pairs if one == name), sum(pair[0] == name for pair in pairs)]
            for name in names
        ],
        float,
    )
    drawn_RN = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    sums_R2 = sums_N2[drawn_RN].sum(1)
    low, high = np.percentile(sums_R2[:, 0] / sums_R2[:, 1], [2.5, 97.5])
    return float(low), float(high)


def sign_test(won: int, lost: int) -> float:
    """Probability of a split at least as uneven by chance alone."""
    total, fewer = won + lost, min(won, lost)
    return min(1.0, 2 * sum(math.comb(total, count) for count in range(fewer + 1)) / 2**total)


if __name__ == "__main__":
    main()

"""How good a model is: hand-labelled points on photographs, by kind of thing, and what became of ImageNet's words."""

from pathlib import Path

from start import LAST_CHANNELS, Start  # beside this file
from vocabulary_drift import drift

from clippy_core.evaluation.benchmarks import BenchmarkOptions, points
from clippy_core.evaluation.metrics import wilson_interval
from clippy_core.segmentation.segmenter import Segmenter

PEOPLE = {"person"}
STUFF = {
    *(
        "sky",
        "tree",
        "grass",
        "wall",
        "building",
        "floor",
        "ground",
        "rock",
        "snow",
        "mountain",
        "road",
        "sea",
        "river",
    ),
    *("sand", "water", "path", "wood", "concrete", "bush", "pavement", "curtain", "counter"),
}
SETS = ("candidates", "candidates_12")


def measure(segmenter: Segmenter, photographs: Path) -> dict[str, str]:
    """Figures on the hand-labelled points, as they stand in the model card."""
    results = list(points.outcomes(segmenter, photographs, BenchmarkOptions()))
    lines = {name: line([result for result in results if result.candidates == name]) for name in SETS}
    four = [result for result in results if result.candidates == SETS[0]]
    share, share_12 = (lines[name].split(" | ")[0] for name in SETS)
    kinds = []
    for kind in ("thing", "stuff", "person"):
        by_set = [
            line([result for result in results if result.candidates == name and kind_of(result.label) == kind])
            for name in SETS
        ]
        count = sum(kind_of(result.label) == kind for result in four)
        kinds.append(f"| {kind} | {count} | {' | '.join(text.split(' | ')[0] for text in by_set)} |")
    return {
        "quality": f"{share} of {len(four)} hand-labelled points right with 4 words, {share_12} with 12",
        "table": f"| 4 | 25 % | {lines[SETS[0]]} |\n| 12 | 8 % | {lines[SETS[1]]} |",
        "kinds": "\n".join(kinds),
    }


def vocabulary(segmenter: Segmenter, start: Start) -> dict[str, str]:
    """How many of the 1000 ImageNet names still point to the classifier's own direction for them first."""
    names = [synonyms[0] for synonyms in start.names]
    found = drift(segmenter.embed_words(names, ("{}",)), start.directions_KD[:, :LAST_CHANNELS], names)
    return {f"names {key}": f"{found[key]:.1%}".replace("%", " %") for key in ("top-1", "top-5")}


def line(results: list[points.Outcome]) -> str:
    """Share right and its confidence interval, as two cells of a table."""
    right = sum(result.predicted == result.label for result in results)
    low, high = wilson_interval(right, len(results))
    return f"{right / len(results):.0%} | {low:.0%} – {high:.0%}".replace("%", " %")


def kind_of(label: str) -> str:
    """Whether a word of points.json is stuff, a person or a thing."""
    return "person" if label in PEOPLE else "stuff" if label in STUFF else "thing"

"""Write docs/gallery: ten photographs with what clippy-lite makes of them, chosen before anything was looked at.

python recipes/clippy-lite/gallery.py --photographs DIR
"""

import argparse
import json
from pathlib import Path

from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.segmenter import load

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "docs/gallery"
CHOSEN = (
    "gcompris-arles",
    "gcompris-cow",
    "gcompris-crab",
    "gcompris-mont-st-michel",
    "gcompris-pan",
    "gcompris-spoonbills",
    "lomiri-picosdeeuropa",
    "palapeli-bridge",
    "skimage-astronaut",
    "skimage-coffee",
)
"""One of each kind of scene among those whose licence lets us show them; the words are the four of points.json."""
WIDTH = 720


def main() -> None:
    """Segment and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    photographs: Path = parser.parse_args().photographs
    listed = {entry["id"]: entry for entry in json.loads((HERE / "points.json").read_text())["photographs"]}
    segmenter = load("clippy-lite")
    OUT.mkdir(parents=True, exist_ok=True)
    for name in CHOSEN:
        entry = listed[name]
        if not entry["redistributable"]:
            raise SystemExit(f"{name}: its licence does not let us show it")
        found = segmenter.segment(next(photographs.glob(f"{name}.*")), entry["candidates"])
        overlay = found.overlay()
        overlay.thumbnail((WIDTH, WIDTH))
        overlay.save(OUT / f"{name}.jpg", quality=85)
        right = sum(_label_at(found, point["x"], point["y"]) == point["label"] for point in entry["points"])
        score = f"{right} of {len(entry['points'])}"
        print(" | ".join([name, ", ".join(entry["candidates"]), score, entry["licence"], entry["credit"]]))


def _label_at(found: Segmentation, x: float, y: float) -> str:
    row, column = min(int(y * found.height), found.height - 1), min(int(x * found.width), found.width - 1)
    return found.labels[int(found.label_map[row, column])]


if __name__ == "__main__":
    main()

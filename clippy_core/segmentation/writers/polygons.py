"""Outlines as GeoJSON."""

from pathlib import Path
from typing import Any

from clippy_core.files import to_json, write_bytes
from clippy_core.segmentation.result import LabelSummary, Segmentation
from clippy_core.segmentation.writers import with_suffix
from clippy_core.segmentation.writers.outlines import Region, Ring, find_regions


def write_polygons(result: Segmentation, stem: Path) -> list[Path]:
    """``.geojson``: a ``FeatureCollection`` with one ``MultiPolygon`` a label that has a pixel, holes included.

    Coordinates are pixel corners, x to the right and y down (see :mod:`clippy_core.segmentation.writers.outlines`):
    filling the polygons gives the label map back exactly. Outlines turn as RFC 7946 wants it: positive area outside,
    negative for holes. Members ``image``, ``width`` and ``height`` say what the coordinates refer to. The background
    has no outline.
    """
    labels = outlined(result)
    regions = find_regions(result.label_map, [label.index for label in labels])
    head = {"type": "FeatureCollection", "image": result.source, "width": result.width, "height": result.height}
    lines = [to_json(_feature(label, regions[label.index])).rstrip() for label in labels]
    path = with_suffix(stem, ".geojson")
    start = to_json(head).rstrip()[:-1] + b', "features": ['
    write_bytes(path, start + b"".join([b"\n" + b",\n".join(lines) if lines else b"", b"]}\n"]))
    return [path]


def outlined(result: Segmentation) -> list[LabelSummary]:
    """The labels that get an outline: all that have a pixel, but not the background."""
    return [label for label in result.summary()[1 if result.has_background else 0 :] if label.pixels]


def _feature(label: LabelSummary, regions: list[Region]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "properties": {
            "index": label.index,
            "name": label.name,
            "pixels": label.pixels,
            "fraction": round(label.fraction, 6),
            "score": round(label.score, 5),
        },
        "geometry": {
            "type": "MultiPolygon",
            "coordinates": [[_closed(ring) for ring in [region.outer, *region.holes]] for region in regions],
        },
    }


def _closed(ring: Ring) -> Ring:
    return [*ring, ring[0]]

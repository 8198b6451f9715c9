"""``clippy eval --procs``: two real processes."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SMALL = ["--size", "64"]
DATA = 4
FOLDER = ["eval", "folder", "--data", "meadows"]

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def meadows(draw: Draw) -> Path:
    """Four pictures of a meadow under a sky, with masks and, as one object each, the meadow."""
    for number in range(4):
        draw(Path(f"meadows/images/{number}.png"))
        mask_HW = np.zeros((80, 120), np.uint8)
        mask_HW[40:] = 1
        for kind in ("masks", "instances"):
            Path(f"meadows/{kind}").mkdir(exist_ok=True)
            Image.fromarray(mask_HW).save(f"meadows/{kind}/{number}.png")
    Path("meadows/labels.txt").write_text("sky\ngrass|lawn\n")
    return Path("meadows")


def test_two_processes_count_as_one_does(clippy: Any, process: Any, meadows: Path) -> None:
    one = clippy(*FOLDER, "--json", "--out", "one", "--device", "cpu", *SMALL)
    two = process(*FOLDER, "--json", "--out", "two", "--procs", "2", *SMALL)
    assert (one.code, two.code) == (0, 0), one.err + two.err
    alone, together = json.loads(one.out), json.loads(two.out)
    for part in ("metrics", "rows", "confusion", "protocol"):
        assert alone[part] == together[part]
    assert two.err.count("wrote two/eval.json") == 1


def test_what_is_wrong_for_all_processes_is_said_once(process: Any, meadows: Path) -> None:
    (meadows / "masks/0.png").write_bytes(b"no picture")
    (meadows / "masks/1.png").write_bytes(b"no picture")
    done = process(*FOLDER, "--procs", "2", *SMALL)
    assert (done.code, done.out) == (DATA, "")
    assert re.fullmatch(r"error: meadows/masks/0.png: .*\n", done.err)

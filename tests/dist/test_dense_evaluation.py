"""Several processes find what one finds, and a run that was killed comes to the counts of one that was not."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PICTURES = 19
BOTH = {"metric": "both"}
LABELS = ("background|under", "red circle", "photo", "square", "green")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of small pictures with masks and objects, of several sizes, with ignored pixels."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for index in range(PICTURES):
        size = (int(rng.integers(30, 60)), int(rng.integers(30, 60)))
        mask_HW = np.kron(rng.integers(0, len(LABELS), (3, 3)), np.ones((20, 20), int))[: size[0], : size[1]]
        objects_HW = np.where(mask_HW > 0, mask_HW, 0)
        mask_HW[0] = 255
        pixels_HW3 = rng.integers(0, 256, (*size, 3)) // 2 + mask_HW[..., None] // 5 * 40
        for kind, values in (("images", pixels_HW3), ("masks", mask_HW), ("instances", objects_HW)):
            path = folder / kind / f"p{index:02}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)
    (folder / "labels.txt").write_text("\n".join(LABELS))
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory, data, tiny_directory, clippy_environment):
    """A process that has everything imported and takes plans."""
    program, folder = str(Path(__file__).with_name("evaluation_driver.py")), tmp_path_factory.mktemp("driver")
    with (folder / "stderr.txt").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, program, str(tiny_directory), str(data)],
            env=clippy_environment | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        with process:
            yield process
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0, (folder / "stderr.txt").read_text()


@pytest.fixture
def measure(driver, tmp_path):
    """Run plans one after the other; gives exit codes, and what the last found."""

    def run(*plans):
        codes = []
        for plan in plans:
            driver.stdin.write(json.dumps({"result": str(tmp_path / "found.json"), **plan}) + "\n")
            driver.stdin.flush()
            codes.append(json.loads(driver.stdout.readline()))
        assert codes[-1] == [0] * plans[-1]["processes"]
        return codes, json.loads((tmp_path / "found.json").read_text())

    return run


@pytest.fixture(scope="module")
def expected(driver, tmp_path_factory):
    """What one process finds that nothing ends."""
    result = tmp_path_factory.mktemp("expected") / "found.json"
    driver.stdin.write(json.dumps({"result": str(result), "processes": 1, "options": BOTH}) + "\n")
    driver.stdin.flush()
    assert json.loads(driver.stdout.readline()) == [0]
    return json.loads(result.read_text())


def counts(found):
    """All figures, without what was heard and how many pictures were measured now."""
    return {name: found[name] for name in ("metrics", "confusion", "images")}


def test_two_processes_are_one(measure, expected, tmp_path):
    assert len(expected["images"]) == expected["measured"] == expected["metrics"]["pictures"] == PICTURES
    assert np.sum(expected["confusion"]) > 10_000
    assert expected["metrics"]["objects"] > PICTURES
    for processes in (2, 3):
        _, found = measure({"processes": processes, "options": BOTH, "out": str(tmp_path / f"out{processes}")})
        assert counts(found) == counts(expected)
        assert found["measured"] == PICTURES
    limited = BOTH | {"limit": 7, "calibrate": [-0.5, 0.0, 0.5]}
    _, alone = measure({"processes": 1, "options": limited})
    _, found = measure({"processes": 2, "options": limited})
    assert counts(found) == counts(alone)
    assert len(alone["images"]) == 5


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_comes_to_the_same_counts(measure, expected, tmp_path, seed):
    rng, out = random.Random(seed), str(tmp_path / "out")
    killed = [
        {"processes": processes, "options": BOTH, "out": out, "kill": rng.uniform(0, 0.06), "pause": 0.02}
        for processes in rng.sample([1, 2], 2)
    ]
    codes, found = measure(*killed, {"processes": rng.choice([1, 2]), "options": BOTH, "out": out})
    assert codes[0] == [-9] * killed[0]["processes"]
    assert counts(found) == counts(expected)
    # Something was left to do, and something was not done again.
    assert 0 < found["measured"] < PICTURES
    assert not (tmp_path / "out" / "progress").exists()
    assert len((tmp_path / "out" / "images.csv").read_text().splitlines()) == 1 + PICTURES


@pytest.mark.parametrize("number", [1, 3])
def test_a_run_killed_while_it_saves(measure, expected, tmp_path, number):
    out = str(tmp_path / "out")
    codes, found = measure(
        {"processes": 1, "options": BOTH, "out": out, "kill_save": number},
        {"processes": 1, "options": BOTH, "out": out},
    )
    assert codes[0] == [-9]
    assert counts(found) == counts(expected)
    assert found["measured"] == PICTURES - 2 * (number - 1)


def test_another_protocol_begins_anew_and_says_so(measure, tmp_path):
    out, other = str(tmp_path / "out"), BOTH | {"overrides": {"synonyms": True, "background": "name"}}
    _, fresh = measure({"processes": 1, "options": other})
    killed = {"processes": 1, "options": BOTH, "out": out, "kill_save": 4}
    _, found = measure(killed, {"processes": 1, "options": other, "out": out})
    assert counts(found) == counts(fresh)
    assert found["measured"] == PICTURES
    assert any("another model, protocol or list of pictures; they are not used" in text for text in found["heard"])
    # The state of the other is still there for whoever goes on with that.
    _, found = measure({"processes": 1, "options": BOTH, "out": out})
    assert found["measured"] == PICTURES - 6


def test_overwrite_begins_anew(measure, tmp_path):
    out = str(tmp_path / "out")
    killed = {"processes": 1, "options": BOTH, "out": out, "kill_save": 4}
    _, found = measure(killed, {"processes": 1, "options": BOTH | {"overwrite": True}, "out": out})
    assert found["measured"] == PICTURES
    assert not (tmp_path / "out" / "progress").exists()

"""What a run leaves in ``metrics.jsonl``: each step once, whatever happened to the process that wrote it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clippy_core.events import CheckpointSaved, Noticed, StepFinished, Validated
from clippy_core.training.metrics_log import MetricsLog, read_metrics

REQUIRED = ("step", "epoch", "samples", "loss", "lr", "logit_scale", "seconds")


def step(number: int, **more: Any) -> StepFinished:
    values: dict[str, Any] = {"loss": 1 / number, "lr": 1e-3, "logit_scale": 14.3, "seconds": 0.05} | more
    return StepFinished(number, number / 10, number * 64, **values)


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def steps(path: Path) -> list[int]:
    return [line["step"] for line in lines(path)]


def write(folder: Path, after: int, *numbers: int) -> Path:
    with MetricsLog(folder, after) as log:
        for number in numbers:
            log(step(number))
    return folder / "metrics.jsonl"


def test_every_step_is_a_line_that_is_there_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "runs/a", 0)
    assert lines(tmp_path / "runs/a/metrics.jsonl") == []
    log(step(1, wait=0.01, rank_seconds=(0.04, 0.05), loss_scale=65536.0))
    log(Noticed("not a step"))
    log(CheckpointSaved(1, tmp_path, 0.1))
    (line,) = lines(tmp_path / "runs/a/metrics.jsonl")
    assert set(REQUIRED) <= set(line)
    assert line["rank_seconds"] == [0.04, 0.05]
    assert (line["wait"], line["skipped"], line["loss_scale"]) == (0.01, 0, 65536.0)
    assert "grad_norm" not in line, "what was not measured is left out"
    assert not (tmp_path / "runs/a/validation.jsonl").exists()
    log.close()


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        log(step(1, loss=0.1 + 0.2, lr=1e-7 / 3))
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert (line["loss"], line["lr"]) == (0.1 + 0.2, 1e-7 / 3)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_null(tmp_path: Path, loss: float) -> None:
    with MetricsLog(tmp_path, 0) as log:
        log(step(1, loss=loss, rank_seconds=(loss, 1.0)))
        log(Validated(1, {"shapes/mIoU": loss}))
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert (line["loss"], line["rank_seconds"]) == (None, [None, 1.0])
    assert lines(tmp_path / "validation.jsonl")[0]["shapes/mIoU"] is None


def test_validations_have_a_file_of_their_own(tmp_path: Path) -> None:
    import numpy as np

    with MetricsLog(tmp_path, 0) as log:
        picture = np.zeros((4, 4, 3), np.uint8)
        log(Validated(5, {"shapes/mIoU": np.float32(0.25), "shapes/JS": 0.5}, (picture,), 1.5))  # type: ignore[dict-item]
    assert lines(tmp_path / "validation.jsonl") == [
        {"step": 5, "seconds": 1.5, "shapes/mIoU": 0.25, "shapes/JS": 0.5},
    ]


@pytest.mark.parametrize(("after", "kept"), [(0, []), (3, [1, 2, 3]), (6, [1, 2, 3, 4, 5, 6]), (9, [1, 2, 3, 4, 5, 6])])
def test_a_resumed_run_has_each_step_once(tmp_path: Path, after: int, kept: list[int]) -> None:
    with MetricsLog(tmp_path, 0) as log:
        for number in range(1, 7):
            log(step(number))
            log(Validated(number, {"shapes/mIoU": 0.1}))
    path = write(tmp_path, after, after + 1, after + 2)
    assert steps(path) == [*kept, after + 1, after + 2]
    assert steps(tmp_path / "validation.jsonl") == kept
    assert {entry.name for entry in tmp_path.iterdir()} == {"metrics.jsonl", "validation.jsonl"}


@pytest.mark.parametrize(
    "end",
    [
        b'{"step": 4, "lo',
        b'{"step": 4, "loss": 1}',
        b'{"step"',
        b"\0\0\0\0",
        b"7\n",
        b'{"loss": 1}\n',
        b"\n",
        b"\xff\n",
    ],
)
def test_what_a_kill_left_of_a_line_is_dropped(tmp_path: Path, end: bytes) -> None:
    path = write(tmp_path, 0, 1, 2, 3)
    whole = path.read_bytes()
    path.write_bytes(whole + end)
    write(tmp_path, 9)
    assert path.read_bytes() == whole


def test_a_file_that_cannot_be_replaced_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, 0, 1, 2, 3)
    before = path.read_bytes()

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        MetricsLog(tmp_path, 1)
    assert path.read_bytes() == before


def test_a_killed_process_loses_no_step_that_it_had_finished(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from pathlib import Path
        from clippy_core.events import StepFinished
        from clippy_core.training.metrics_log import MetricsLog

        log = MetricsLog(Path(sys.argv[1]), 0)
        for number in range(1, 10**9):
            log(StepFinished(number, 0.0, number, 1.0, 1e-3, 14.0, 0.05))
            print(number, flush=True)
    """
    writer = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(200):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    told = 200 + writer.stdout.read().count(b"\n")
    writer.stdout.close()
    writer.wait()
    MetricsLog(tmp_path, 10**9).close()
    found = steps(tmp_path / "metrics.jsonl")
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        (tmp_path / "validation.jsonl").symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left"):
            log(Validated(1, {"shapes/mIoU": 0.1}))


@pytest.mark.parametrize("count", [0, 1, 5, 100, 5000])
@pytest.mark.parametrize("limit", [1, 100])
def test_a_few_steps_of_a_long_run_are_read_without_the_rest(tmp_path: Path, count: int, limit: int) -> None:
    write(tmp_path, 0, *range(1, count + 1))
    found = [record["step"] for record in read_metrics(tmp_path, limit)]
    assert found == sorted(set(found))
    assert min(count, limit) / 2 <= len(found) <= limit + 1
    if found and limit == 100:
        assert found[0] == 1
        assert found[-1] > 0.95 * count


def test_a_run_without_steps_has_none_to_read(tmp_path: Path) -> None:
    assert read_metrics(tmp_path, 10) == []

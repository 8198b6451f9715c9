"""TensorBoard and Weights & Biases hear of a run, and cannot end it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clippy_core import events
from clippy_core.errors import DeviceError
from clippy_core.training import trackers as module
from clippy_core.training.trackers import Guest, Trackers, step_numbers, trackers


def started(folder: Path, step: int = 0) -> events.TrainingStarted:
    config = {"model": {"name": "clippy-micro"}, "optim": {"lr": 1e-3}}
    return events.TrainingStarted("a-run", folder, step, 4, 64, 16, 1, 1000, 900, "cpu", "fp32", config)


def step(number: int, **more: Any) -> events.StepFinished:
    return events.StepFinished(number, number / 4, number * 16, 1.0 / number, 1e-3, 14.3, 0.5, **more)


def run(sink: events.Sink, folder: Path, steps: range, resumed: int = 0) -> None:
    picture = np.full((8, 8, 3), 90, np.uint8)
    sink(started(folder, resumed))
    for number in steps:
        sink(step(number))
    sink(events.Validated(steps[-1], {"shapes/mIoU": 0.5}, (picture, picture)))
    sink(events.Noticed("nothing to track"))
    sink(events.TrainingFinished(steps[-1], 4, 1.0))


class Recording:
    """A tracker that keeps what it is told, or fails at a step."""

    def __init__(self, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.written: list[Any] = []
        self.closed: list[bool] = []
        self._fails_at, self._error = fails_at, error

    def write(self, step: int, numbers: Any) -> None:
        if step == self._fails_at and self._error is not None:
            raise self._error
        self.written.append((step, dict(numbers)))

    def show(self, step: int, pictures: Any) -> None:
        self.written.append((step, sorted(pictures)))

    def close(self, *, failed: bool) -> None:
        self.closed.append(failed)


@pytest.fixture
def heard() -> list[events.Event]:
    return []


def test_a_tracker_hears_of_steps_validations_and_pictures(tmp_path: Path, heard: list[Any]) -> None:
    tracker = Recording()
    run(Guest("it", lambda *_: tracker, heard.append), tmp_path, range(1, 3))
    assert [(at, "train/loss" in what) for at, what in tracker.written[:2]] == [(1, True), (2, True)]
    assert tracker.written[2:] == [(2, {"validation/shapes/mIoU": 0.5}), (2, ["label maps/0", "label maps/1"])]
    assert (tracker.closed, heard) == ([False], [])


def test_the_numbers_of_a_step_leave_out_what_was_not_measured() -> None:
    plain = step_numbers(step(1), 16)
    assert plain["speed/samples_per_second"] == 32
    assert not {"train/grad_norm", "train/loss_scale", "speed/slowest_rank"} & set(plain)
    full = step_numbers(step(1, grad_norm=2.0, loss_scale=8.0, rank_seconds=(0.1, 0.3)), 16)
    assert (full["train/grad_norm"], full["train/loss_scale"], full["speed/slowest_rank"]) == (2.0, 8.0, 0.3)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a\nserver"), KeyError("x")])
def test_a_tracker_that_fails_is_off_and_said_once(tmp_path: Path, heard: list[Any], error: Exception) -> None:
    failing, sound = Recording(2, error), Recording()
    both = Trackers([Guest("one", lambda *_: failing, heard.append), Guest("two", lambda *_: sound, heard.append)])
    with both:
        run(both, tmp_path, range(1, 5))
    assert [at for at, _ in failing.written] == [1]
    assert [at for at, _ in sound.written] == [1, 2, 3, 4, 4, 4]
    (notice,) = heard
    assert notice.serious
    assert notice.text.startswith("one failed and is off from here; training goes on (")
    assert "\n" not in notice.text


def test_a_tracker_that_cannot_begin_does_not_stop_training(tmp_path: Path, heard: list[Any]) -> None:
    def refuse(*_: Any) -> Recording:
        raise ConnectionError("no route to host")

    run(Guest("it", refuse, heard.append), tmp_path, range(1, 3))
    assert [notice.text for notice in heard] == ["it failed and is off from here; training goes on (no route to host)"]


def test_an_interruption_is_not_taken_for_a_failure_of_the_tracker(tmp_path: Path, heard: list[Any]) -> None:
    tracker = Recording(1, KeyboardInterrupt())  # type: ignore[arg-type]
    guest = Guest("it", lambda *_: tracker, heard.append)
    with pytest.raises(KeyboardInterrupt), Trackers([guest]):
        run(guest, tmp_path, range(1, 3))
    assert (tracker.closed, heard) == ([True], [])


def test_only_what_was_asked_for_is_made(heard: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_require", lambda name, package: heard.append(name))
    trackers(("rich", "jsonl"), heard.append)
    assert heard == []
    trackers(("rich", "wandb", "tensorboard", "wandb"), heard.append)
    assert heard == ["wandb", "tensorboard"]


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(
    name: str, heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DeviceError, match=rf'--report {name} needs .* pip install "clippy-vlm\[track\]"'):
        trackers((name,), heard.append)


def test_tensorboard_files_hold_the_run_and_a_resumed_one_has_each_step_once(tmp_path: Path, heard: list[Any]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = trackers(("tensorboard",), heard.append)
    run(first, tmp_path, range(1, 4))
    run(trackers(("tensorboard",), heard.append), tmp_path, range(3, 5), resumed=2)
    assert heard == []
    found = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    found.Reload()
    assert [point.step for point in found.Scalars("train/loss")] == [1, 2, 3, 4]
    assert found.Scalars("validation/shapes/mIoU")[-1].value == 0.5
    assert {"label maps/0", "label maps/1"} <= set(found.Tags()["images"])


@pytest.fixture
def wandb_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """No account and no settings of whoever runs the tests, or of an earlier test; returns the runs written."""
    pytest.importorskip("wandb").teardown()
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home/netrc"))
    return lambda: sorted(tmp_path.glob("run/wandb/offline-run-*"))


def test_wandb_writes_offline_into_the_run_s_folder(
    tmp_path: Path, heard: list[Any], wandb_here: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "run"
    folder.mkdir()
    run(trackers(("wandb",), heard.append), folder, range(1, 4))
    assert heard == []
    pytest.importorskip("wandb").teardown()  # its own process may still be writing
    (written,) = wandb_here()
    run_id = (folder / "wandb-id").read_text()
    (record,) = written.glob("*.wandb")
    assert record.name == f"run-{run_id}.wandb"
    content = record.read_bytes()
    for name in (b"train/loss", b"validation/shapes/mIoU", b"a-run", b"clippy-micro"):
        assert name in content
    assert len(list(written.glob("files/media/images/**/*.png"))) == 2
    with trackers(("wandb",), heard.append) as again:
        again(started(folder, 2))
        again(step(3))
    assert (folder / "wandb-id").read_text() == run_id, "a resumed run goes on under its id"


def test_wandb_without_an_account_asks_nobody_and_says_that_it_is_offline(
    tmp_path: Path, heard: list[Any], wandb_here: Callable[[], list[Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    run(trackers(("wandb",), heard.append), folder, range(1, 3))
    assert len(wandb_here()) == 1
    (notice,) = heard
    assert notice.text == f"wandb: nobody is logged in; the run is kept offline in {folder / 'wandb'}"
    assert not notice.serious
    assert capfd.readouterr() == ("", "")

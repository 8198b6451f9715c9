"""Real processes that share a run with a stand-in for the model, and some of them die."""

import os
import signal
import textwrap
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest

from clippy_core import events
from clippy_core.errors import DataError, DeviceError, UsageError
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.batch import sharing
from clippy_core.segmentation.batch.manifest import NAME
from clippy_core.segmentation.batch.parts import FOLDER
from clippy_core.segmentation.batch.run import Job, ModelChoice, segment_batch
from clippy_core.segmentation.batch.sharing import cut, several
from clippy_core.segmentation.inputs import find_inputs
from clippy_core.segmentation.options import SegmentOptions

# Imported by the processes, which find it on the path of the one that starts them. No torch: they start in a moment.
STAND_IN = """
    import os, signal, time
    from dataclasses import dataclass
    from types import SimpleNamespace

    import numpy as np

    from clippy_core.errors import DataError
    from clippy_core.segmentation.batch.run import ModelChoice
    from clippy_core.segmentation.result import Segmentation


    @dataclass(frozen=True)
    class StandIn(ModelChoice):
        behaviour: str = ""
        slow: float = 0.0

        def load(self):
            if self.behaviour == "cannot load":
                raise DataError("the weights are not there")
            if self.behaviour == "dies on loading":
                os.kill(os.getpid(), signal.SIGKILL)
            return Segmenter(self)


    class Segmenter:
        config = SimpleNamespace(name="stand-in", vision=SimpleNamespace(size=32))
        engine = SimpleNamespace(stride=8)

        def __init__(self, choice):
            self.choice = choice
            self.placement = SimpleNamespace(device=SimpleNamespace(type="cpu"), notice="")

        def embed_labels(self, labels, options):
            return tuple(label.name for label in labels)

        def encode(self, pixels_HW3, options):
            time.sleep(self.choice.slow)
            return pixels_HW3, (1, 1)

        def finish(self, picture, features, grid, embeddings, options, images_ahead, source):
            with open("who.txt", "a") as file:
                file.write(f"{os.getpid()} {self.choice.device} {source}\\n")
            if "poison" in source:
                os.kill(os.getpid(), signal.SIGKILL)
            labels_HW = (picture.pixels_HW3[..., 0] // 128).astype(np.uint8)
            return Segmentation(picture, labels_HW, embeddings, np.zeros(2, np.float32), model="s", source=source)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The class of a model that loads in no time."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path/stand_in_model.py").write_text(textwrap.dedent(STAND_IN))
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sharing, "LOOK_EVERY", 0.02)
    from stand_in_model import StandIn

    return StandIn


class Run:
    """A run over ``photos`` into ``out``, and what was heard of it."""

    def __init__(self, choice, processes=2, devices=(), sink=events.ignore, **changes):
        job = Job(parse_labels("dark,light"), SegmentOptions(), "stand-in", Path("out"), ("labelmap", "json"))
        self.job = replace(job, **changes)
        self.events = []

        def listen(event):
            self.events.append(event)
            sink(event)

        items = find_inputs(["photos"], self.job.out)
        self.records = list(segment_batch(items, self.job, several(choice, processes, devices), sink=listen))
        self.finished = [event.source for event in self.events if isinstance(event, events.ItemFinished)]
        self.notices = [event.text for event in self.events if isinstance(event, events.Noticed)]


def on_finished(number, act):
    """A sink that calls ``act`` once: when the ``number``-th input is finished. Other events come in between."""
    heard = []

    def sink(event):
        if isinstance(event, events.ItemFinished):
            heard.append(event)
            if len(heard) == number:
                act()

    return sink


def interrupt():
    raise KeyboardInterrupt


def who():
    """The process, device and input of every attempt at a picture."""
    return [tuple(line.split(" ", 2)) for line in Path("who.txt").read_text().splitlines()]


def contents(out):
    files = (path for path in Path(out).rglob("*") if path.is_file() and path.name != NAME)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture
def photos(picture_file):
    return [str(picture_file(f"photos/{number:02d}.png", number).relative_to(Path.cwd())) for number in range(40)]


def test_the_work_is_shared_and_told_of_once(stand_in, photos):
    run = Run(stand_in(slow=0.02))
    assert [(record.input, record.status) for record in run.records] == [(source, "ok") for source in photos]
    assert sorted(run.finished) == photos
    assert len({process for process, _, _ in who()}) == 2
    assert sorted(source for _, _, source in who()) == photos
    Run(stand_in(), 1, out=Path("one"))
    assert contents("out") == contents("one")
    assert not Path("out", FOLDER).exists()


def test_every_process_has_a_gpu_of_its_own(stand_in, photos):
    Run(stand_in(slow=0.05, device="cuda"), 2, ["cuda:0", "cuda:1"])
    assert len({process for process, _, _ in who()}) == len({(process, device) for process, device, _ in who()}) == 2
    assert {device for _, device, _ in who()} == {"cuda:0", "cuda:1"}


@pytest.mark.parametrize("after", [1, 15])
def test_a_lost_process_loses_no_picture(stand_in, photos, after):
    def kill():
        os.kill(active_children()[0].pid, signal.SIGKILL)

    run = Run(stand_in(slow=0.02), sink=on_finished(after, kill))
    assert [record.status for record in run.records] == ["ok"] * 40
    assert sorted(run.finished) == photos
    assert len(run.notices) == 1
    assert "a process was lost" in run.notices[0]
    Run(stand_in(), 1, out=Path("one"))
    assert contents("out") == contents("one")


def test_an_input_that_ends_every_process_is_a_failed_line(stand_in, photos, picture_file):
    picture_file("photos/20-poison.png")
    run = Run(stand_in())
    (failed,) = [record for record in run.records if record.status == "failed"]
    assert failed.input == "photos/20-poison.png"
    assert failed.error == "photos/20-poison.png: the process that worked on it was lost 3 times (memory?)"
    assert sorted(run.finished) == sorted([*photos, failed.input])
    assert [source for _, _, source in who()].count(failed.input) == 3


@pytest.mark.parametrize("suspected", [["photos/04.png"], ["photos/04.png", "photos/20.png"]])
def test_what_is_done_alone_and_succeeds_costs_nobody_else(stand_in, photos, monkeypatch, suspected):
    begin = sharing._Sharing.__init__

    def suspecting(self, *arguments):
        begin(self, *arguments)
        self._losses.update(dict.fromkeys(suspected, 2))

    monkeypatch.setattr(sharing._Sharing, "__init__", suspecting)
    run = Run(stand_in())
    assert [record.status for record in run.records] == ["ok"] * 40
    assert sorted(run.finished) == photos
    assert sorted(source for _, _, source in who()) == photos, "nothing is done twice"


def test_processes_that_never_get_to_work_are_an_error_not_a_loop(stand_in, photos):
    with pytest.raises(DeviceError, match="2 processes: 3 times one was lost before a single input was finished"):
        Run(stand_in(behaviour="dies on loading"))
    assert active_children() == []


def test_what_a_process_cannot_do_is_told_as_it_is(stand_in, photos):
    with pytest.raises(DataError, match="the weights are not there"):
        Run(stand_in(behaviour="cannot load"))
    assert active_children() == []


@pytest.mark.parametrize("after", [1, 10])
def test_an_interrupted_run_keeps_what_was_finished(stand_in, photos, after):
    with pytest.raises(KeyboardInterrupt):
        Run(stand_in(slow=0.05), sink=on_finished(after, interrupt))
    assert active_children() == []
    before = [source for _, _, source in who()]
    assert after <= len(before) < 40
    run = Run(stand_in())
    assert sorted(source for _, _, source in who()) == photos, "nothing is done twice"
    assert {record.input for record in run.records if record.status == "skipped"} == set(before)


def test_fail_fast_stops_all_of_them(stand_in, photos):
    Path(photos[1]).write_bytes(b"no picture")
    run = Run(stand_in(slow=0.05), fail_fast=True)
    assert "failed" in [record.status for record in run.records]
    assert len(run.records) < 40


def test_standard_input_cannot_be_shared(stand_in, photos):
    job = Job(parse_labels("a"), SegmentOptions(), "stand-in", Path("out"), ("json",))
    with pytest.raises(UsageError, match="standard input"):
        segment_batch(find_inputs(["-", "photos"], Path("out")), job, several(ModelChoice(), 2))


@pytest.mark.parametrize(
    ("items", "workers", "sizes"),
    [(0, 2, []), (1, 2, [1]), (5, 2, [1] * 5), (40, 2, [2] * 20), (10_000, 2, [64] * 156 + [16])],
)
def test_chunks_are_neighbours_and_leave_nothing_out(items, workers, sizes):
    chunks = cut(list(range(items)), workers)
    assert [len(chunk) for chunk in chunks] == sizes
    assert [item for chunk in chunks for item in chunk] == list(range(items))

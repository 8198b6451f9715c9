"""One process's steps: half precision, averages, frozen and dropped parts, and what is told."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from clippy_core import events
from clippy_core.errors import ConfigError, UsageError
from clippy_core.model.device import Placement
from clippy_core.model.weights import load_directory
from clippy_core.training import checkpoint
from clippy_core.training import train as run
from clippy_core.training.settings import resolve
from clippy_core.training.stop import StopRequests
from clippy_core.training.train import train


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def configured(tiny_directory, tmp_path):
    def configured(*sets, **flags):
        common = ["data.workers=0", "run.device='cpu'", "run.batch_size=8", "data.samples=40", "run.steps=6"]
        places = [f"run.out='{tmp_path}'", "run.name='a'", f"model.name='{tiny_directory}'"]
        return resolve({}, [*common, *places, *sets], flags)

    return configured


class Heard(list):
    def __call__(self, event):
        self.append(event)

    def of(self, kind):
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def half(monkeypatch):
    """fp16 with a scaler, on the CPU, which the command refuses because it is slow there."""
    monkeypatch.setattr(run, "_placement", lambda *_: Placement(torch.device("cpu"), torch.float16, ""))


@pytest.fixture
def overflowing(monkeypatch):
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(
        "clippy_core.training.loop.torch.amp.GradScaler",
        lambda device, enabled: scaler(device, enabled=enabled, init_scale=2.0**34),
    )


def test_fp16_overflow_leaves_steps_out_and_lowers_the_scale(configured, half, overflowing, tmp_path):
    heard = Heard()
    train(configured("run.steps=30", "run.save_every=1", "run.keep=40"), sink=heard)
    steps = heard.of(events.StepFinished)
    skipped = [step.skipped for step in steps]
    assert skipped[0] == 1
    assert 1 < skipped[-1] < 30
    for before, after in itertools.pairwise(steps):
        if after.skipped > before.skipped:
            assert after.loss_scale == before.loss_scale / 2
            weights = [
                load_directory(tmp_path / "a" / "checkpoints" / f"step-{step.step:08d}").model.state_dict()
                for step in (before, after)
            ]
            assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert len({step.loss for step in steps[-5:]}) == 5  # it goes on learning afterwards


def test_resume_keeps_the_scale(configured, half, overflowing):
    plain, first, second = Heard(), Heard(), Heard()
    config = configured("run.steps=16", "run.save_every=4")
    train(replace(config, run=replace(config.run, name="plain")), sink=plain)

    class KilledError(Exception):
        pass

    def kill(event):
        first(event)
        if isinstance(event, events.StepFinished) and event.step == 10:
            raise KilledError

    with pytest.raises(KilledError):
        train(config, sink=kill)
    train(config, sink=second, resume="auto")
    told = [(step.step, step.loss, step.loss_scale, step.skipped) for step in plain.of(events.StepFinished)]
    again = [(step.step, step.loss, step.loss_scale, step.skipped) for step in second.of(events.StepFinished)]
    assert again == told[8:]


def test_fp16_on_the_cpu_is_refused(configured):
    with pytest.raises(ConfigError, match=r"run\.precision is 'fp16', which needs a GPU"):
        train(configured("run.precision=fp16"))


def test_what_is_frozen_stays_and_the_rest_moves(configured, tiny_directory, tmp_path):
    train(configured("model.freeze=['text', 'vision.trunk.blocks.0.']", "optim.lr=0.01"))
    before = load_directory(tiny_directory).model.state_dict()
    after = load_directory(tmp_path / "a" / "model").model.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert not any(name.startswith(("text", "vision.trunk.blocks.0.")) for name in moved)
    assert "vision.trunk.blocks.1.attn.qkv.weight" in moved
    assert "logit_scale" in moved


def test_the_average_is_what_is_kept(configured, tmp_path):
    """Two steps by hand: a, then decay · a + (1 − decay) · b."""
    train(configured("run.steps=2", "run.save_every=1", "model.ema=0.75", "optim.lr=0.01", "optim.schedule=constant"))
    folder = tmp_path / "a"
    first, second = (
        load_directory(folder / "checkpoints" / f"step-{n:08d}").model.state_dict() for n in (1, 2)
    )  # fmt: skip
    kept = load_directory(folder / "model").model.state_dict()
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * second[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("pool", ["max", "mean", "cls"])
def test_pools_train_with_dropped_patches_and_checkpointing(configured, tmp_path, pool):
    heard = Heard()
    sets = ["model.patch_dropout=0.5", "model.grad_checkpointing=true", "run.steps=2", "data.size=64"]
    train(configured(*sets, f"model.pool={pool}"), sink=heard)
    kept = load_directory(tmp_path / "a" / "model").model
    assert kept.config.vision.pool == pool
    assert kept.config.vision.size == 32
    assert len(heard.of(events.StepFinished)) == 2


def test_gradient_checkpointing_changes_nothing(configured, tmp_path):
    told = []
    for name, on in (("x", "false"), ("y", "true")):
        heard = Heard()
        train(configured(f"run.name={name}", f"model.grad_checkpointing={on}", "model.patch_dropout=0.25"), sink=heard)
        told.append([step.loss for step in heard.of(events.StepFinished)])
    assert told[0] == pytest.approx(told[1], rel=1e-6)


def test_a_step_hears_what_happened(configured, tmp_path):
    heard = Heard()
    train(configured("optim.warmup=2", "optim.lr=0.01"), sink=heard)
    started, finished = heard[0], heard[-1]
    assert isinstance(started, events.TrainingStarted)
    assert (started.step, started.steps, started.batch, started.world, started.epoch_samples) == (0, 6, 8, 1, 40)
    assert started.parameters == started.trainable > 0
    assert finished == events.TrainingFinished(6, 6, finished.seconds, "done")
    steps = heard.of(events.StepFinished)
    assert [step.samples for step in steps] == [8, 16, 24, 32, 40, 48]
    assert [step.epoch for step in steps] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
    assert [step.lr for step in steps][:2] == pytest.approx([0.005, 0.01])
    assert [event.epoch for event in heard.of(events.EpochFinished)] == [1]
    assert heard.of(events.EpochFinished)[0].counts["trained"] == 40
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [step.loss for step in steps]
    assert {"step", "epoch", "samples", "loss", "lr", "logit_scale", "seconds"} <= lines[0].keys()


def test_validation_is_told_and_the_best_is_kept(configured, tmp_path):
    heard = Heard()
    figures = iter([0.1, 0.5, 0.3, 0.2, 0.1, 0.0])

    def validate(model, tokenizer, placement):
        return {"shapes/mIoU": next(figures)}, ()

    config = configured("run.eval_every=1", "run.save_every=1", "run.keep=1", "run.best='shapes/mIoU'")
    outcome = train(config, sink=heard, validate=validate)
    assert [event.metrics["shapes/mIoU"] for event in heard.of(events.Validated)] == [0.1, 0.5, 0.3, 0.2, 0.1, 0.0]
    assert [event.best for event in heard.of(events.CheckpointSaved)] == [True, True, False, False, False, False]
    folder = tmp_path / "a" / "checkpoints"
    assert [checkpoint.step_of(path) for path in checkpoint.listed(folder)] == [6, 2]
    assert outcome.metrics == {"shapes/mIoU": 0.0}


def test_a_finished_run_resumes_to_nothing(configured):
    train(configured())
    heard = Heard()
    assert train(configured(), sink=heard, resume="auto").step == 6
    assert not heard.of(events.StepFinished)


def test_a_run_is_not_overwritten(configured):
    train(configured())
    with pytest.raises(UsageError, match="has checkpoints; --resume auto goes on, --name begins another run"):
        train(configured())


def test_resuming_with_nothing_there_begins(configured):
    assert train(configured(), resume="auto").step == 6


def test_more_than_an_epoch_holds_is_refused(configured):
    with pytest.raises(UsageError, match="a step takes 64 samples"):
        train(configured("run.batch_size=64"))


def test_a_second_signal_does_no_harm():
    import os
    import signal

    with StopRequests() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_scale_stays_below_one_hundred(configured, tmp_path):
    train(configured("loss.scale=99.9", "optim.lr=0.1", "optim.schedule=constant", "run.steps=20"))
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["logit_scale"] for line in lines) <= 100.001

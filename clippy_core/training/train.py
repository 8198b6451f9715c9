"""A training run from its configuration to its last checkpoint."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from clippy_core import events
from clippy_core.errors import CheckpointError, ConfigError, UsageError
from clippy_core.files import write_json
from clippy_core.model.device import Placement, place
from clippy_core.model.weights import LoadedModel, load_directory, save_directory
from clippy_core.training import checkpoint
from clippy_core.training.config import TrainConfig
from clippy_core.training.data.loader import Loader
from clippy_core.training.data.sources import open_source
from clippy_core.training.distributed import World, join
from clippy_core.training.loop import Outcome, Trainer, Validate, model_card, signal_name
from clippy_core.training.memory import keep_freed_memory
from clippy_core.training.metrics_log import MetricsLog
from clippy_core.training.optimiser import warmup_steps
from clippy_core.training.settings import write_toml
from clippy_core.training.start import start_model
from clippy_core.training.stop import StopRequests

FREE = {
    "run": {
        "name", "out", "device", "processes", "nodes", "save_every", "keep", "eval_every", "evaluate", "best", "report",
        "nan_policy", "timeout",
    },
    "data": {"workers", "shard_cache_gb", "strict"},
}  # fmt: skip
"""Fields that may change between the parts of a run without changing what it computes."""


def train(
    config: TrainConfig,
    *,
    sink: events.Sink = events.ignore,
    validate: Validate | None = None,
    resume: str | None = None,
    inexact: bool = False,
) -> Outcome:
    """Train; called once in every process of the run.

    Args:
        config: The run.
        sink: Hears of events, in the leading process only.
        validate: Measures the model between steps.
        resume: ``auto`` for the run's own latest checkpoint, if there is one, or the directory of a checkpoint.
        inexact: Go on even if the checkpoint was made with other settings or another number of processes.

    Raises:
        UsageError: The run exists already, or settings that do not fit together or the checkpoint.
        DataError: Data, weights or checkpoints that cannot be used; a loss that is not finite.
        DeviceError: A GPU is missing, or another process of the run was lost.
    """
    begin = time.perf_counter()
    with join(config.run.device, config.run.timeout) as world, StopRequests() as stop, ExitStack() as opened:
        if world.device.type == "cpu":
            keep_freed_memory()
        folder = _folder(config, world)
        found = _find(folder, resume, world, sink)
        loaded = (
            start_model(config.model, config.loss, config.run.seed) if found is None else load_directory(found.path)
        )
        trainer = _trainer(config, loaded, world, folder, sink, validate)
        if found is not None:
            _check_same(found, config, trainer, inexact, sink)
            trainer.restore(found.state)
        if world.leads:
            log = opened.enter_context(MetricsLog(folder, trainer.progress.step))
            write_toml(folder / "config.toml", config)
            trainer.sink = events.fan_out(log, sink)
            trainer.sink(_started(trainer))
            for problem in trainer.source.problems():
                trainer.sink(events.Noticed(problem, serious=True))
        number = trainer.run(stop)
        step, steps = trainer.progress.step, trainer.steps
        if not number and world.leads:
            _keep_model(trainer)
        reason = f"stopped by {signal_name(number)}" if number else "done"
        trainer.sink(events.TrainingFinished(step, steps, time.perf_counter() - begin, reason))
        return Outcome(folder, step, steps, number, trainer.metrics)


def _folder(config: TrainConfig, world: World) -> Path:
    """The run's folder; a name that nobody chose is the same in every process."""
    stamp = f"{Path(config.model.name).name}-{datetime.now():%Y%m%d-%H%M%S}"
    return Path(config.run.out) / (config.run.name or world.gather_objects(stamp)[0])


def _find(folder: Path, resume: str | None, world: World, sink: events.Sink) -> checkpoint.Found | None:
    """The checkpoint to go on from, the same in every process."""
    if resume is None:
        if checkpoint.listed(folder / "checkpoints"):
            raise UsageError(f"run {str(folder)!r} has checkpoints; --resume auto goes on, --name begins another run")
        return None
    if resume != "auto":
        return checkpoint.read(Path(resume))

    def problem(text: str) -> None:
        if world.leads:
            sink(events.Noticed(text, serious=True))

    found = checkpoint.latest(folder / "checkpoints", problem)
    names = world.gather_objects(found and found.path.name)
    if len(set(names)) > 1:
        raise CheckpointError(
            f"{folder}: processes see different checkpoints ({', '.join(map(str, names))}); --out "
            "must be a folder that all machines share"
        )
    return found


def _trainer(
    config: TrainConfig,
    loaded: LoadedModel,
    world: World,
    folder: Path,
    sink: events.Sink,
    validate: Validate | None,
) -> Trainer:
    run = config.run
    size = config.data.size or loaded.model.config.vision.size
    source = open_source(replace(config.data, size=size))
    loader = Loader(
        source,
        loaded.tokenizer,
        config.data,
        size=size,
        batch_size=run.batch_size,
        accumulate=run.accumulate,
        rank=world.rank,
        world=world.size,
        seed=run.seed,
    )
    epoch = loader.steps_per_epoch  # refuses a batch that is too large, before anything is written
    steps = run.steps or run.epochs * epoch
    warmup_steps(config.optim, steps)  # refuses one that is too long, before anything heavy is built
    return Trainer(
        config, loaded.model, loaded.tokenizer, source, loader, world, _placement(run.precision, world), steps, folder,
        sink=sink, validate=validate,
    )  # fmt: skip


def _placement(precision: str, world: World) -> Placement:
    name = "cpu" if world.device.type == "cpu" else f"cuda:{world.device.index}"
    if precision == "fp16" and name == "cpu":
        raise ConfigError("run.precision is 'fp16', which needs a GPU; accepted on the CPU: fp32, bf16")
    return place(name, precision)


def _check_same(
    found: checkpoint.Found, config: TrainConfig, trainer: Trainer, inexact: bool, sink: events.Sink
) -> None:
    """Refuse to go on with other settings than the checkpoint's, unless that is wanted."""
    now: Mapping[str, Any] = {**_bound(config.to_dict()), "processes": trainer.world.size}
    then: Mapping[str, Any] = {**_bound(found.state["config"]), "processes": found.state["world"]}
    now = {**now, "samples in the data": len(trainer.source)}
    then = {**then, "samples in the data": found.state["samples"]}
    differences = [
        f"{name} was {then.get(name)!r} and is {value!r}" for name, value in now.items() if then.get(name) != value
    ]
    if not differences:
        return
    text = f"{found.path}: {'; '.join(differences[:3])}"
    if not inexact:
        raise UsageError(f"{text}; going on would not repeat the run exactly; --inexact goes on all the same")
    if trainer.world.leads:
        sink(events.Noticed(f"{text}; the run goes on, but not exactly as it would have", serious=True))


def _bound(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings that decide what a run computes, as ``table.field``."""
    return {
        f"{table}.{name}": list(value) if isinstance(value, tuple) else value
        for table, fields in config.items()
        for name, value in fields.items()
        if name not in FREE.get(table, ())
    }


def _started(trainer: Trainer) -> events.TrainingStarted:
    config, parameters = trainer.config, list(trainer.pair.model.parameters())
    device = trainer.placement.device
    if device.type == "cuda":
        import torch

        shown = f"{device} ({torch.cuda.get_device_name(device)})"
    else:
        shown = "cpu"
    return events.TrainingStarted(
        name=trainer.folder.name,
        folder=trainer.folder,
        step=trainer.progress.step,
        steps=trainer.steps,
        epoch_samples=len(trainer.source),
        batch=trainer.batch,
        world=trainer.world.size,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        device=shown,
        precision=str(trainer.placement.dtype).removeprefix("torch."),
        config=config.to_dict(),
    )


def _keep_model(trainer: Trainer) -> None:
    """``RUN/model``: what the run was for, as a model directory without a trainer's state."""
    model = trainer.measured
    card = model_card(model, trainer.config, trainer.progress.step, trainer.metrics)
    save_directory(trainer.folder / "model", model, trainer.tokenizer_json, card)
    write_json(trainer.folder / "result.json", {"step": trainer.progress.step, "metrics": dict(trainer.metrics)})

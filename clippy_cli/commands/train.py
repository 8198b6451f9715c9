"""``clippy train``: contrastive training, from a laptop to several machines."""

import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clippy_cli import console, options, processes
from clippy_cli.settings import Flag, with_flags
from clippy_core.training.config import TrainConfig

if TYPE_CHECKING:
    from clippy_core.training.loop import Outcome

CPU_INSTEAD = "--gpus 0 trains on the CPU, --procs N in N processes on it"
GOES_ON = "the same command with --resume auto goes on"
DATA, MODEL, LENGTH, OPTIM, WATCH = "Data", "Model", "Length and batch", "Optimisation", "Checkpoints and reports"
FLAGS = (
    Flag("--model -m", "model.name", str, MODEL, "What to train.", "NAME|DIR"),
    Flag(
        "--init-vision", "model.init_vision", str, MODEL,
        "Where the image tower starts: random, timm:NAME, hf:ID or a directory.", "SOURCE",
        "the model's weights, else the preset's",
    ),
    Flag(
        "--init-text", "model.init_text", str, MODEL, "The same for the text tower.", "SOURCE",
        "the model's weights, else the preset's",
    ),
    Flag("--pool", "model.pool", str, MODEL, "How patches become one embedding.", "max|mean|cls", "the model's"),
    Flag(
        "--patch-dropout", "model.patch_dropout", float, MODEL, "Share of patches left out, 0 to 1.", "SHARE",
        "the preset's, else 0",
    ),
    Flag("--freeze", "model.freeze", list, MODEL, "Parameters that stay, such as text; repeatable.", "PREFIX"),
    Flag("--grad-checkpointing", "model.grad_checkpointing", bool, MODEL, "Recompute activations to save memory."),
    Flag("--compile", "model.compile", bool, MODEL, "Compile both towers with torch.compile."),
    Flag("--ema", "model.ema", float, MODEL, "Moving average of the weights, such as 0.9999.", "DECAY"),
    Flag("--samples", "data.samples", int, DATA, "Samples in an epoch.", "N", "all; 20,000 of shapes"),
    Flag("--size", "data.size", int, DATA, "Side of the pictures trained on.", "PIXELS", "the model's"),
    Flag("--workers", "data.workers", int, DATA, "Processes a rank that read and decode; 0 for none.", "N"),
    Flag("--strict", "data.strict", bool, DATA, "Stop at the first sample that cannot be used."),
    Flag(
        "--batch-size -b", "run.batch_size", int, LENGTH, "Samples a process and forward pass.", "N",
        "the preset's, else 64",
    ),
    Flag("--accumulate", "run.accumulate", int, LENGTH, "Forward passes a step, all contrasted together.", "N"),
    Flag("--epochs", "run.epochs", int, LENGTH, "Passes over the data.", "N", "the preset's, else 10"),
    Flag("--steps", "run.steps", int, LENGTH, "Optimiser steps, instead of epochs.", "N"),
    Flag("--loss", "loss.kind", str, OPTIM, "What is minimised.", "infonce|siglip"),
    Flag("--lr", "optim.lr", float, OPTIM, "Peak learning rate.", "RATE", "the preset's, else 0.0005"),
    Flag(
        "--warmup", "optim.warmup", float, OPTIM, "Steps in which the rate rises; below 1, share of the run.", "STEPS",
        "the preset's, else 0",
    ),
    Flag("--weight-decay", "optim.weight_decay", float, OPTIM, "Decoupled weight decay.", "X"),
    Flag(
        "--precision", "run.precision", str, OPTIM,
        "Number format; auto is bf16 or fp16 on a GPU, fp32 on the CPU.", "auto|fp32|bf16|fp16",
    ),
    Flag("--seed", "run.seed", int, OPTIM, "Decides all that is random.", "N"),
    Flag(
        "--eval", "run.evaluate", list, WATCH, "Measure on it between steps; repeatable.", "BENCHMARK=DIR",
        "shapes, if trained on shapes",
    ),
    Flag("--eval-every", "run.eval_every", int, WATCH, "How often to measure.", "STEPS", "ten times in all"),
    Flag("--save-every", "run.save_every", int, WATCH, "How often to save.", "STEPS", "ten times in all"),
    Flag("--report", "run.report", tuple, WATCH, "Who hears of progress: rich, jsonl, tensorboard, wandb.", "KINDS"),
    Flag("--name", "run.name", str, WATCH, "The run's name and folder.", "NAME", "model and time"),
    Flag("--out -o", "run.out", str, WATCH, "Folder for runs.", "DIR"),
)  # fmt: skip


@with_flags(FLAGS, TrainConfig().to_dict())
def train(
    given: dict[str, dict[str, Any]],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA...]",
            help="Shards (braces, globs, pipe:, http), .csv/.tsv, folders with captions, or shapes. (default: shapes)",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", metavar="N", help="GPUs on this machine; 0 for the CPU. (default: all there are)"),
    ] = None,
    procs: Annotated[int | None, typer.Option("--procs", metavar="N", help="CPU processes, instead of GPUs.")] = None,
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", help="Machines; each runs the same command.")] = 1,
    rdzv: Annotated[
        str | None, typer.Option("--rdzv", metavar="HOST:PORT", help="Where machines meet: an address of one of them.")
    ] = None,
    restarts: Annotated[
        int, typer.Option("--restarts", metavar="N", help="How often to go on by itself after a lost process.")
    ] = 0,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="auto|DIR", help="Go on from the run's latest checkpoint, or from that one."),
    ] = None,
    inexact: Annotated[
        bool, typer.Option("--inexact", help="Go on even with other settings or another number of processes.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings from a TOML file, such as a run's config.toml."),
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=c", help="One setting, such as optim.beta2=0.95; repeatable."),
    ] = None,
    json: options.Json = False,
) -> int:
    """Train a model on pictures with captions.

    Without arguments it trains the smallest model on shapes, the built-in procedural world. The run's folder gets
    config.toml, which repeats the run, metrics.jsonl, checkpoints and, at the end, the model.
    """
    from clippy_core.launch import is_one_of_several, launched_as
    from clippy_core.training.settings import read_toml, resolve

    if data:
        given.setdefault("data", {})["sources"] = tuple(data)
    file = read_toml(config) if config else {}
    chosen = resolve(file, assign or (), given)
    if is_one_of_several():
        here, machines = launched_as()
        chosen = replace(chosen, run=replace(chosen.run, processes=here, nodes=machines))
        return _train(chosen, resume, inexact, json=json)
    chosen = _complete(chosen, gpus, procs, nodes, said="processes" in {**file.get("run", {}), **given.get("run", {})})
    options.folder(Path(chosen.run.out))
    if not data and not config:
        console.notice(f"no data was given: {chosen.model.name} learns shapes, the built-in procedural world")
    if chosen.run.processes * chosen.run.nodes == 1:
        return _train(chosen, resume, inexact, json=json)
    return _launch(chosen, resume, inexact, rdzv, restarts, json=json)


def _launch(
    config: TrainConfig, resume: str | None, inexact: bool, rdzv: str | None, restarts: int, *, json: bool
) -> int:
    """Train in several processes, each of which runs this command again; returns the exit code."""
    from clippy_core.errors import UsageError
    from clippy_core.launch import launch
    from clippy_core.training.settings import write_toml

    if config.run.nodes > 1 and rdzv is None:
        raise UsageError(f"--nodes {config.run.nodes} needs --rdzv HOST:PORT, an address of one of them where all meet")
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "config.toml"
        write_toml(settings, config)
        arguments = ["train", "--config", str(settings)]
        if resume or restarts:
            arguments += ["--resume", resume or "auto"]
        arguments += [switch for switch, on in {"--inexact": inexact, "--json": json}.items() if on]
        code = launch(
            arguments + processes.global_switches(),
            processes=config.run.processes,
            nodes=config.run.nodes,
            rendezvous=rdzv,
            restarts=restarts,
            hint="--resume auto goes on from the last checkpoint",
        )
    if code == 128 + signal.SIGINT:
        raise typer.Abort(GOES_ON)
    return code


def _complete(config: TrainConfig, gpus: int | None, procs: int | None, nodes: int, *, said: bool) -> TrainConfig:
    """The configuration with what depends on this machine decided: device, processes, name, validation."""
    from datetime import datetime

    from clippy_core.errors import UsageError

    if gpus is not None and procs is not None:
        raise UsageError("--gpus and --procs exclude each other: a process trains on a GPU or on the CPU")
    if (procs is not None and procs < 1) or (gpus is not None and gpus < 0) or nodes < 1:
        raise UsageError("--procs and --nodes are 1 or more, --gpus is 0 or more")
    run = config.run
    if procs is not None or gpus == 0:
        run = replace(run, device="cpu", processes=procs or 1)
    elif gpus is not None:
        run = replace(run, device="cuda", processes=gpus)
    elif run.device != "cpu" and not said:
        run = replace(run, processes=max(1, processes.count_gpus()))
    if run.device == "cuda":
        processes.require_gpus(run.processes, CPU_INSTEAD)
    run = replace(run, nodes=nodes if nodes > 1 else run.nodes)
    if run.name is None:
        run = replace(run, name=f"{Path(config.model.name).name}-{datetime.now():%Y%m%d-%H%M%S}")
    if run.evaluate is None:
        run = replace(run, evaluate=("shapes",) if config.data.sources == ("shapes",) else ())
    return replace(config, run=run)


def _train(config: TrainConfig, resume: str | None, inexact: bool, *, json: bool) -> int:
    """Train in this process, alone or as one of several; returns the exit code."""
    from clippy_cli.dashboard import training_display
    from clippy_core import events
    from clippy_core.evaluation.validation import Validation
    from clippy_core.training.trackers import trackers
    from clippy_core.training.train import train as run

    validate = Validation(config.run.evaluate) if config.run.evaluate else None
    with training_display("rich" in config.run.report) as display, trackers(config.run.report, display) as tracked:
        outcome = run(config, sink=events.fan_out(display, tracked), validate=validate, resume=resume, inexact=inexact)
    _say(outcome, json=json)
    if outcome.signal == signal.SIGINT:
        raise typer.Abort(GOES_ON)
    return 128 + outcome.signal if outcome.signal else 0


def _say(outcome: "Outcome", *, json: bool) -> None:
    from clippy_core.launch import is_leader

    if not is_leader():
        return
    if json:
        document = {
            "folder": str(outcome.folder), "step": outcome.step, "steps": outcome.steps,
            "signal": outcome.signal or None, "metrics": dict(outcome.metrics),
        }  # fmt: skip
        console.print_json(document)
    else:
        console.print_path(outcome.folder)

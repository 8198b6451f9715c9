"""The training loop: one step after another, until the run is done, is asked to stop, or goes wrong.

Everything random in a step (dropout, dropped patches) is drawn from a generator seeded by the run's seed, the step, the
process and the part of the batch, so that a run that was killed goes on as if it had not been.
"""

import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from clippy_core import events
from clippy_core.errors import DataError
from clippy_core.model.device import Placement
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.training import checkpoint
from clippy_core.training.anchors import Anchors
from clippy_core.training.config import TrainConfig
from clippy_core.training.data import Batch, Source
from clippy_core.training.data.loader import Loader
from clippy_core.training.distributed import World, watching
from clippy_core.training.grad_cache import cached_backward
from clippy_core.training.losses import contrastive_loss
from clippy_core.training.optimiser import build_optimiser, freeze, learning_rate, rest_frozen, set_learning_rate
from clippy_core.training.pair import PairEmbeddings, TrainedPair
from clippy_core.training.stop import StopRequests

Validate = Callable[[DualEncoder, Tokenizer, Placement], tuple[Mapping[str, float], tuple[np.ndarray, ...]]]
"""Measures a model: metrics by name, and label maps of fixed pictures (``uint8``, H×W×3)."""


class NonFiniteLossError(DataError):
    """A loss or a gradient is not a number; names the step and the samples it came from."""


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        folder: The run's folder.
        step: Steps done.
        steps: Steps the run has in all.
        signal: The signal that ended it early, or 0.
        metrics: The last validation.
    """

    folder: Path
    step: int
    steps: int
    signal: int
    metrics: Mapping[str, float]


class _Status(NamedTuple):
    """What one process tells the others at the end of every backward pass."""

    stop: float
    finite: float
    faults: float
    seconds: float


@dataclass
class Progress:
    """What moves while a run goes on, besides weights and optimiser.

    Attributes:
        step: Steps done.
        skipped: Steps whose update was left out.
        faults: Samples that were replaced, over all processes.
        faults_before: Of these, in epochs that ended.
    """

    step: int = 0
    skipped: int = 0
    faults: int = 0
    faults_before: int = 0


class Trainer:
    """One process's part of a run.

    Args:
        config: The run.
        model: The model, with the weights it starts from.
        tokenizer: Its tokenizer.
        source: What it is trained on.
        loader: Batches of it.
        world: The processes of the run.
        placement: Device and precision.
        steps: Steps of the whole run.
        folder: The run's folder.
        sink: Hears of events; only the leading process emits any.
        validate: Measures the model between steps.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: DualEncoder,
        tokenizer: Tokenizer,
        source: Source,
        loader: Loader,
        world: World,
        placement: Placement,
        steps: int,
        folder: Path,
        *,
        sink: events.Sink = events.ignore,
        validate: Validate | None = None,
    ) -> None:
        self.config, self.tokenizer, self.source, self.loader = config, tokenizer, source, loader
        self.world, self.placement, self.steps = world, placement, steps
        self.folder, self.validate = folder, validate
        self.sink = sink if world.leads else events.ignore
        # The file may lie in a checkpoint that is pruned while the run goes on.
        self.tokenizer_json = tokenizer.path.read_bytes()
        self.progress = Progress()
        self.metrics: Mapping[str, float] = {}
        freeze(model, config.model.freeze)
        self.pair = TrainedPair(model, config.model, config.loss).to(placement.device).train()
        rest_frozen(self.pair)
        self.anchors = self._open_anchors()
        self.optimiser = build_optimiser(self.pair, config.optim)
        half = placement.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(placement.device.type, enabled=half)  # type: ignore[attr-defined]
        decay = config.model.ema
        self.average = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None
        )
        self.forward: nn.Module = self.pair
        if world.group is not None:
            devices = [placement.device.index] if placement.device.type == "cuda" else None
            self.forward = DistributedDataParallel(
                self.pair, device_ids=devices, process_group=world.group, gradient_as_bucket_view=True
            )

    @property
    def batch(self) -> int:
        """Samples in one step, over all processes."""
        return self.config.run.batch_size * self.config.run.accumulate * self.world.size

    def run(self, stop: StopRequests) -> int:
        """Train to the end, or until somebody asks to stop; returns the signal that came, or 0.

        Raises:
            NonFiniteLossError: The loss is not finite and the policy is to stop; weights are as before that step.
            DataError: Data that cannot be used.
        """
        run = self.config.run
        save_every = run.save_every or max(1, self.steps // 10)
        eval_every = run.eval_every or max(1, self.steps // 10)
        batches = self.loader.batches(self.progress.step)
        while self.progress.step < self.steps:
            with watching():
                asked = self._step(batches, stop)
            step, last = self.progress.step, self.progress.step == self.steps
            if step % self.loader.steps_per_epoch == 0:
                self._end_epoch(step // self.loader.steps_per_epoch)
            if self.validate is not None and (step % eval_every == 0 or last):
                self._measure()
            if step % save_every == 0 or last or asked:
                self._save()
            if asked and not last:
                return asked
        return 0

    def _step(self, batches: Iterator[list[Batch]], stop: StopRequests) -> int:
        """One optimiser step; returns the signal that some process got, or 0."""
        begin = time.perf_counter()
        step, optim = self.progress.step + 1, self.config.optim
        parts = next(batches)
        wait = time.perf_counter() - begin
        rate = learning_rate(step, self.steps, optim)
        set_learning_rate(self.optimiser, rate)
        self.optimiser.zero_grad(set_to_none=True)
        loss, seen = self._backward(parts, step)
        self.scaler.unscale_(self.optimiser)
        limit = optim.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.pair.parameters(), limit)
        finite = bool(loss.isfinite()) and (self.scaler.is_enabled() or bool(norm.isfinite()))
        faults = sum(len(part.faults) for part in parts)
        mine = _Status(float(stop.number), float(finite), float(faults), time.perf_counter() - begin - wait)
        everybody = self.world.gather(list(mine))
        scale = float(self.pair.model.logit_scale.detach().exp())
        if bool(everybody[:, 1].all()):
            self._update()
        else:
            self._not_finite(step, loss, seen, parts)
        self.progress.step = step
        self.progress.faults += int(everybody[:, 2].sum())
        for part in parts:
            for fault in part.faults:
                self.sink(events.Noticed(fault))
        self.sink(
            events.StepFinished(
                step=step,
                epoch=step / self.loader.steps_per_epoch,
                samples=step * self.batch,
                loss=float(loss),
                lr=rate,
                logit_scale=scale,
                seconds=time.perf_counter() - begin,
                wait=wait,
                grad_norm=float(norm),
                memory=self._memory(),
                skipped=self.progress.skipped,
                loss_scale=self.scaler.get_scale() if self.scaler.is_enabled() else None,
                bad_samples=self.progress.faults,
                rank_seconds=tuple(everybody[:, 3].tolist()) if self.world.size > 1 else (),
            )
        )
        return int(everybody[:, 0].max())

    def _backward(self, parts: list[Batch], step: int) -> tuple[Tensor, dict[int, PairEmbeddings]]:
        """Gradients of the step's loss; returns the loss and this process's embeddings, part by part."""
        seen: dict[int, PairEmbeddings] = {}

        def encode(part: int) -> tuple[Tensor, ...]:
            self._seed(step, part)
            with self.placement.autocast():
                tensors = (*parts[part][:3], parts[part].boxes_B4)
                found = self.forward(
                    *(tensor.to(self.placement.device, non_blocking=True) for tensor in tensors if tensor is not None)
                )
            seen[part] = found.detached()
            return found if found.bias is not None else found[:3]

        if self.config.run.grad_cache and len(parts) > 1:
            loss = cached_backward(encode, len(parts), self._loss, scaler=self.scaler, no_sync=self._no_sync)
            return loss, seen
        total = torch.zeros((), device=self.placement.device)
        for part in range(len(parts)):
            with nullcontext() if part == len(parts) - 1 else self._no_sync():
                loss = self._loss(*encode(part)) / len(parts)
                if self.anchors is not None and part == len(parts) - 1:
                    # In one backward pass with the last part, so that ranks are averaged once.
                    loss = loss + self._anchor_loss(step)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        return total, seen

    def _loss(self, image_BD: Tensor, text_BD: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        kind, tile = self.config.loss.kind, self.config.loss.tile
        return contrastive_loss(image_BD, text_BD, scale, kind=kind, bias=bias, tile=tile, group=self.world.group)

    def _open_anchors(self) -> Anchors | None:
        loss = self.config.loss
        if loss.anchors is None:
            return None
        model, device = self.pair.model, self.placement.device
        return Anchors(Path(loss.anchors), self.tokenizer, model.text.width, loss.anchor_batch, device)

    def _anchor_loss(self, step: int) -> Tensor:
        assert self.anchors is not None, "only called with some"
        loss = self.config.loss
        seed = int(np.random.SeedSequence([self.config.run.seed, step]).generate_state(1)[0])
        with self.placement.autocast():
            return loss.anchor_weight * self.anchors.loss(self.pair.model, seed, loss.anchor_scale)

    def _no_sync(self) -> AbstractContextManager[Any]:
        return self.forward.no_sync() if isinstance(self.forward, DistributedDataParallel) else nullcontext()

    def _seed(self, step: int, part: int) -> None:
        words = np.random.SeedSequence([self.config.run.seed, step, self.world.rank, part])
        torch.manual_seed(int(words.generate_state(1)[0]))

    def _update(self) -> None:
        before = self.scaler.get_scale()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < before:
            self.progress.skipped += 1
            return
        self.pair.clamp_scale()
        if self.average is not None:
            self.average.update_parameters(self.pair.model)

    def _not_finite(self, step: int, loss: Tensor, seen: dict[int, PairEmbeddings], parts: list[Batch]) -> None:
        """Every process comes here together; weights have not moved."""
        broken = [key for part, embeddings in seen.items() for key in _not_finite_keys(embeddings, parts[part])]
        reports = self.world.gather_objects(broken[:3])
        where = "; ".join(f"process {rank}: {', '.join(keys)}" for rank, keys in enumerate(reports) if keys)
        text = (
            f"the loss is {float(loss)} at step {step}"
            + (f", from {where}" if where else ", though every embedding is finite")
            + f"; weights are those of step {step - 1}"
        )
        if self.config.run.nan_policy == "stop":
            raise NonFiniteLossError(text)
        self.progress.skipped += 1
        if self.scaler.is_enabled():
            self.scaler.update()
        self.sink(events.Noticed(f"{text}; the step was left out", serious=True))

    def _memory(self) -> int:
        if self.placement.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.placement.device)
        # Kilobytes, but on macOS, where it is bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def _end_epoch(self, epoch: int) -> None:
        trained, replaced = self.loader.steps_per_epoch * self.batch, self.progress.faults - self.progress.faults_before
        self.progress.faults_before = self.progress.faults
        counts = {**self.source.counts(), "trained": trained, "replaced": replaced}
        self.sink(events.EpochFinished(epoch, counts))

    @property
    def measured(self) -> DualEncoder:
        """What is validated and kept at the end: the moving average if there is one."""
        return self.average.module if self.average is not None else self.pair.model  # type: ignore[return-value]

    def _measure(self) -> None:
        assert self.validate is not None, "only called with one"
        begin = time.perf_counter()
        self.metrics, pictures = self.validate(self.measured, self.tokenizer, self.placement)
        seconds = time.perf_counter() - begin
        self.sink(events.Validated(self.progress.step, dict(self.metrics), pictures, seconds))
        self.world.wait()

    def _save(self) -> None:
        """The leading process writes; the others wait."""
        if self.world.leads:
            begin, folder, step = time.perf_counter(), self.folder / "checkpoints", self.progress.step
            card = model_card(self.pair.model, self.config, step, self.metrics)
            path = checkpoint.save(folder, step, self.pair.model, self.tokenizer_json, card, self.state())
            best = self._is_best(folder)
            checkpoint.prune(folder, self.config.run.keep)
            self.sink(events.CheckpointSaved(step, path, time.perf_counter() - begin, best))
        self.world.wait()

    def _is_best(self, folder: Path) -> bool:
        metric = self.config.run.best
        if metric is None or metric not in self.metrics:
            return False
        before = checkpoint.best_of(folder)
        if before is not None and before["metric"] == metric and before["value"] >= self.metrics[metric]:
            return False
        checkpoint.name_best(folder, self.progress.step, metric, self.metrics[metric])
        return True

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs besides the model's weights."""
        return {
            "config": self.config.to_dict(),
            "world": self.world.size,
            "samples": len(self.source),
            "progress": vars(self.progress).copy(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "bias": self.pair.bias.detach().clone() if self.pair.bias is not None else None,
            "metrics": dict(self.metrics),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave; weights were loaded with the model."""
        self.progress = Progress(**state["progress"])
        self.metrics = state["metrics"]
        self.optimiser.load_state_dict(state["optimiser"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])
        if self.pair.bias is not None and state["bias"] is not None:
            self.pair.bias.data.copy_(state["bias"])


def _not_finite_keys(embeddings: PairEmbeddings, part: Batch) -> list[str]:
    finite_B = embeddings.image_BD.isfinite().all(1) & embeddings.text_BD.isfinite().all(1)
    return [part.keys[row] for row in (~finite_B).nonzero().flatten().tolist()]


def model_card(model: DualEncoder, config: TrainConfig, step: int, metrics: Mapping[str, float]) -> str:
    """The model card of a checkpoint, with the Hugging Face hub's metadata header."""
    figures = "".join(f"| {name} | {value:.4f} |\n" for name, value in metrics.items())
    return (
        "---\nlibrary_name: clippy-vlm\npipeline_tag: image-segmentation\n---\n"
        f"# {model.config.name}, step {step}\n\n"
        f"Trained by `clippy train` on {', '.join(config.data.sources)}: {config.loss.kind}, "
        f"{model.config.vision.pool} pooling, {step} steps.\n"
        + (f"\n| metric | value |\n|---|---|\n{figures}" if figures else "")
    )


def signal_name(number: int) -> str:
    """``SIGTERM`` and the like."""
    return signal.Signals(number).name

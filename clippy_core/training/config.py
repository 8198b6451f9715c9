"""What a training run is, as data. Imports no torch.

A run is described by one :class:`TrainConfig`; the file ``config.toml`` in the run's folder holds all of it and
repeats the run.
"""

from dataclasses import dataclass, field
from typing import Any

from clippy_core.configuration import FromDict, check_types, require
from clippy_core.errors import ConfigError
from clippy_core.model.config import IMAGE_POOLS

LOSSES = ("infonce", "siglip")
OPTIMISERS = ("adamw", "lamb")
SCHEDULES = ("cosine", "linear", "constant")
TRAIN_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
REPORTS = ("rich", "jsonl", "tensorboard", "wandb")
MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class DataConfig(FromDict):
    """What to train on.

    Attributes:
        sources: Shards with braces or globs (``shards/{0000..0099}.tar``), a shard list (``.json``), ``pipe:``
            commands, ``http(s)`` addresses, ``.csv``/``.tsv`` files, folders of pictures with captions, or ``shapes``.
        samples: Samples in an epoch; None for all there are (20,000 for ``shapes``, which never end).
        size: Side in pixels of the square pictures trained on; None for the model's own.
        crop: Smallest share of a picture's area that a random crop keeps, 0…1; 1 takes the whole picture, squashed.
        flip: Mirror half of the pictures. Off by default, because captions say left and right.
        workers: Processes a rank that read and decode; 0 does it in the training process.
        shuffle_shards: How many shards are mixed with each other at a time; order inside such a group is random.
        strict: Stop at the first sample or shard that cannot be used instead of counting it.
        image_column: Column of a table with the picture's path.
        caption_column: Column of a table with the caption.
        shard_cache_gb: Room, in 10^9 bytes, for shards that are fetched by ``pipe:`` or ``http(s)``.
    """

    sources: tuple[str, ...] = ("shapes",)
    samples: int | None = None
    size: int | None = None
    crop: float = 0.9
    flip: bool = False
    workers: int = 2
    shuffle_shards: int = 16
    strict: bool = False
    image_column: str = "filepath"
    caption_column: str = "caption"
    shard_cache_gb: float = 50.0

    def __post_init__(self) -> None:
        check_types(self, "data.")
        require(len(self.sources) > 0 and all(self.sources), "data.sources", self.sources, "at least one")
        require(self.samples is None or self.samples > 0, "data.samples", self.samples, "1 or more")
        require(self.size is None or self.size >= 16, "data.size", self.size, "16 pixels or more")
        require(0 < self.crop <= 1, "data.crop", self.crop, "above 0 and at most 1")
        require(self.workers >= 0, "data.workers", self.workers, "0 or more")
        require(self.shuffle_shards > 0, "data.shuffle_shards", self.shuffle_shards, "1 or more")
        require(self.shard_cache_gb > 0, "data.shard_cache_gb", self.shard_cache_gb, "above 0")


@dataclass(frozen=True)
class StartConfig(FromDict):
    """Which model, and where it starts.

    Attributes:
        name: A model that ``clippy models`` lists, or its directory.
        init_vision: Where the image tower starts: ``random``, ``timm:NAME``, ``hf:ID`` or a directory; None for the
            model's own weights if they are on this machine, else for what the preset says.
        init_text: The same for the text tower.
        pool: ``max``, ``mean`` or ``cls`` instead of the model's own pooling.
        freeze: Beginnings of parameter names that are not trained, such as ``text`` or ``vision.trunk.blocks.0.``.
        patch_dropout: Share of patch tokens that the image tower drops while training, 0…1.
        grad_checkpointing: Recompute activations of both towers instead of keeping them.
        compile: Compile both towers with ``torch.compile``.
        ema: Decay a step of an exponential moving average of the weights, such as 0.9999; None for none.
    """

    name: str = "clippy-micro"
    init_vision: str | None = None
    init_text: str | None = None
    pool: str | None = None
    freeze: tuple[str, ...] = ()
    patch_dropout: float = 0.0
    grad_checkpointing: bool = False
    compile: bool = False
    ema: float | None = None

    def __post_init__(self) -> None:
        check_types(self, "model.")
        require(self.pool is None or self.pool in IMAGE_POOLS, "model.pool", self.pool, f"one of {_or(IMAGE_POOLS)}")
        require(0 <= self.patch_dropout < 1, "model.patch_dropout", self.patch_dropout, "0 up to, but not including, 1")
        require(self.ema is None or 0 < self.ema < 1, "model.ema", self.ema, "between 0 and 1")


@dataclass(frozen=True)
class LossConfig(FromDict):
    """What is minimised.

    Attributes:
        kind: ``infonce`` (symmetric, over the global batch, the paper's) or ``siglip`` (pairwise sigmoid).
        tile: Rows and columns of the similarity matrix that are held at a time; bounds the loss's memory.
        scale: Factor on cosines at the start; None for the model's own (infonce) or 10 (siglip).
        bias: Bias on logits at the start, for ``siglip``.
        anchors: File of texts tied to fixed directions, which a model is not to forget; see ``training/anchors.py``.
        anchor_weight: Factor on the anchors' loss.
        anchor_batch: Anchors drawn in a step.
        anchor_scale: Factor on cosines in the anchors' loss.
    """

    kind: str = "infonce"
    tile: int = 4096
    scale: float | None = None
    bias: float = -10.0
    anchors: str | None = None
    anchor_weight: float = 1.0
    anchor_batch: int = 128
    anchor_scale: float = 40.0

    def __post_init__(self) -> None:
        check_types(self, "loss.")
        require(self.anchor_weight >= 0, "loss.anchor_weight", self.anchor_weight, "0 or more")
        require(self.anchor_batch > 1, "loss.anchor_batch", self.anchor_batch, "2 or more")
        require(self.anchor_scale > 0, "loss.anchor_scale", self.anchor_scale, "above 0")
        require(self.kind in LOSSES, "loss.kind", self.kind, f"one of {_or(LOSSES)}")
        require(self.tile > 0, "loss.tile", self.tile, "1 or more")
        require(self.scale is None or 0 < self.scale <= 100, "loss.scale", self.scale, "above 0 and at most 100")


@dataclass(frozen=True)
class OptimConfig(FromDict):
    """How weights move.

    Attributes:
        kind: ``adamw`` or ``lamb``.
        lr: Peak learning rate.
        lr_vision: Factor on ``lr`` for the image tower.
        lr_text: Factor on ``lr`` for the text tower.
        weight_decay: Decoupled weight decay; not applied to biases, norms and the logit scale.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        eps: Added to the root of the second moment.
        warmup: Steps over which the learning rate rises from 0, fewer than the run has; below 1, a share of the run.
        schedule: ``cosine`` or ``linear`` down to ``final_lr``, or ``constant``.
        final_lr: Share of ``lr`` at the last step, 0…1.
        clip_norm: Largest norm of the gradient; 0 for no clipping.
    """

    kind: str = "adamw"
    lr: float = 5e-4
    lr_vision: float = 1.0
    lr_text: float = 1.0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    warmup: float = 0
    schedule: str = "cosine"
    final_lr: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        check_types(self, "optim.")
        require(self.kind in OPTIMISERS, "optim.kind", self.kind, f"one of {_or(OPTIMISERS)}")
        require(self.schedule in SCHEDULES, "optim.schedule", self.schedule, f"one of {_or(SCHEDULES)}")
        for name in ("lr", "lr_vision", "lr_text", "weight_decay", "warmup", "clip_norm"):
            require(0 <= getattr(self, name) < float("inf"), f"optim.{name}", getattr(self, name), "0 or more")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"optim.{name}", getattr(self, name), "0 up to, not including, 1")
        require(self.eps > 0, "optim.eps", self.eps, "above 0")
        require(0 <= self.final_lr <= 1, "optim.final_lr", self.final_lr, "0 to 1")


@dataclass(frozen=True)
class RunConfig(FromDict):
    """How long, how large, how often.

    Attributes:
        name: Name of the run and of its folder in ``out``; None for one made of the model and the time.
        out: Folder for runs.
        device: ``auto`` (GPUs if there are any), ``cpu`` or ``cuda``.
        processes: Processes on every machine; with ``cuda``, each has a GPU of its own.
        nodes: Machines.
        batch_size: Samples a process in one forward pass.
        accumulate: Forward passes a step; the batch of a step is ``batch_size`` × processes × this.
        grad_cache: Contrast over the whole accumulated batch, at the price of a second forward pass, instead of
            averaging the losses of its parts.
        steps: Optimiser steps; None to count in epochs.
        epochs: Passes over the data, if ``steps`` is None.
        precision: ``auto`` (bf16 on a GPU that has it, else fp16; fp32 on a CPU), ``fp32``, ``bf16`` or ``fp16``.
        seed: Decides initialisation, order, crops and dropout.
        save_every: Steps between checkpoints; None for ten over the run.
        keep: How many of the latest checkpoints stay.
        eval_every: Steps between validations; None for ten over the run.
        evaluate: Validations, each ``BENCHMARK=DIR``, or ``shapes``, which needs no folder; None for ``shapes`` if that
            is what the run is trained on, else nothing.
        best: Metric of a validation whose best checkpoint is kept, such as ``shapes/mIoU``; None for none.
        report: Who hears of progress besides ``metrics.jsonl``: ``rich``, ``tensorboard``, ``wandb``.
        nan_policy: On a loss that is not finite: ``stop``, or ``skip`` that step on every rank.
        timeout: Seconds without an answer from another process after which a run gives up.
    """

    name: str | None = None
    out: str = "runs"
    device: str = "auto"
    processes: int = 1
    nodes: int = 1
    batch_size: int = 64
    accumulate: int = 1
    grad_cache: bool = True
    steps: int | None = None
    epochs: int = 10
    precision: str = "auto"
    seed: int = 0
    save_every: int | None = None
    keep: int = 3
    eval_every: int | None = None
    evaluate: tuple[str, ...] | None = None
    best: str | None = None
    report: tuple[str, ...] = ("rich", "jsonl")
    nan_policy: str = "stop"
    timeout: float = 600.0

    def __post_init__(self) -> None:
        check_types(self, "run.")
        require(self.device in ("auto", "cpu", "cuda"), "run.device", self.device, "auto, cpu or cuda")
        for name in ("batch_size", "accumulate", "epochs", "keep", "processes", "nodes"):
            require(getattr(self, name) > 0, f"run.{name}", getattr(self, name), "1 or more")
        for name in ("steps", "save_every", "eval_every"):
            value = getattr(self, name)
            require(value is None or value > 0, f"run.{name}", value, "1 or more")
        require(self.precision in TRAIN_PRECISIONS, "run.precision", self.precision, f"one of {_or(TRAIN_PRECISIONS)}")
        require(0 <= self.seed <= MAX_SEED, "run.seed", self.seed, f"0 to {MAX_SEED}")
        require(self.nan_policy in ("stop", "skip"), "run.nan_policy", self.nan_policy, "stop or skip")
        for report in self.report:
            require(report in REPORTS, "run.report", report, f"one of {_or(REPORTS)}")
        for item in self.evaluate or ():
            require(bool(item.partition("=")[0].strip()), "run.evaluate", item, "BENCHMARK=DIR or shapes")
        well_formed = self.name is None or (self.name not in ("", ".", "..") and not set(self.name) & set("/\\\0\n"))
        require(well_formed, "run.name", self.name, "a folder's name without slashes")
        require(self.out != "", "run.out", self.out, "a folder, which is made if it is missing")
        require(self.timeout > 0, "run.timeout", self.timeout, "above 0")


@dataclass(frozen=True)
class TrainConfig(FromDict):
    """A training run: tables of a TOML file, addressed as ``optim.lr`` by ``--set``."""

    data: DataConfig = field(default_factory=DataConfig)
    model: StartConfig = field(default_factory=StartConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        for name, kind in TABLES.items():
            value: Any = getattr(self, name)
            if isinstance(value, kind):
                continue
            try:
                object.__setattr__(self, name, kind.from_dict(value))
            except ConfigError as error:
                raise ConfigError(
                    str(error).replace(f"{kind.__name__} has no field", f"{name} has no field")
                ) from error
        if self.loss.anchors and self.run.grad_cache and self.run.accumulate > 1:
            raise ConfigError(
                "loss.anchors is set, and run.accumulate is above 1; accepted then: run.grad_cache = false"
            )


TABLES: dict[str, type[FromDict]] = {
    "data": DataConfig,
    "model": StartConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "run": RunConfig,
}
"""The tables of a configuration file and the classes that check them."""


def _or(words: tuple[str, ...]) -> str:
    return ", ".join(words)

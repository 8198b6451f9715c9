"""Samples per second of one training step, ours and OpenCLIP's, on the same towers, batch and precision.

    python benchmarks/train_step.py                       every case, to train_step.csv beside this file
    python benchmarks/train_step.py --batch 32 --steps 11 another batch, another number of timed steps

Both sides get the same decoded pictures and token numbers; the towers are built by timm and transformers on both. The
peer is ``open_clip_torch``: its ``CustomTextCLIP`` with its ``ClipLoss``, AdamW and clipping, in the order of
``open_clip_train.train.train_one_epoch``, which takes float pictures that its loader has normalised. Ours is
``Trainer._step`` whole: normalisation, seeding, loss, what processes tell each other, clipping, optimiser, event.

Steps alternate, ours and theirs, so that a machine that changes its mind does so for both. ``floor`` is the towers'
forward and backward pass alone, from our step's own inputs. Reported are medians, and the median of the ratios of
neighbouring steps.
"""

import argparse
import csv
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from surroundings import surroundings
from torch import Tensor

from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.device import place
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.presets import find
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.training.config import OptimConfig, TrainConfig
from clippy_core.training.data import Batch
from clippy_core.training.data.shapes import ShapesSource
from clippy_core.training.distributed import World
from clippy_core.training.loop import Trainer
from clippy_core.training.stop import StopRequests

HERE = Path(__file__).resolve()
WIDTH = 256
BERT = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "max_position_embeddings": 77,
}
BACKBONES = {
    "ViT-Ti/16": "vit_tiny_patch16_224",
    "ViT-S/16": "vit_small_patch16_224",
    "ViT-B/16": "vit_base_patch16_224",
}
LENGTH = 32
OPTIM = OptimConfig(lr=1e-4, weight_decay=0.1, schedule="constant")


def batch_of(size: int) -> Batch:
    """Noise: what is in a picture does not change what a step costs."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (size, 224, 224, 3), generator=generator, dtype=torch.uint8).permute(0, 3, 1, 2)
    ids = torch.randint(1000, 30000, (size, LENGTH), generator=generator)
    return Batch(pixels, ids, torch.ones_like(ids), tuple(map(str, range(size))), ())


class Repeated:
    """The same batch for ever, as a loader."""

    steps_per_epoch = 10**9

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def batches(self, step: int) -> Iterator[list[Batch]]:
        """One part a step."""
        while True:
            yield [self.batch]


def ours(backbone: str, batch: Batch, precision: str, device: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A step of the trainer, and its floor."""
    vision = VisionConfig(BACKBONES[backbone], pool="cls", projection=WIDTH)
    text = TextConfig(BERT, projection=WIDTH, max_tokens=LENGTH)
    model = DualEncoder(ModelConfig("bench", vision, text))
    placement = place(device, precision)
    config = TrainConfig.from_dict({"optim": OPTIM, "run": {"batch_size": len(batch.keys), "precision": precision}})
    tokenizer = Tokenizer(find("clippy-lite") / "tokenizer.json", LENGTH)
    source, loader = ShapesSource(1), Repeated(batch)
    trainer = Trainer(
        config, model, tokenizer, source, loader, World(0, 1, placement.device), placement, 10**9, Path(),  # type: ignore[arg-type]
    )  # fmt: skip
    batches, stop = loader.batches(0), StopRequests()

    def floor() -> None:
        with placement.autocast():
            found = trainer.pair(*(tensor.to(placement.device) for tensor in batch[:3]))
        torch.autograd.backward([found.image_BD, found.text_BD], [found.image_BD.detach(), found.text_BD.detach()])
        trainer.optimiser.zero_grad(set_to_none=True)

    return lambda: trainer._step(batches, stop), floor


def theirs(backbone: str, batch: Batch, precision: str, device: str) -> Callable[[], Any]:
    """A step as ``open_clip_train.train.train_one_epoch`` takes it."""
    from open_clip.loss import ClipLoss  # pyright: ignore[reportMissingImports]
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(BERT))
        vision = CLIPVisionCfg(
            timm_model_name=BACKBONES[backbone], timm_pool="token", timm_proj="linear", image_size=224
        )
        text = CLIPTextCfg(
            hf_model_name=folder, hf_model_pretrained=False, hf_proj_type="linear", hf_pooler_type="mean_pooler",
            context_length=LENGTH, vocab_size=BERT["vocab_size"],
        )  # fmt: skip
        model = CustomTextCLIP(WIDTH, vision, text, output_dict=True).to(device).train()
    loss = ClipLoss(local_loss=True, gather_with_grad=True)
    excluded = [p for n, p in model.named_parameters() if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n]
    names = {id(p) for p in excluded}
    rest = [p for p in model.parameters() if id(p) not in names]
    groups = [{"params": excluded, "weight_decay": 0.0}, {"params": rest, "weight_decay": OPTIM.weight_decay}]
    optimiser = torch.optim.AdamW(groups, lr=OPTIM.lr, betas=(OPTIM.beta1, OPTIM.beta2), eps=OPTIM.eps)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    pixels = (batch.pixels_B3HW.float() / 255 - 0.45) / 0.27

    def step() -> Tensor:
        images, texts = pixels.to(device), batch.ids_BL.to(device)
        optimiser.zero_grad()
        with torch.autocast(device, dtype=dtype, enabled=precision != "fp32"):
            total = sum(loss(**model(images, texts), output_dict=True).values())
        total.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIM.clip_norm, norm_type=2.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        return total  # type: ignore[return-value]

    return step


def timed(call: Callable[[], Any], device: str) -> float:
    """Seconds of one call, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(backbone: str, size: int, precision: str, device: str, steps: int) -> dict[str, Any]:
    """One case: alternating steps, medians and the median of neighbours' ratios."""
    batch = batch_of(size)
    step, floor = ours(backbone, batch, precision, device)
    calls = {"ours": step, "open_clip": theirs(backbone, batch, precision, device), "floor": floor}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(steps + 2):
        for name, call in calls.items():
            taken = timed(call, device)
            if number > 1:
                seconds[name].append(taken)
    ratios = [peer / own for own, peer in zip(seconds["ours"], seconds["open_clip"], strict=True)]
    return {
        "backbone": backbone, "batch": size, "precision": precision, "steps": steps,
        "ours_samples_s": round(size / statistics.median(seconds["ours"]), 2),
        "open_clip_samples_s": round(size / statistics.median(seconds["open_clip"]), 2),
        "ratio": round(statistics.median(ratios), 3),
        "share_of_floor": round(statistics.median(seconds["floor"]) / statistics.median(seconds["ours"]), 3),
        "memory_mb": round(torch.cuda.max_memory_allocated() / 1e6) if device == "cuda" else "",
        "threads": torch.get_num_threads(), **surroundings(device, "open_clip_torch"),
    }  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--backbones", nargs="*", default=["ViT-Ti/16", "ViT-S/16"], choices=list(BACKBONES))
    parser.add_argument("--precisions", nargs="*", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".csv"))
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for backbone in given.backbones:
        for precision in given.precisions:
            rows.append(measure(backbone, given.batch, precision, device, given.steps))
            print(rows[-1], flush=True)
    with open(given.out, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

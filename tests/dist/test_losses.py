import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from clippy_core.errors import DataError
from clippy_core.training.grad_cache import cached_backward
from clippy_core.training.losses import contrastive_loss

KINDS = ("infonce", "siglip")
SCALES = ((14.0, -10.0), (100.0, 2.0))
"""Scale and bias."""
BATCH, WIDTH = 5, 8
RANKS = (2, 3)


def embeddings(ranks: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    image, other = (normalize(torch.randn(BATCH * ranks, WIDTH, generator=random), dim=1) for _ in range(2))
    return image, normalize(image + other, dim=1)


def loss_and_gradients(
    kind: str, image: Tensor, text: Tensor, scale: float, bias: float, group: dist.ProcessGroup | None = None
) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in (image, text, torch.tensor(scale), torch.tensor(bias))]
    value = contrastive_loss(*leaves[:3], kind=kind, bias=leaves[3], tile=3, group=group)
    value.backward()
    return [value.detach(), *(torch.zeros(()) if x.grad is None else x.grad for x in leaves)]


class Towers(nn.Module):
    """Two small towers, a scale and a bias, without chance."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, 6)
        self.scale, self.bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-3.0))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        return normalize(self.image(image), dim=1), normalize(self.text(text), dim=1), self.scale.exp(), self.bias


def train(kind: str, inputs: tuple[Tensor, Tensor], parts: int, group: dist.ProcessGroup | None) -> list[Tensor]:
    """Losses and then weights of three steps."""
    torch.manual_seed(7)
    towers = Towers()
    if kind == "infonce":
        towers.bias.requires_grad_(False)
    model: Any = DistributedDataParallel(towers, process_group=group) if group else towers

    def loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return contrastive_loss(image, text, scale, kind=kind, bias=bias, tile=3, group=group)

    optimiser = torch.optim.SGD(towers.parameters(), lr=0.5)
    losses = []
    for _ in range(3):
        losses.append(
            cached_backward(
                lambda part: model(*(x[part::parts] for x in inputs)),
                parts,
                loss,
                no_sync=model.no_sync if group else None,
            )
        )
        optimiser.step()
        optimiser.zero_grad()
    return [*losses, *(p.detach() for p in towers.parameters())]


def of_group(rank: int, ranks: int, group: dist.ProcessGroup) -> dict[str, Any]:
    """What one process of several finds."""
    image, text = embeddings(ranks)
    mine = slice(rank * BATCH, (rank + 1) * BATCH)
    found: dict[str, Any] = {}
    for kind in KINDS:
        for scale, bias in SCALES:
            found[f"{kind} {scale}"] = loss_and_gradients(kind, image[mine], text[mine], scale, bias, group)
        for parts in (1, 2, 3):
            found[f"{kind} trained in {parts}"] = train(kind, (image[mine], text[mine]), parts, group)
    # The first rank's texts lie opposite to all images: its columns underflow, and no other rank's do.
    same, opposites = image[mine] * 0 + image[0], opposite(text, image[0])[mine]
    found["underflow"] = loss_and_gradients("infonce", same, opposites, 100.0, 0.0, group)
    try:
        contrastive_loss(image[: 3 + rank], text[: 3 + rank], torch.tensor(1.0), group=group)
    except DataError as error:
        found["unequal"] = str(error)
    return found


def opposite(text: Tensor, image_D: Tensor) -> Tensor:
    return torch.cat([-image_D.expand(BATCH, -1), text[BATCH:]])


def work(rank: int, folder: str) -> None:
    """One process of three; what two and then all three of them find is saved."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=max(RANKS))
    for ranks in RANKS:
        group = dist.new_group(list(range(ranks)))
        if rank < ranks:
            torch.save(of_group(rank, ranks, group), f"{folder}/{rank}-of-{ranks}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, clippy_environment: dict[str, str]) -> Path:
    """What the processes saved; each runs this file."""
    folder = tmp_path_factory.mktemp("ranks")
    with ExitStack() as stack:
        processes = []
        for rank in range(max(RANKS)):
            log = stack.enter_context(open(folder / f"{rank}.log", "w"))
            command = [sys.executable, "-W", "error", __file__, str(rank), str(folder)]
            process = stack.enter_context(subprocess.Popen(command, env=clippy_environment, stderr=log))
            stack.callback(process.kill)  # where one fails, the others would wait for it
            processes.append(process)
        deadline = time.monotonic() + 120
        while {p.poll() for p in processes} in ({None}, {None, 0}) and time.monotonic() < deadline:
            time.sleep(0.05)
    logs = "\n".join((folder / f"{rank}.log").read_text() for rank in range(max(RANKS)))
    assert {p.returncode for p in processes} == {0}, logs
    return folder


@pytest.fixture(params=RANKS)
def runs(request: pytest.FixtureRequest, folder: Path) -> list[dict[str, Any]]:
    """By rank, what each found."""
    return [torch.load(folder / f"{rank}-of-{request.param}.pt", weights_only=True) for rank in range(request.param)]


def check_share(runs: list[dict[str, Any]], name: str, whole: list[Tensor]) -> None:
    """Each rank has the global loss and W times its rows' gradients; the mean over ranks is that of scale and bias."""
    ranks = [run[name] for run in runs]
    assert all(torch.equal(rank[0], ranks[0][0]) for rank in ranks)
    assert torch.allclose(ranks[0][0], whole[0], rtol=1e-6)
    for i in (1, 2):
        together = torch.cat([rank[i] for rank in ranks]) / len(ranks)
        assert torch.allclose(together, whole[i], rtol=1e-5, atol=1e-5 * float(whole[i].abs().max()))
    for i in (3, 4):
        mean = sum(rank[i] for rank in ranks) / len(ranks)
        assert torch.allclose(mean, whole[i], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scale", "bias"), SCALES)
def test_ranks_share_the_global_loss(runs: list[dict[str, Any]], kind: str, scale: float, bias: float) -> None:
    whole = loss_and_gradients(kind, *embeddings(len(runs)), scale, bias)
    check_share(runs, f"{kind} {scale}", whole)


def test_one_rank_that_underflows(runs: list[dict[str, Any]]) -> None:
    image, text = embeddings(len(runs))
    inputs = image * 0 + image[0], opposite(text, image[0])
    check_share(runs, "underflow", loss_and_gradients("infonce", *inputs, 100.0, 0.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_training_equals_one_process(runs: list[dict[str, Any]], kind: str, parts: int) -> None:
    whole = train(kind, embeddings(len(runs)), 1, None)
    for run in runs:
        for found, expected in zip(run[f"{kind} trained in {parts}"], whole, strict=True):
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_unequal_batches_are_refused_on_every_rank(runs: list[dict[str, Any]]) -> None:
    each = ", ".join(f"{3 + rank} × {WIDTH}" for rank in range(len(runs)))
    for run in runs:
        assert run["unequal"].startswith(f"ranks hold {each} embeddings, but all must hold the same")
        assert "\n" not in run["unequal"]


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])

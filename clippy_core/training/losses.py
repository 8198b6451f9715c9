"""Contrastive losses over the global batch, exact, in tiles of the similarity matrix.

B pair of this rank, N pair of the global batch (B x ranks), D embedding; r/c row and column of a tile; x/y one side's
embeddings and the other's. ``reference_losses.py`` defines what is correct.

Bytes and flops at N = 32,768, D = 768, float32, one process. Plain: logits, two log-softmaxes and their gradients, each
a matrix of 4.3 GB, written once and read once or more (about 40 GB moved); 3 products of 2·N²·D = 1.65 Tflop. Here: 4
products for InfoNCE (the backward pass computes the tiles again) and no matrix at all: a tile stays in the cache from
its product to its last use, and what moves is the embeddings, once for every row of tiles. As much of the matrix as
fits in ``tile``² values is kept from forward to backward, so up to N = ``tile`` nothing is computed twice. SigLIP needs
no normaliser: its gradients are made in the forward pass, with 3 products. Memory beyond the inputs: their gradients,
at most ``tile``² kept values, and two working tiles.

Over W ranks: each rank gathers all embeddings (N·D values a side, in their own dtype) and, for InfoNCE, the log-sum-exp
of every row and column (2·N values). It then has all it needs for the complete gradient of its own rows, so gradients
are never sent. It computes its rows and its columns of the matrix: 6 products of 2·B·N·D flops for InfoNCE, 4 for
SigLIP.

How the numbers stay exact:

- A row's positive is kept apart from its negatives: with p the positive's logit and n the log-sum-exp of the others,
  the cross entropy is softplus(n − p) and the positive's gradient −σ(n − p). Neither cancels when the loss is small.
- One exponential serves rows and columns, exp(logit − shift). The shift is such that it never overflows. It would
  underflow where a whole row lies some 70 below the largest logit there can be; that is looked for, and the pass is
  then repeated in float64.
- Half-precision embeddings are read as float32, tile by tile: products in their own dtype would round the logits.
"""

import itertools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from clippy_core.errors import ConfigError, DataError
from clippy_core.training.config import LOSSES
from clippy_core.training.distributed import all_gather
from clippy_core.training.similarity_tiles import Block, Plan, Tile, in_blocks, row_dots, shaped

LOWEST = 69.0
"""Float32 exponentials of less than -LOWEST are taken for underflowing; those just above keep their full precision."""
HIGHEST = 80.0
"""From here on log(1 + exp(logit)) is the logit, to the last digit of float64 too."""


def contrastive_loss(
    image_BD: Tensor,
    text_BD: Tensor,
    scale: Tensor,
    *,
    kind: str = "infonce",
    bias: Tensor | None = None,
    tile: int = 4096,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Loss of the global batch, the same number on every rank; row i of both sides belongs together.

    Gradients are W times this rank's share of the global gradient, so that the mean over W ranks, which is what
    ``DistributedDataParallel`` takes, is the gradient of one process with the whole batch. They cannot be
    differentiated again. Autocast does not reach inside. On a GPU it waits for the device some three times, to read the
    scale and to see that nothing underflowed.

    Args:
        image_BD: Unit vectors; computed in float32 if half, in float64 if float64.
        text_BD: Unit vectors, same shape and dtype.
        scale: Factor on cosines, 0-d, above 0 and at most a few hundred.
        kind: ``infonce`` or ``siglip``; see ``reference_losses`` for both.
        bias: Added to logits, 0-d, for ``siglip``; ``infonce`` has no use for it, since a constant cancels.
        tile: Side of the tiles; at most about ``tile``² similarities are held between passes, besides two tiles.
        group: Ranks whose pairs make up the global batch; None for all, or for one process without
            ``torch.distributed``.

    Raises:
        ConfigError: The kind is unknown, the tile is not positive, or ``siglip`` has no bias.
        DataError: The sides differ in shape, or the ranks in number or width of embeddings.
    """
    if kind not in LOSSES:
        raise ConfigError(f"loss.kind is {kind!r}, but must be one of {', '.join(LOSSES)}")
    if tile < 1:
        raise ConfigError(f"loss.tile is {tile}, but must be 1 or more")
    if image_BD.ndim != 2 or image_BD.shape != text_BD.shape or not len(image_BD):
        shapes = f"{tuple(image_BD.shape)} and {tuple(text_BD.shape)}"
        raise DataError(f"image and text embeddings have shapes {shapes}, but must have the same (pairs, channels)")
    if kind == "siglip" and bias is None:
        raise ConfigError("loss.kind is 'siglip', which needs a bias on the logits, but none was given")
    ranks = _Ranks(group)
    ranks.check_equal(image_BD)
    train = torch.is_grad_enabled()
    loss: Any  # autograd.Function.apply is not typed
    if kind == "siglip":
        loss = _SigLip.apply(image_BD, text_BD, scale, bias, tile, ranks, train)
    else:
        loss = _InfoNce.apply(image_BD, text_BD, scale, tile, ranks, train)
    return loss


class _InfoNce(Function):
    """Forward: log-sum-exp of the negatives of every row and column. Backward: softmax weights times embeddings."""

    @staticmethod
    def forward(
        ctx: Any, image_BD: Tensor, text_BD: Tensor, scale: Tensor, tile: int, ranks: "_Ranks", train: bool
    ) -> Tensor:
        with _full_precision(image_BD):
            sides = ranks.gather_sides(image_BD, text_BD)
            plan = Plan.of(sides, tile, ranks.rank, scale)
            positive_B = plan.positives(sides)
            negative_2B, plan, kept = _negatives(plan, sides, tile * tile if train else 0)
            gap_2B = negative_2B - positive_B
            part_2B = _softplus(gap_2B)
            own = torch.cat([(positive_B + part_2B).flatten(), part_2B.sum()[None]])
            everyone = ranks.gather(own[None])
            lse_2N = everyone[:, :-1].unflatten(1, (2, -1)).movedim(1, 0).flatten(1)
            if plan.shift - float(lse_2N.min()) > LOWEST:  # another rank's rows
                plan, kept = plan._replace(dtype=torch.float64), [[] for _ in kept]
        ctx.plan, ctx.ranks, ctx.kept = plan, ranks, [len(tiles) for tiles in kept]
        diagonal_B = -torch.sigmoid(gap_2B).sum(0)
        ctx.save_for_backward(scale, lse_2N, diagonal_B, *sides, *itertools.chain(*kept))
        return everyone[:, -1].sum() / lse_2N.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, lse_2N, diagonal_B, *saved = ctx.saved_tensors
        blocks = in_blocks(ctx.plan, saved[: len(saved) - sum(ctx.kept)])
        kept = iter(saved[len(saved) - sum(ctx.kept) :])
        with _full_precision(diagonal_B):
            pulls: list[Tensor | None] = []
            for block, count, wanted in zip(blocks, ctx.kept, _wanted(ctx, len(blocks)), strict=True):
                block.kept = list(itertools.islice(kept, count))
                pulls += _softmax_pulls(block, lse_2N, diagonal_B, *wanted)
            factor = gradient * (ctx.ranks.size / lse_2N.numel())
            found = _spread(ctx, saved[:2], scale, _one_a_side(pulls), factor, last_use=True)
        return *found, None, None, None


class _SigLip(Function):
    """Forward: the loss and, where wanted, its gradients at once. Backward: a multiplication."""

    @staticmethod
    def forward(
        ctx: Any,
        image_BD: Tensor,
        text_BD: Tensor,
        scale: Tensor,
        bias: Tensor,
        tile: int,
        ranks: "_Ranks",
        train: bool,
    ) -> Tensor:
        with _full_precision(image_BD):
            sides = ranks.gather_sides(image_BD, text_BD)
            plan = Plan.of(sides, tile, ranks.rank, scale, bias)
            positive_B = plan.positives(sides)
            blocks = in_blocks(plan, sides)
            losses, slopes, pulls = [], [], []
            for block, (for_x, for_y) in zip(blocks, _wanted(ctx, len(blocks)), strict=True):
                if block.side == 1 and not (train and for_x):
                    pulls += [None, None]
                    continue
                loss, slope, *pull = _sigmoid_pulls(block, positive_B, train and for_x, train and for_y)
                losses, slopes, pulls = [*losses, loss], [*slopes, slope], [*pulls, *pull]
            total = ranks.gather(losses[0][None]).sum()
        ctx.ranks = ranks
        ctx.save_for_backward(scale, bias, slopes[0], image_BD, text_BD, *_one_a_side(pulls))
        return total / (len(image_BD) * ranks.size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, bias, slope, image_BD, text_BD, *pulls = ctx.saved_tensors
        factor = gradient / len(image_BD)  # W over the N pairs of the global batch
        with _full_precision(image_BD):
            found = _spread(ctx, (image_BD, text_BD), scale, pulls, factor)
        return *found, (slope * factor).to(bias).reshape(bias.shape), None, None, None


def _wanted(ctx: Any, blocks: int) -> list[tuple[bool, bool]]:
    """For each block, whether its rows' and its columns' pulls are wanted; the scale's gradient needs one side's."""
    for_image, for_text = ctx.needs_input_grad[:2]
    for_image = for_image or not for_text
    return [(for_image, for_text)] if blocks == 1 else [(for_image, False), (for_text, False)]


def _one_a_side(pulls: list[Tensor | None]) -> list[Tensor | None]:
    """From rows' and columns' pulls of one block, or of both: image's and text's."""
    return pulls if len(pulls) == 2 else [pulls[0], pulls[2]]


def _spread(
    ctx: Any,
    own: Sequence[Tensor],
    scale: Tensor,
    pulls: Sequence[Tensor | None],
    factor: Tensor,
    last_use: bool = False,
) -> list[Tensor | None]:
    """Gradients of image, text and scale from every row's pull, the weighted sum of the other side's embeddings.

    The loss sees the scale only as scale·cosine, so a row's share of that gradient is its embedding times its pull.
    """
    need_image, need_text, need_scale = ctx.needs_input_grad[:3]
    for_scale = None
    if need_scale:
        x_BD, pull_BD = next((x, pull) for x, pull in zip(own, pulls, strict=True) if pull is not None)
        for_scale = (row_dots(x_BD, pull_BD).sum() * factor).to(scale).reshape(scale.shape)
    found: list[Tensor | None] = []
    for x_BD, pull_BD, need in zip(own, pulls, (need_image, need_text), strict=True):
        if need and pull_BD is not None:
            out = pull_BD if last_use else None
            found.append(torch.mul(pull_BD, (factor * scale).to(pull_BD.dtype), out=out).to(x_BD.dtype))
        else:
            found.append(None)
    return [*found, for_scale]


class _Ranks:
    """The processes whose pairs make up the global batch; collectives carry no gradient."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        several = dist.is_available() and dist.is_initialized()
        self.group = group
        self.size = dist.get_world_size(group) if several else 1
        self.rank = dist.get_rank(group) if several else 0

    def gather(self, own_B: Tensor) -> Tensor:
        """Concatenate along the first dimension, in the order of ranks."""
        if self.size == 1:
            return own_B
        everyone = own_B.new_empty((self.size * len(own_B), *own_B.shape[1:]))
        all_gather(everyone, own_B.detach().contiguous(), group=self.group)
        return everyone

    def gather_sides(self, image_BD: Tensor, text_BD: Tensor) -> tuple[Tensor, ...]:
        """This rank's image and text embeddings and, if there are other ranks, everyone's."""
        if self.size == 1:
            return image_BD, text_BD
        return image_BD, text_BD, self.gather(image_BD), self.gather(text_BD)

    def check_equal(self, own_BD: Tensor) -> None:
        """Compare shapes before anything large is exchanged; a mismatch would hang or mix rows up."""
        if self.size == 1:
            return
        shapes = self.gather(torch.tensor([own_BD.shape], device=own_BD.device)).tolist()
        if any(shape != shapes[0] for shape in shapes):
            each = ", ".join(f"{pairs} × {channels}" for pairs, channels in shapes)
            raise DataError(f"ranks hold {each} embeddings, but all must hold the same number of pairs and channels")


def _negatives(plan: Plan, sides: Sequence[Tensor], room: int) -> tuple[Tensor, Plan, list[list[Tensor]]]:
    """Log-sum-exp of the negatives of each of this rank's images and texts, in which plan, and what was kept of it."""
    blocks = in_blocks(plan, sides)
    sums = [part for block in blocks for part in _sums(block, room // len(blocks), both=len(blocks) == 1)]
    sums_2B = torch.stack(sums)
    low, high = sums_2B.min(), sums_2B.max()
    fine = plan.dtype == torch.float64 or bool((low >= math.exp(-LOWEST)) & high.isfinite())
    if not fine and sides[-1].shape[0] > 1:
        return _negatives(plan._replace(dtype=torch.float64), sides, 0)
    negative_2B = (sums_2B.log() + plan.shift).to(torch.promote_types(sides[0].dtype, torch.float32))
    return negative_2B, plan, [block.kept for block in blocks]


def _sums(block: Block, room: int, both: bool) -> list[Tensor]:
    """Sums of the exponentials over each row and, if wanted, over each column."""
    of_rows_B, of_columns_N = block.zeros(block.x_BD[:, 0]), block.zeros(block.y_ND[:, 0])
    for tile, weights_rc in block.exponentials(room):
        of_rows_B[tile.rows] += weights_rc.sum(1)
        if both:
            of_columns_N[tile.columns] += weights_rc.sum(0)
    return [of_rows_B, of_columns_N] if both else [of_rows_B]


def _softmax_pulls(
    block: Block, lse_2N: Tensor, diagonal_B: Tensor, for_x: bool, for_y: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Rows' and columns' pulls; weights are the softmax over the row plus that over the column, less 2 for positives.

    softmax + softmax = exp(logit − shift) · (exp(shift − lse of the row) + exp(shift − lse of the column))
    """
    first, plan = block.plan.first, block.plan
    factor_2N = (plan.shift - lse_2N.to(plan.dtype)).exp()
    row_B = factor_2N[block.side, first : first + len(block.x_BD), None]
    column_N = factor_2N[1 - block.side]
    pull_x_BD = block.zeros(block.x_BD) if for_x else None
    pull_y_ND = block.zeros(block.y_ND) if for_y else None
    if not for_x and not for_y:
        return None, None
    flat = block.scratch()
    for tile, exp_rc in block.exponentials():
        weights_rc = torch.add(row_B[tile.rows], column_N[tile.columns], out=shaped(flat, tile)).mul_(exp_rc)
        weights_rc.diagonal(tile.offset).copy_(diagonal_B[tile.on])
        _pull(tile, weights_rc, pull_x_BD, pull_y_ND)
    return pull_x_BD, pull_y_ND


def _sigmoid_pulls(
    block: Block, positive_B: Tensor, for_x: bool, for_y: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Sum of the losses of a block, its derivative by the bias, and rows' and columns' pulls.

    With e = exp(logit) and u = fl(1 + e), a negative's loss is log(1 + e) = log u + (e − (u − 1)) / u, exact where e is
    small and four times as fast as ``log1p``; its derivative is e / u. Beyond HIGHEST the loss is the logit.
    """
    pull_x_BD = block.zeros(block.x_BD) if for_x else None
    pull_y_ND = block.zeros(block.y_ND) if for_y else None
    loss_B, slope_B = _softplus(-positive_B), block.zeros(positive_B)
    diagonal_B = -torch.sigmoid(-positive_B)
    flats = [block.scratch() for _ in range(3)]
    for tile in block.tiles():
        e_rc, u_rc, rest_rc = (shaped(flat, tile) for flat in flats)
        block.logits(tile, e_rc).diagonal(tile.offset).fill_(-math.inf)
        loss_B[tile.rows] += torch.sub(e_rc, HIGHEST, out=rest_rc).clamp_min_(0).sum(1)
        torch.add(e_rc.clamp_max_(HIGHEST).exp_(), 1, out=u_rc)
        torch.sub(e_rc, torch.sub(u_rc, 1, out=rest_rc), out=rest_rc).div_(u_rc)
        weights_rc = e_rc.div_(u_rc)
        loss_B[tile.rows] += rest_rc.add_(u_rc.log_()).sum(1)
        weights_rc.diagonal(tile.offset).copy_(diagonal_B[tile.on])
        slope_B[tile.rows] += weights_rc.sum(1)
        _pull(tile, weights_rc, pull_x_BD, pull_y_ND)
    return loss_B.sum(), slope_B.sum(), pull_x_BD, pull_y_ND


def _pull(tile: Tile, weights_rc: Tensor, pull_x_BD: Tensor | None, pull_y_ND: Tensor | None) -> None:
    if pull_x_BD is not None:
        pull_x_BD[tile.rows].addmm_(weights_rc, tile.y_cD)
    if pull_y_ND is not None:
        pull_y_ND[tile.columns].addmm_(weights_rc.T, tile.x_rD)


def _softplus(logits: Tensor) -> Tensor:
    """log(1 + exp(logits)) to the last digit; torch's own is the logits themselves from 20 on."""
    return torch.logaddexp(logits, torch.zeros_like(logits))


def _full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """Autocast would round logits to half precision."""
    return torch.autocast(tensor.device.type, enabled=False)

"""Backward passes in parts through a loss over all of them: the batch of a step may be larger than what fits at once.

Source: Gao et al. 2021, *Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup* (arXiv 2101.06983).

A contrastive loss needs the embeddings of the whole batch, but not the activations behind them. So each part is encoded
without keeping any; the loss gives the gradient of every embedding; then each part is encoded again, this time keeping
activations, and its embeddings' gradients are propagated through the towers. The last part's activations are kept from
the start, which leaves 2 - 1/parts forward passes and one backward pass. Memory: the activations of one part, all
embeddings and their gradients, and what the loss needs.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def cached_backward(
    encode: Callable[[int], Sequence[Tensor]],
    parts: int,
    loss: Callable[..., Tensor],
    *,
    scaler: torch.amp.GradScaler | None = None,
    no_sync: Callable[[], AbstractContextManager[Any]] | None = None,
) -> Tensor:
    """Accumulate the gradients of the loss over all parts in ``.grad``; return that loss, without a graph.

    Gradients are those of one forward and one backward pass over all parts together, also where dropout is at work: a
    part is encoded twice from the same state of torch's random numbers (of the CPU and of the current CUDA device), and
    afterwards that state is as if every part had been encoded once. Batch statistics would be taken twice.

    Args:
        encode: Embeds part 0 … ``parts`` − 1: image and text embeddings, (pairs, channels) each, and after them
            whatever else of the model the loss depends on, such as its scale and bias. Enters its own autocast.
        parts: How many there are; one is encoded once.
        loss: Takes all parts' image and text embeddings and then what else ``encode`` gives. Parameters it uses
            directly receive gradients too; under ``DistributedDataParallel`` they must come out of ``encode`` instead,
            or they would not be averaged over the ranks.
        scaler: Scales the loss, and so all gradients, for half precision.
        no_sync: ``DistributedDataParallel.no_sync`` of the model that encodes: gradients are then averaged over the
            ranks once, in the last backward pass.
    """
    alone = no_sync or nullcontext
    if parts == 1:
        value = loss(*encode(0))
        _scaled(value, scaler).backward()
        return value.detach()

    with alone():
        encoded, states = _encode_all_but_last(encode, parts)
        kept = encode(parts - 1)
        leaves = [
            torch.cat([*(outputs[side] for outputs in encoded), kept[side].detach()]).requires_grad_(
                kept[side].requires_grad
            )
            for side in (0, 1)
        ]
        leaves += [output.detach().requires_grad_(output.requires_grad) for output in kept[2:]]
        value = loss(*leaves)
        _scaled(value, scaler).backward()
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        sizes = [len(outputs[0]) for outputs in [*encoded, kept]]
        pairs = list(zip(*(gradient.split(sizes) for gradient in gradients[:2]), strict=True))
        _propagate(kept[:2], pairs[-1])
        del kept

    after = _random_state()
    for part, state in enumerate(states):
        last = part == parts - 2
        with nullcontext() if last else alone():
            _restore(state)
            outputs = encode(part)
            # Scale and bias are the same in every part; the pass that is averaged over ranks has to reach them all.
            _propagate(outputs if last else outputs[:2], (*pairs[part], *gradients[2:]))
    _restore(after)
    return value.detach()


def _encode_all_but_last(
    encode: Callable[[int], Sequence[Tensor]], parts: int
) -> tuple[list[Sequence[Tensor]], list[tuple[Tensor, Tensor | None]]]:
    """Embeddings without activations, and the state of random numbers before each part."""
    encoded, states = [], []
    with torch.no_grad():
        for part in range(parts - 1):
            states.append(_random_state())
            encoded.append(encode(part))
    torch.clear_autocast_cache()  # weights that autocast rounded here would carry no gradient later
    return encoded, states


def _propagate(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    wanted = [both for both in zip(outputs, gradients, strict=False) if both[0].requires_grad]
    if wanted:
        torch.autograd.backward([output for output, _ in wanted], [gradient for _, gradient in wanted])


def _scaled(value: Tensor, scaler: torch.amp.GradScaler | None) -> Tensor:
    return value if scaler is None else scaler.scale(value)


def _random_state() -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None


def _restore(state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])

"""The definition of correct: the whole similarity matrix, one process, autograd. Plain PyTorch.

B pair, D embedding.

``losses.py`` is tested against this file. It holds several matrices of B x B values, which is why it is only a
reference: at a batch of 32,768 each of them takes 4.3 GB.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid


def infonce_reference(image_BD: Tensor, text_BD: Tensor, scale: Tensor) -> Tensor:
    """Mean of the image-to-text and text-to-image cross entropies.

    Source: *Learning Transferable Visual Models From Natural Language Supervision* (arXiv 2103.00020), figure 3.
    """
    logits_BB = scale * image_BD @ text_BD.T
    pair_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (cross_entropy(logits_BB, pair_B) + cross_entropy(logits_BB.T, pair_B)) / 2


def siglip_reference(image_BD: Tensor, text_BD: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Every image with every text as a yes-or-no question; summed over the matrix, divided by the pairs.

    Source: *Sigmoid Loss for Language Image Pre-Training* (arXiv 2303.15343), section 3.2.
    """
    logits_BB = scale * image_BD @ text_BD.T + bias
    sign_BB = 2 * torch.eye(len(logits_BB), dtype=logits_BB.dtype, device=logits_BB.device) - 1
    return -logsigmoid(sign_BB * logits_BB).sum() / len(logits_BB)

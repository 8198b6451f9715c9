"""Words that are to keep their meaning while a model learns others: texts tied to fixed directions.

A model that starts from a classifier knows a thousand names by the classifier's own directions. Training on few words
would forget the rest, so in every step some names are drawn, and each must find its direction among those drawn.

Shapes: K anchor, B drawn anchor, L token, D embedding.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from clippy_core.errors import DataError
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.text import unit
from clippy_core.model.tokenizer import Tokenizer

TEXTS = "texts"
DIRECTIONS = "directions"


def write_anchors(path: Path, texts: list[str], directions_KD: Tensor) -> None:
    """Write a file that :class:`Anchors` reads.

    Args:
        path: A ``.safetensors`` file.
        texts: What is said, without a line break.
        directions_KD: Where it belongs in the joint space, one row a text.
    """
    from safetensors.torch import save

    from clippy_core.files import write_bytes

    tensors = {DIRECTIONS: directions_KD.float().contiguous()}
    write_bytes(path, save(tensors, metadata={TEXTS: "\n".join(texts)}))


class Anchors:
    """Texts and the unit directions they are tied to.

    Args:
        path: A file that :func:`write_anchors` wrote.
        tokenizer: Of the model that is trained.
        width: D.
        batch: How many are drawn in a step.
        device: Where the model is.

    Raises:
        DataError: The file cannot be read, or its directions have another width than the model's space.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, width: int, batch: int, device: torch.device) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                texts = (file.metadata() or {})[TEXTS].split("\n")
                directions_KD = file.get_tensor(DIRECTIONS)
        except (OSError, KeyError, SafetensorError) as error:
            raise DataError(f"loss.anchors: {path} is not a file of anchors ({error})") from error
        if directions_KD.shape != (len(texts), width):
            raise DataError(
                f"loss.anchors: {path} has directions of shape {tuple(directions_KD.shape)} for {len(texts)} texts, "
                f"but the model's space has {width} channels"
            )
        ids_KL, mask_KL = tokenizer(texts)
        self.ids_KL, self.mask_KL = torch.from_numpy(ids_KL).to(device), torch.from_numpy(mask_KL).to(device)
        self.directions_KD = unit(directions_KD).to(device)
        self.batch = min(batch, len(texts))

    def loss(self, model: DualEncoder, seed: int, scale: float) -> Tensor:
        """Cross entropy of finding each drawn text's direction among all drawn, 0-d.

        Args:
            model: What is trained.
            seed: Decides what is drawn; the same on all ranks.
            scale: Factor on cosines.
        """
        drawn_B = torch.randperm(len(self.ids_KL), generator=torch.Generator().manual_seed(seed))[: self.batch]
        drawn_B = drawn_B.to(self.ids_KL.device)
        longest = int(self.mask_KL[drawn_B].sum(1).max())
        texts_BD = model.encode_text(self.ids_KL[drawn_B, :longest], self.mask_KL[drawn_B, :longest])
        logits_BB = scale * texts_BD @ self.directions_KD[drawn_B].T
        return F.cross_entropy(logits_BB, torch.arange(len(drawn_B), device=drawn_B.device))

"""Texts to token numbers, by the ``tokenizers`` library and a model's own ``tokenizer.json``. Imports no torch."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clippy_core.errors import CheckpointError


class Tokenizer:
    """A ``tokenizer.json`` with a length limit.

    Args:
        path: The file.
        max_tokens: Longer texts are cut to this many tokens, special tokens included.

    Raises:
        CheckpointError: The file is missing or is not a tokenizer.
    """

    def __init__(self, path: str | os.PathLike[str], max_tokens: int) -> None:
        from tokenizers import Tokenizer as Backend

        self.path = Path(path)
        if not self.path.is_file():
            raise CheckpointError(f"{self.path}: the model directory has no tokenizer.json")
        try:
            self._backend = Backend.from_file(str(self.path))
        except Exception as error:
            # The library raises bare Exception for every kind of malformed file.
            raise CheckpointError(f"{self.path}: not a tokenizer ({str(error).splitlines()[0]})") from error
        self._backend.no_padding()
        self._backend.enable_truncation(max_tokens)

    @property
    def size(self) -> int:
        """How many tokens there are, those added to the vocabulary included."""
        return self._backend.get_vocab_size()

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token numbers and mask, both ``int64`` of shape (B, L), padded at the right to the longest text.

        Padding has number 0 and is masked, so which number it has does not matter.
        """
        encodings = self._backend.encode_batch(list(texts))
        longest = max(len(encoding.ids) for encoding in encodings)
        ids_BL = np.zeros((len(encodings), longest), dtype=np.int64)
        mask_BL = np.zeros_like(ids_BL)
        for row, encoding in enumerate(encodings):
            ids_BL[row, : len(encoding.ids)] = encoding.ids
            mask_BL[row, : len(encoding.ids)] = 1
        return ids_BL, mask_BL

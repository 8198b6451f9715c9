"""What the tokenizer makes of words, before any model sees them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class WordTokens:
    """A word as the text tower gets it.

    Attributes:
        word: The word.
        tokens: Its own tokens, as the tokenizer writes them, without those of the prompt.
        unknown: How many of them stand for something that is not in the vocabulary.
        longest: Tokens of the longest text with it, those that mark beginning and end included.
        limit: How many the model takes; longer texts are cut.
    """

    word: str
    tokens: tuple[str, ...]
    unknown: int
    longest: int
    limit: int

    @property
    def cut(self) -> bool:
        """Whether the end of a text with it is lost."""
        return self.longest > self.limit


def read_tokens(segmenter: "Segmenter", words: Sequence[str], templates: Sequence[str]) -> list[WordTokens]:
    """What becomes of each word by itself and in each template.

    The model's own tokenizer cuts what is too long, so its file is read once more, without a limit.
    """
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_file(str(segmenter.tokenizer.path))
    backend.no_truncation()
    backend.no_padding()
    unknown = _unknown(backend)
    limit = segmenter.config.text.max_tokens
    alone = backend.encode_batch(list(words), add_special_tokens=False)
    texts = [template.replace("{}", word) for word in words for template in templates]
    longest = [0] * len(words)
    for place, encoding in enumerate(backend.encode_batch(texts)):
        longest[place // len(templates)] = max(longest[place // len(templates)], len(encoding.ids))
    return [
        WordTokens(word, tuple(encoding.tokens), sum(token == unknown for token in encoding.ids), most, limit)
        for word, encoding, most in zip(words, alone, longest, strict=True)
    ]


def same_tokens(found: Sequence[WordTokens]) -> list[tuple[str, ...]]:
    """Groups of words that are one and the same to the model."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for word in found:
        groups.setdefault(word.tokens, []).append(word.word)
    return [tuple(words) for words in groups.values() if len(words) > 1]


def _unknown(backend: object) -> int | None:
    """Number of the token for what is not in the vocabulary; None where there is none, as with bytes as tokens."""
    model = json.loads(backend.to_str())["model"]  # type: ignore[attr-defined]
    if model.get("unk_token") is not None:
        return backend.token_to_id(model["unk_token"])  # type: ignore[attr-defined]
    return model.get("unk_id")

"""When a pixel is *none of these*."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from clippy_core.errors import UsageError
from clippy_core.prompts import Label, parse_labels

BACKGROUND = "background"
RULES = ("threshold", "margin", "softmax")


@dataclass(frozen=True)
class BackgroundRule:
    """A rule for *none of these*.

    Attributes:
        kind: ``none`` (every pixel gets a label), ``threshold`` (the winner's cosine is below ``value``), ``margin``
            (its lead over the runner-up is below ``value``), ``softmax`` (its probability among all labels, at the
            model's own temperature, is below ``value``), or ``words`` (a word of ``label`` wins).
        value: The limit, for the first three rules.
        label: What stands for the background, for ``words``.
    """

    kind: str = "none"
    value: float = 0.0
    label: Label | None = None

    @property
    def by_certainty(self) -> bool:
        """Whether the rule looks at how sure the winner is, rather than at words of its own."""
        return self.kind in RULES


def parse_background(text: str | None) -> BackgroundRule:
    """A rule from ``none``, ``threshold=T``, ``margin=T``, ``softmax=P``, or words such as ``wall|floor``.

    Raises:
        UsageError: A limit that is not a number in the rule's range, or words that are no label.
    """
    if text is None or text.strip().casefold() == "none":
        return BackgroundRule()
    kind, separator, value = text.partition("=")
    if separator:
        return _limit(kind.strip(), value.strip(), text)
    if text.strip() in RULES:
        raise UsageError(f"background rule {text!r} needs a number, such as {text.strip()}=0.1")
    if near := _rule_like(text):
        raise UsageError(f"background rule {text!r}: did you mean {near}=0.1, with a number of yours?")
    words = [word for label in parse_labels(text) for word in label.words]
    return BackgroundRule("words", label=Label(BACKGROUND, tuple(words)))


def _rule_like(text: str) -> str | None:
    """The rule that a text without ``=`` looks like: ``threshold:0.2``, ``treshold``, ``thresh``."""
    word = re.fullmatch(r"\s*([a-z]+)[\s:]*[-\d.,]*\s*", text.casefold())
    if word is None:
        return None
    begun = [rule for rule in RULES if len(word[1]) >= 5 and rule.startswith(word[1])]
    # High enough for marine and margarine to stay words.
    return next(iter(begun or get_close_matches(word[1], RULES, 1, cutoff=0.85)), None)


def _limit(kind: str, value: str, text: str) -> BackgroundRule:
    if kind not in RULES:
        raise UsageError(f"background rule {text!r} is unknown; accepted: none, {'=T, '.join(RULES)}=T, or words")
    accepted: Callable[[float], bool] = {
        "threshold": lambda number: -1 <= number <= 1,
        "margin": lambda number: 0 <= number <= 2,
        "softmax": lambda number: 0 <= number <= 1,
    }[kind]
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not accepted(number):
        bounds = {"threshold": "−1 to 1", "margin": "0 to 2", "softmax": "0 to 1"}[kind]
        raise UsageError(f"background rule {text!r}: a number from {bounds} is expected after {kind}=")
    return BackgroundRule(kind, number)

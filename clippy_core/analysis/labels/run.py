"""How a label set behaves before there is a picture: what is confused with what, and how much the prompt decides.

Nothing of size words × words is kept, so that thousands of labels fit.

Shapes: K label, W word, D embedding, R pair of reference names, T template.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from clippy_core import events
from clippy_core.analysis.labels.tokens import WordTokens, read_tokens, same_tokens
from clippy_core.analysis.report import Report, require_extra
from clippy_core.analysis.words import to_array
from clippy_core.errors import UsageError
from clippy_core.evaluation.dense.vocabulary.coco import THINGS
from clippy_core.evaluation.vocabulary.templates import OPENAI_80, PAPER
from clippy_core.prompts import Label, check_templates

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

PROMPTS = ("own", "word", "paper", "openai-80")
"""What prompts are compared: the model's own, the word by itself, the paper's, and OpenAI's eighty."""
CLOSE = 0.99
"""A pair is confusable if it is nearer than this share of the pairs of everyday names."""
BLOCK, CELLS = 512, 8_000_000
"""So many words are compared with all at a time, and so many pairs at most."""
MOST_PAIRS = 200
MANY_WORDS = 200
"""From so many words on, the eighty prompts are left out unless they are asked for."""
WORDS_AT_A_TIME = 4096


@dataclass(frozen=True)
class LabelSetOptions:
    """What to look at.

    Attributes:
        labels: The label set.
        templates: Prompts it will be used with; None for the model's own.
        prompts: Which of :data:`PROMPTS` to compare with; None for all that are reasonable for so many words.

    Raises:
        UsageError: No label, a prompt set that is not known, or a template without ``{}``.
    """

    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None = None
    prompts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.labels:
            raise UsageError('no label was given; accepted: WORDS such as "dog|puppy,grass", or --labels-file FILE')
        if self.templates is not None:
            check_templates(self.templates)
        for name in self.prompts or ():
            if name not in PROMPTS:
                raise UsageError(f"--prompts names {name!r}; accepted: {', '.join(PROMPTS)}")


@dataclass(frozen=True)
class Pair:
    """Two labels and the two of their words that are nearest to each other.

    Attributes:
        labels: Their numbers, the smaller first.
        words: Numbers of the words, one of each.
        cosine: Of these words.
        nearer: Share of pairs of everyday names that are less alike, 0…1.
    """

    labels: tuple[int, int]
    words: tuple[int, int]
    cosine: float
    nearer: float


@dataclass(frozen=True)
class Collision:
    """A synonym that is nearer to a word of another label than to any other word of its own.

    Attributes:
        word: Number of the word.
        rival: Number of the other label's word.
        own: Cosine with the nearest other word of its own label.
        other: Cosine with the rival.
    """

    word: int
    rival: int
    own: float
    other: float


@dataclass(frozen=True, eq=False)
class PromptEffect:
    """What other prompts would change.

    Attributes:
        name: The prompt set, or the template.
        change_K: 1 − cosine between a label in these prompts and in those it is used with, the mean over its words.
        neighbour_K: Number of each label's nearest other label; −1 where there is only one label.
        spread: Mean cosine between words of different labels; the lower, the easier they are told apart.
        closest: The highest of these cosines.
    """

    name: str
    change_K: np.ndarray
    neighbour_K: np.ndarray
    spread: float
    closest: float


@dataclass(eq=False)
class LabelSet:
    """What is known of a label set.

    Attributes:
        names: The labels' names.
        words: All words, those of one label side by side.
        label_W: Each word's label.
        words_WD: Unit vectors in the prompts it is used with, ``float32``.
        templates: These prompts.
        neighbour_K: Each label's nearest other label, −1 for none.
        cosine_K: Its cosine; NaN for none.
        pairs: The nearest pairs of labels, nearest first.
        collisions: Synonyms on the wrong side.
        tokens: What the tokenizer makes of each word.
        same: Groups of words that are the same to the tokenizer.
        reference_R: Cosines of all pairs of everyday names in the same prompts, ascending.
        prompts: Effects of prompt sets; the first is what the label set is used with.
        single: Effects of single templates.
    """

    names: tuple[str, ...]
    words: tuple[str, ...]
    label_W: np.ndarray
    words_WD: np.ndarray
    templates: tuple[str, ...]
    neighbour_K: np.ndarray
    cosine_K: np.ndarray
    pairs: list[Pair]
    collisions: list[Collision]
    tokens: list[WordTokens]
    same: list[tuple[str, ...]]
    reference_R: np.ndarray
    prompts: list[PromptEffect] = field(default_factory=list)
    single: list[PromptEffect] = field(default_factory=list)

    @property
    def confusable(self) -> list[Pair]:
        """Pairs that are nearer than almost all pairs of everyday names."""
        return [pair for pair in self.pairs if pair.nearer >= CLOSE]


def analyse_labels(
    segmenter: "Segmenter", options: LabelSetOptions, sink: events.Sink = events.ignore
) -> tuple[LabelSet, Report]:
    """Look at a label set and draw what there is to see.

    Raises:
        DeviceError: Matplotlib or scikit-learn is missing.
    """
    from clippy_core.analysis.labels.report import draw

    require_extra()
    found = examine(segmenter, options, sink)
    return found, draw(segmenter.config, found, options)


def examine(segmenter: "Segmenter", options: LabelSetOptions, sink: events.Sink = events.ignore) -> LabelSet:
    """All numbers about a label set; the sink hears of every prompt."""
    words = tuple(word for label in options.labels for word in label.words)
    label_W = np.repeat(np.arange(len(options.labels)), [len(label.words) for label in options.labels])
    templates = options.templates or segmenter.config.templates
    words_WD = embed(segmenter, words, templates)
    reference_R = pair_cosines(embed(segmenter, tuple(THINGS.values()), templates))
    neighbour_K, cosine_K, pairs, collisions = compare(words_WD, label_W, reference_R)
    tokens = read_tokens(segmenter, words, templates)
    found = LabelSet(
        names=tuple(label.name for label in options.labels),
        words=words,
        label_W=label_W,
        words_WD=words_WD,
        templates=templates,
        neighbour_K=neighbour_K,
        cosine_K=cosine_K,
        pairs=pairs,
        collisions=collisions,
        tokens=tokens,
        same=same_tokens(tokens),
        reference_R=reference_R,
    )
    _try_prompts(segmenter, found, _prompt_sets(segmenter, options, len(words)), sink)
    return found


def embed(segmenter: "Segmenter", words: Sequence[str], templates: tuple[str, ...]) -> np.ndarray:
    """Unit vectors of words, ``float32`` (W, D), some of them at a time."""
    step = max(1, WORDS_AT_A_TIME // len(templates))
    parts = [
        to_array(segmenter.embed_words(list(words[first : first + step]), templates))
        for first in range(0, len(words), step)
    ]
    return np.concatenate(parts)


def pair_cosines(words_WD: np.ndarray) -> np.ndarray:
    """Cosines of all pairs of different words, ascending."""
    return np.sort((words_WD @ words_WD.T)[np.triu_indices(len(words_WD), 1)])


def compare(
    words_WD: np.ndarray, label_W: np.ndarray, reference_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[Pair], list[Collision]]:
    """Each label's nearest other label and the cosine, the nearest pairs, and synonyms on the wrong side."""
    count = int(label_W[-1]) + 1
    neighbour_K, cosine_K = np.full(count, -1), np.full(count, np.nan, np.float32)
    best: dict[tuple[int, int], tuple[float, int, int]] = {}
    collisions = []
    for first, cosines_BW in _blocks(words_WD):
        mine_BW = label_W[first : first + len(cosines_BW), None] == label_W[None, :]
        others_BW = np.where(mine_BW, -np.inf, cosines_BW)
        siblings_BW = np.where(mine_BW, cosines_BW, -np.inf)
        siblings_BW[np.arange(len(cosines_BW)), first + np.arange(len(cosines_BW))] = -np.inf
        rival_B, own_B = others_BW.argmax(1), siblings_BW.max(1)
        for row, (rival, own) in enumerate(zip(rival_B.tolist(), own_B.tolist(), strict=True)):
            other, label = float(others_BW[row, rival]), int(label_W[first + row])
            if not np.isfinite(other):
                continue
            if not cosine_K[label] >= other:
                neighbour_K[label], cosine_K[label] = label_W[rival], other
            if np.isfinite(own) and other > own:
                collisions.append(Collision(first + row, rival, own, other))
        _keep_pairs(best, others_BW, first, label_W)
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:MOST_PAIRS]
    pairs = [
        Pair(labels, (one, other), cosine, float(np.searchsorted(reference_R, cosine) / max(1, len(reference_R))))
        for labels, (cosine, one, other) in ranked
    ]
    return neighbour_K, cosine_K, pairs, sorted(collisions, key=lambda item: item.own - item.other)


def _blocks(words_WD: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = max(1, min(BLOCK, CELLS // len(words_WD)))
    for first in range(0, len(words_WD), step):
        yield first, words_WD[first : first + step] @ words_WD.T


def _keep_pairs(
    best: dict[tuple[int, int], tuple[float, int, int]], others_BW: np.ndarray, first: int, label_W: np.ndarray
) -> None:
    """Add the nearest pairs of a block of words to what is known, and forget what is too far down."""
    later_BW = np.arange(others_BW.shape[1])[None, :] > (first + np.arange(len(others_BW)))[:, None]
    flat = np.where(later_BW, others_BW, -np.inf).ravel()
    # Pairs of labels with several words come up several times, so more are looked at than are kept.
    few = min(len(flat), 4 * MOST_PAIRS)
    for place in np.argpartition(-flat, few - 1)[:few].tolist():
        if not np.isfinite(flat[place]):
            continue
        one, other = first + place // others_BW.shape[1], place % others_BW.shape[1]
        labels = (int(label_W[one]), int(label_W[other]))
        if flat[place] > best.get(labels, (-np.inf, 0, 0))[0]:
            best[labels] = (float(flat[place]), one, other)
    if len(best) > 2 * MOST_PAIRS:
        for labels, _ in sorted(best.items(), key=lambda item: -item[1][0])[MOST_PAIRS:]:
            del best[labels]


def _prompt_sets(segmenter: "Segmenter", options: LabelSetOptions, words: int) -> dict[str, tuple[str, ...]]:
    """Templates by name, without those that are the same as what the label set is used with."""
    used = options.templates or segmenter.config.templates
    wanted = options.prompts or tuple(name for name in PROMPTS if name != "openai-80" or words <= MANY_WORDS)
    sets = {"own": segmenter.config.templates, "word": ("{}",), "paper": PAPER, "openai-80": OPENAI_80}
    return {name: sets[name] for name in PROMPTS if name in wanted and sets[name] != used}


def _try_prompts(segmenter: "Segmenter", found: LabelSet, sets: dict[str, tuple[str, ...]], sink: events.Sink) -> None:
    """Every template is put around every word once; sets are means over theirs."""
    used = "yours" if found.templates != segmenter.config.templates else "own"
    found.prompts = [effect(used, found.words_WD, found)]
    singles = tuple(
        dict.fromkeys(template for templates in (found.templates, *sets.values()) for template in templates)
    )
    sums = {name: np.zeros_like(found.words_WD) for name in sets}
    sink(events.BatchStarted(len(singles), 0))
    for template in singles:
        words_WD = embed(segmenter, found.words, (template,))
        found.single.append(effect(template, words_WD, found))
        for name, templates in sets.items():
            if template in templates:
                sums[name] += words_WD * templates.count(template)
        sink(events.ItemFinished(template, "ok", None, 0.0))
    for name, sum_WD in sums.items():
        # The mean over templates at unit length, as the segmenter averages them; a factor does not matter.
        length_W1 = np.maximum(np.linalg.norm(sum_WD, axis=1, keepdims=True), 1e-12)
        found.prompts.append(effect(name, sum_WD / length_W1, found))


def effect(name: str, words_WD: np.ndarray, found: LabelSet) -> PromptEffect:
    """What changes if the words' vectors are these."""
    change_W = np.maximum(1 - (words_WD * found.words_WD).sum(1), 0)
    count_K = np.bincount(found.label_W)
    neighbour_K, _, pairs, _ = compare(words_WD, found.label_W, found.reference_R)
    # All pairs of words, less those within a label, from sums: |Σv|² = Σ v·v' over all ordered pairs.
    first_K = np.cumsum([0, *count_K])[:-1]
    sums_KD = np.add.reduceat(words_WD.astype(np.float64), first_K, axis=0)
    within = float(np.square(sums_KD).sum())
    across, ordered = float(np.square(sums_KD.sum(0)).sum()) - within, len(words_WD) ** 2 - int((count_K**2).sum())
    spread = across / ordered if ordered else float("nan")
    closest = pairs[0].cosine if pairs else float("nan")
    change_K = np.bincount(found.label_W, change_W) / count_K
    return PromptEffect(name, change_K, neighbour_K, spread, closest)

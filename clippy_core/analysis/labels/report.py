"""The report on a label set: matrices, tables, and what to do about each finding in plain words.

Shapes: K label, W word, S prompt set.
"""

from typing import Any

import numpy as np

from clippy_core.analysis.labels.advice import MOST_ADVICE, SETS, advice
from clippy_core.analysis.labels.run import CLOSE, LabelSet, LabelSetOptions, Pair, PromptEffect
from clippy_core.analysis.maps import Shade, by_likeness, heat_map
from clippy_core.analysis.report import Figure, Report, Section, Table
from clippy_core.evaluation.dense.vocabulary.coco import THINGS
from clippy_core.model.config import ModelConfig

MOST_DRAWN = 60
MOST_ROWS = 40
MATRIX_IN_JSON = 200
FINE = (("nothing", "Labels are apart, synonyms are on their own side, and the tokenizer knows every word."),)


def draw(config: ModelConfig, found: LabelSet, options: LabelSetOptions) -> Report:
    """Draw what was found, with advice first."""
    said = advice(found)
    sections = [
        Section("Findings", tables=(Table("What to do", ("about", "finding and advice"), tuple(said or FINE)),)),
        _likeness(found),
        *_synonyms(found),
        _prompts(found),
        _tokens(found),
    ]
    return Report(
        "labels",
        "How a label set behaves before any picture",
        _lead(found, said),
        tuple(sections),
        numbers(found, said),
        {
            "model": config.name,
            "labels": ["|".join(label.words) for label in options.labels],
            "templates": list(found.templates),
            "prompts compared": [effect.name for effect in found.prompts],
        },
        "labels.cosines" if len(found.names) > 1 else "",
    )


def _lead(found: LabelSet, said: list[tuple[str, str]]) -> str:
    count = f"{len(found.names):,} label{'s' * (len(found.names) != 1)} with {len(found.words):,} words"
    kinds = ", ".join(
        f"{number} {name}"
        for name, number in (
            ("confusable pairs", len(found.confusable)),
            ("synonyms on the wrong side", len(found.collisions)),
            ("words cut", sum(word.cut for word in found.tokens)),
            ("words with unknown tokens", sum(word.unknown > 0 for word in found.tokens)),
            ("groups of words that are one to the tokenizer", len(found.same)),
        )
        if number
    )
    more = "" if len(said) <= MOST_ADVICE else " The worst of each kind are put into words below; the tables have more."
    return (
        f"{count}, as the model sees them in {_quoted(found.templates)}. {kinds[:1].upper() + kinds[1:] or 'Nothing'}"
        f" stand{'s' if not kinds else ''} out.{more}\n\nWhat is measured here is words against words. Pictures decide "
        "in the end, but two labels that are one in words will never be two in a picture."
    )


def _quoted(templates: tuple[str, ...]) -> str:
    shown = " and ".join(f"“{template}”" for template in templates[:2])
    return shown if len(templates) <= 2 else f"{shown} and {len(templates) - 2} more prompts"


def label_cosines(found: LabelSet, chosen_K: np.ndarray) -> np.ndarray:
    """Cosines of some labels, the highest of any of their words; 1 on the diagonal. Shape (C, C)."""
    places = [np.flatnonzero(found.label_W == label) for label in chosen_K.tolist()]
    order_W, counts = np.concatenate(places), [len(place) for place in places]
    first_K = np.cumsum([0, *counts])[:-1]
    cosines_WW = found.words_WD[order_W] @ found.words_WD[order_W].T
    cosines_KK = np.maximum.reduceat(np.maximum.reduceat(cosines_WW, first_K, 0), first_K, 1)
    np.fill_diagonal(cosines_KK, 1.0)
    return cosines_KK


def _likeness(found: LabelSet) -> Section:
    if len(found.names) < 2:
        return Section(
            "Labels against labels", "With one label there is nothing to compare; --background gives it a rival."
        )
    chosen_K = _most_alike(found)
    cosines_KK = label_cosines(found, chosen_K)
    links, order = (by_likeness(cosines_KK), None) if len(chosen_K) > 2 else (None, None)
    if links is not None:
        from scipy.cluster.hierarchy import leaves_list

        order = leaves_list(links)
        chosen_K, cosines_KK = chosen_K[order], cosines_KK[np.ix_(order, order)]
    names = [found.names[label] for label in chosen_K.tolist()]
    shown_KK = np.where(np.eye(len(names), dtype=bool), np.nan, cosines_KK)
    low, high = float(np.nanmin(shown_KK)), float(np.nanmax(shown_KK))
    shade = Shade("YlOrRd", low, max(high, low + 0.01), "cosine of their nearest words")
    limit = float(np.quantile(found.reference_R, CLOSE))
    figure = Figure(
        "labels.cosines",
        heat_map(shown_KK, names, names, shade, links=links),
        "Cosines between labels",
        f"Ordered by likeness. Of {len(THINGS)} everyday names (COCO's things) in the same prompts, one pair in a "
        f"hundred is above {limit:z.2f}."
        + (
            f" Shown are the {len(names)} labels that have the nearest others." if len(names) < len(found.names) else ""
        ),
    )
    table = Table(
        "Nearest pairs",
        ("label", "and", "cosine", "nearer than % of everyday pairs", "words"),
        tuple(_pair_row(found, pair) for pair in found.pairs[:MOST_ROWS]),
    )
    return Section("Labels against labels", figures=(figure,), tables=(table,))


def _pair_row(found: LabelSet, pair: Pair) -> tuple[Any, ...]:
    one, other = (found.names[label] for label in pair.labels)
    words = " / ".join(found.words[word] for word in pair.words)
    return one, other, pair.cosine, 100 * pair.nearer, words


def _most_alike(found: LabelSet) -> np.ndarray:
    """The labels with the nearest others, at most as many as can be drawn, in their own order."""
    order_K = np.argsort(-found.cosine_K, kind="stable")[:MOST_DRAWN]
    return np.sort(order_K)


def _synonyms(found: LabelSet) -> tuple[Section, ...]:
    if len(found.words) == len(found.names):
        return ()
    rows = tuple(
        (
            found.words[item.word],
            found.names[found.label_W[item.word]],
            item.own,
            item.other,
            found.words[item.rival],
            found.names[found.label_W[item.rival]],
        )
        for item in found.collisions[:MOST_ROWS]
    )
    text = "A label's score is that of its best word, so a synonym that leans towards another label takes its pixels."
    if not rows:
        return (Section("Synonyms", f"{text} Here every synonym is nearest to its own label."),)
    columns = ("synonym", "of label", "cosine with its own", "cosine with", "word", "of label ")
    return (Section("Synonyms", text, tables=(Table("Synonyms on the wrong side", columns, rows),)),)


def _prompts(found: LabelSet) -> Section:
    columns = ("prompts", "change", "labels whose nearest other changes", "mean cosine of pairs", "highest")
    rows = tuple(_effect_row(found, effect, SETS[effect.name]) for effect in found.prompts)
    text = (
        "Change is 1 − cosine between a label in these prompts and in those it is used with. The lower the mean cosine "
        "of pairs, the easier labels are told apart; only differences between prompts of one model mean something."
    )
    tables = [Table("Sets of prompts", columns, rows)]
    single = sorted(found.single, key=lambda effect: -float(effect.change_K.mean()))
    if len(single) > 1:
        some = single if len(single) <= MOST_ROWS // 2 else [*single[: MOST_ROWS // 4], *single[-MOST_ROWS // 4 :]]
        caption = "" if len(some) == len(single) else f"The ones that change most, and least, of {len(single)}."
        rows = tuple(_effect_row(found, effect, effect.name) for effect in some)
        tables.append(Table("Single prompts", ("prompt", *columns[1:]), rows, caption))
    others = found.prompts[1:]
    if not others:
        return Section("Prompts", text, tables=tuple(tables))
    change_KS = np.stack([effect.change_K for effect in others], 1)
    chosen_K = np.sort(np.argsort(-change_KS.mean(1), kind="stable")[:MOST_DRAWN])
    shade = Shade("PuBu", 0.0, max(float(change_KS.max()), 0.01), "1 − cosine")
    figure = Figure(
        "labels.prompts",
        heat_map(
            change_KS[chosen_K],
            [found.names[label] for label in chosen_K.tolist()],
            [SETS[effect.name] for effect in others],
            shade,
        ),
        "How far other prompts move each label",
        "Dark rows are labels for which the choice of prompt matters most.",
    )
    return Section("Prompts", text, (figure,), tuple(tables))


def _effect_row(found: LabelSet, effect: PromptEffect, name: str) -> tuple[Any, ...]:
    changed = int((effect.neighbour_K != found.neighbour_K).sum())
    spread, closest = (None if np.isnan(value) else value for value in (effect.spread, effect.closest))
    return name, float(effect.change_K.mean()), changed, spread, closest


def _tokens(found: LabelSet) -> Section:
    troubled = [word for word in found.tokens if word.cut or word.unknown]
    rest = sorted((word for word in found.tokens if word not in troubled), key=lambda word: -len(word.tokens))
    rows = tuple(
        (
            word.word,
            len(word.tokens),
            " ".join(word.tokens)[:120],
            word.unknown,
            word.longest,
            "yes" if word.cut else "",
        )
        for word in [*troubled, *rest][:MOST_ROWS]
    )
    columns = ("word", "tokens", "as", "unknown", "tokens of the longest text", "cut")
    return Section("Tokens", tables=(Table("What the tokenizer makes of each word", columns, rows),))


def numbers(found: LabelSet, said: list[tuple[str, str]]) -> dict[str, Any]:
    """Every figure, as the JSON file has it."""
    names = found.names
    all_K = np.arange(len(names))
    return {
        "labels": list(names),
        "words": [
            {
                "word": word,
                "label": names[label],
                "tokens": list(tokens.tokens),
                "unknown": tokens.unknown,
                "longest text": tokens.longest,
                "cut": tokens.cut,
            }
            for word, label, tokens in zip(found.words, found.label_W.tolist(), found.tokens, strict=True)
        ],
        "cosines": label_cosines(found, all_K) if len(names) <= MATRIX_IN_JSON else None,
        "nearest": {
            name: {"label": names[int(near)], "cosine": float(cosine)} if near >= 0 else None
            for name, near, cosine in zip(names, found.neighbour_K, found.cosine_K, strict=True)
        },
        "pairs": [
            {
                "labels": [names[label] for label in pair.labels],
                "words": [found.words[word] for word in pair.words],
                "cosine": pair.cosine,
                "nearer than share of everyday pairs": pair.nearer,
                "confusable": pair.nearer >= CLOSE,
            }
            for pair in found.pairs
        ],
        "collisions": [
            {
                "word": found.words[item.word],
                "label": names[found.label_W[item.word]],
                "own": item.own,
                "rival": found.words[item.rival],
                "rival label": names[found.label_W[item.rival]],
                "other": item.other,
            }
            for item in found.collisions
        ],
        "same tokens": found.same,
        "everyday pairs": {
            "names": "COCO's 80 things",
            "mean": float(found.reference_R.mean()),
            "limit": float(np.quantile(found.reference_R, CLOSE)),
        },
        "prompts": [_effect_numbers(found, effect) for effect in found.prompts],
        "single prompts": [_effect_numbers(found, effect, brief=True) for effect in found.single],
        "advice": [{"about": about, "text": text} for about, text in said],
    }


def _effect_numbers(found: LabelSet, effect: PromptEffect, *, brief: bool = False) -> dict[str, Any]:
    _, change, changed, spread, closest = _effect_row(found, effect, effect.name)
    document = {"name": effect.name, "change": change, "neighbours changed": changed}
    document |= {"mean cosine of pairs": spread, "highest cosine": closest}
    if not brief:
        document["change by label"] = dict(zip(found.names, effect.change_K.tolist(), strict=True))
    return document

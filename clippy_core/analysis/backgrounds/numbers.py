"""Figures about what backgrounds do, as the report and the JSON file have them.

Shapes: S subject, G background (or kind of background), K label.
"""

from collections import Counter
from typing import Any

import numpy as np

from clippy_core.analysis.backgrounds.effects import Effects, nanmean


def headline(effects: Effects) -> dict[str, Any]:
    """The figures to know first, in fractions of 1; empty if there is nothing to compare."""
    accuracy_KG = effects.by_group(effects.right_SG)
    if np.isfinite(accuracy_KG).sum() < 2:
        return {}
    probability_KG = effects.by_group(effects.true_SG)
    best, worst = (int(place) for place in (np.nanargmax(accuracy_KG), np.nanargmin(accuracy_KG)))
    # Groups of equal accuracy are told apart by the probability of the true label.
    best = _tie(accuracy_KG, probability_KG, best, highest=True)
    worst = _tie(accuracy_KG, probability_KG, worst, highest=False)
    right = sum(answer.said == effects.truth_S[answer.subject] for answer in effects.answers)
    drop_S = effects.drop_S
    push_GK = effects.push()
    order = np.argsort(-np.nan_to_num(push_GK, nan=-np.inf).ravel(), kind="stable")
    pulls = [np.unravel_index(int(place), push_GK.shape) for place in order[:10]]
    return {
        "average": right / len(effects.answers),
        "best group": _group(effects, accuracy_KG, probability_KG, best),
        "worst group": _group(effects, accuracy_KG, probability_KG, worst),
        "drop": float(accuracy_KG.flat[best] - accuracy_KG.flat[worst]),
        "drop in probability": float(np.nanmax(probability_KG) - np.nanmin(probability_KG)),
        "mean drop of a subject": float(nanmean(drop_S, 0)) if np.isfinite(drop_S).any() else float("nan"),
        "flips": len(effects.flips()),
        "push": [
            {
                "background": effects.kind_names[row],
                "label": effects.labels[column],
                "added": float(push_GK[row, column]),
            }
            for row, column in pulls
            if push_GK[row, column] > 0
        ],
    }


def _tie(accuracy_KG: np.ndarray, probability_KG: np.ndarray, place: int, *, highest: bool) -> int:
    equal = accuracy_KG == accuracy_KG.flat[place]
    sign = 1 if highest else -1
    return int(np.where(equal, sign * probability_KG, -np.inf).argmax())


def _group(effects: Effects, accuracy_KG: np.ndarray, probability_KG: np.ndarray, place: int) -> dict[str, Any]:
    row, column = (int(number) for number in np.unravel_index(place, accuracy_KG.shape))
    return {
        "class": effects.labels[row],
        "background": effects.kind_names[column],
        "accuracy": float(accuracy_KG[row, column]),
        "probability": float(probability_KG[row, column]),
    }


def class_rows(effects: Effects) -> list[dict[str, Any]]:
    """What each class that has a subject loses to backgrounds, in fractions of 1, the largest loss first."""
    probability_KG, accuracy_KG = effects.by_group(effects.true_SG), effects.by_group(effects.right_SG)
    rows = []
    for label in np.unique(effects.truth_S).tolist():
        probability_G = probability_KG[label]
        if not np.isfinite(probability_G).any():
            continue
        worst, best = int(np.nanargmin(probability_G)), int(np.nanargmax(probability_G))
        inside = effects.truth_S == label
        count_SG = effects.count_SG[inside]
        right = np.nansum(effects.right_SG[inside] * count_SG) / count_SG.sum()
        rows.append(
            {
                "class": effects.labels[label],
                "subjects": int(count_SG.any(1).sum()),
                "pictures": int(count_SG.sum()),
                "accuracy": float(right),
                "probability": float(nanmean(probability_G, 0)),
                "worst background": effects.kind_names[worst],
                "worst": float(probability_G[worst]),
                "best background": effects.kind_names[best],
                "best": float(probability_G[best]),
                "drop": float(probability_G[best] - probability_G[worst]),
                "drop in accuracy": float(np.nanmax(accuracy_KG[label]) - np.nanmin(accuracy_KG[label])),
            }
        )
    return sorted(rows, key=lambda row: -row["drop"])


def group_rows(effects: Effects) -> list[tuple[Any, ...]]:
    """A row for each class on each kind of background, the lowest change first; shares in %."""
    accuracy, probability, change, cosine, own = (
        effects.by_group(values)
        for values in (effects.right_SG, effects.true_SG, effects.change_SG, effects.cosine_SG, effects.own_SG)
    )
    kind_G = np.array([effects.kind_names.index(kind) for kind in effects.kinds])
    rows = []
    for label, kind in zip(*np.nonzero(np.isfinite(accuracy)), strict=True):
        count = int(effects.count_SG[np.ix_(effects.truth_S == label, kind_G == kind)].sum())
        cell = (label, kind)
        shares = [
            None if np.isnan(values[cell]) else 100 * float(values[cell]) for values in (accuracy, probability, change)
        ]
        last = None if np.isnan(own[cell]) else 100 * float(own[cell])
        rows.append((effects.labels[label], effects.kind_names[kind], count, *shares, float(cosine[cell]), last))
    return sorted(rows, key=lambda row: row[5])


def subject_rows(effects: Effects) -> list[dict[str, Any]]:
    """What is known of each subject that was seen, in fractions of 1."""
    said: dict[int, list[int]] = {}
    for answer in effects.answers:
        said.setdefault(answer.subject, []).append(answer.said)
    true_SG, rows = effects.true_SG, []
    for subject, name in enumerate(effects.subjects):
        if subject not in said:
            continue
        truth = int(effects.truth_S[subject])
        worst, best = int(np.nanargmin(true_SG[subject])), int(np.nanargmax(true_SG[subject]))
        wrong = Counter(effects.labels[label] for label in said[subject] if label != truth)
        rows.append(
            {
                "subject": name,
                "class": effects.labels[truth],
                "average": float(np.nanmean(true_SG[subject])),
                "worst background": effects.grounds[worst],
                "worst": float(true_SG[subject, worst]),
                "best background": effects.grounds[best],
                "best": float(true_SG[subject, best]),
                "drop": float(effects.drop_S[subject]),
                "right": sum(label == truth for label in said[subject]),
                "pictures": len(said[subject]),
                "own pixels": float(nanmean(effects.own_SG[subject], 0)),
                "taken for": dict(wrong.most_common()),
            }
        )
    return rows


def flip_counts(effects: Effects) -> list[dict[str, Any]]:
    """How often a class becomes another on a kind of background, most often first."""
    counts = Counter(
        (int(effects.truth_S[flip.subject]), effects.kinds[flip.ground], flip.said) for flip in effects.flips()
    )
    return [
        {"class": effects.labels[truth], "on": kind, "becomes": effects.labels[said], "times": times}
        for (truth, kind, said), times in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def numbers(effects: Effects) -> dict[str, Any]:
    """Every figure, as the JSON file has it; shares in fractions of 1."""
    names = ("class", "background", "pictures", "accuracy", "probability", "change", "cosine", "own pixels")
    groups = [dict(zip(names, row, strict=True)) for row in group_rows(effects)]
    for group in groups:
        for name in ("accuracy", "probability", "change", "own pixels"):
            group[name] = None if group[name] is None else group[name] / 100
    return {
        **headline(effects),
        "classes": class_rows(effects),
        "groups": groups,
        "subjects": subject_rows(effects),
        "flips by class": flip_counts(effects),
        "backgrounds": list(effects.grounds),
        "kinds": list(effects.kinds),
        "probability": effects.true_SG,
        "change": effects.change_SG,
        "cosine": effects.cosine_SG,
        "right": effects.right_SG,
        "own pixels right": effects.own_SG,
        "added to labels": {
            kind: dict(zip(effects.labels, row, strict=True))
            for kind, row in zip(effects.kind_names, effects.push().tolist(), strict=True)
        },
        "left out": [{"picture": picture, "why": why} for picture, why in effects.failures],
    }

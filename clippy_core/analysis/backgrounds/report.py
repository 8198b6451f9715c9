"""The report on what backgrounds do: matrices, the worst views, and tables.

Shapes: S subject, G background, K label.
"""

import numpy as np

from clippy_core.analysis.backgrounds.effects import Answer, Effects, Views, nanmean
from clippy_core.analysis.backgrounds.numbers import (
    class_rows,
    flip_counts,
    group_rows,
    headline,
    numbers,
    subject_rows,
)
from clippy_core.analysis.backgrounds.run import BackgroundsOptions
from clippy_core.analysis.maps import Shade, heat_map
from clippy_core.analysis.pictures import left_out
from clippy_core.analysis.report import Figure, Report, Section, Table
from clippy_core.analysis.sheets import Tile, sheet
from clippy_core.model.config import ModelConfig

MOST_DRAWN = 48
MOST_ROWS = 60
SHOWN_SUBJECTS = 10
WORST_EACH = 3


def draw(config: ModelConfig, effects: Effects, views: Views, options: BackgroundsOptions) -> Report:
    """Draw what was measured; views are made again for the contact sheet."""
    figures = [_groups_figure(effects), _push_figure(effects)]
    groups = Section("Classes on kinds of background", _GROUPS, tuple(figures), (_classes_table(effects),))
    subjects = Section(
        "Subjects on backgrounds",
        _SUBJECTS,
        (_matrix_figure(effects), _sheet_figure(effects, views)),
        (_subjects_table(effects), *_flips_tables(effects), _groups_table(effects)),
    )
    return Report(
        "backgrounds",
        "What the background does to the answer",
        _lead(effects, views),
        (groups, subjects, *left_out(effects.failures)),
        numbers(effects),
        {
            "model": config.name,
            "layout": views.layout,
            "labels": ["|".join(label.words) for label in views.labels],
            "size": options.size or config.vision.size,
            "scale": options.scale if views.layout == "composed" else None,
            "templates": list(options.templates or config.templates),
        },
        "backgrounds.groups",
    )


_GROUPS = (
    "A class's change is the probability of the true label on this kind of background, less the mean over the "
    "backgrounds of the same subject. What a background adds to a label is counted over subjects that are something "
    "else: a background that adds much to a label says that label by itself."
)
_SUBJECTS = "Probabilities are softmax over the labels with the model's own factor on cosines."


def _lead(effects: Effects, views: Views) -> str:
    found = headline(effects)
    if not found:
        return "No class was seen on two backgrounds, so nothing can be compared."
    pushes = ""
    if found["push"]:
        most = found["push"][0]
        pushes = (
            f" The strongest pull: {most['background']} adds {100 * most['added']:.0f} points to the probability of "
            f"{most['label']!r} for subjects that are something else."
        )
    what = "pictures" if views.layout == "waterbirds" else "compositions"
    best, worst = found["best group"], found["worst group"]
    lost = 100 * found["mean drop of a subject"]
    return (
        f"{len(effects.answers):,} {what}: {100 * found['average']:.1f} % are named right. The best group is "
        f"{best['class']} on {best['background']} with {100 * best['accuracy']:.1f} %, the worst {worst['class']} on "
        f"{worst['background']} with {100 * worst['accuracy']:.1f} %: a drop of {100 * found['drop']:.1f} points. "
        f"Between its best and its worst background, a subject loses {lost:.1f} points of probability on average."
        f"{pushes}"
    )


def _present(effects: Effects) -> np.ndarray:
    """Classes that have a subject; labels may name others."""
    return np.unique(effects.truth_S)


def _groups_figure(effects: Effects) -> Figure:
    classes = _present(effects)[:MOST_DRAWN]
    change_KG = effects.by_group(effects.change_SG)[classes][:, :MOST_DRAWN]
    shade = _around_zero(change_KG, "change against the average background")
    names = [effects.labels[number] for number in classes.tolist()]
    return Figure(
        "backgrounds.groups",
        heat_map(100 * change_KG, names, effects.kind_names[:MOST_DRAWN], shade),
        "What each kind of background changes for each class",
        "Points of probability of the true label, against the average background. Red: worse than elsewhere.",
    )


def _push_figure(effects: Effects) -> Figure:
    push_GK = effects.push()[:MOST_DRAWN]
    labels = np.sort(np.argsort(-np.nan_to_num(np.abs(push_GK)).max(0), kind="stable")[:MOST_DRAWN])
    push_GK = push_GK[:, labels]
    return Figure(
        "backgrounds.push",
        heat_map(
            100 * push_GK,
            effects.kind_names[:MOST_DRAWN],
            [effects.labels[number] for number in labels.tolist()],
            _around_zero(push_GK, "added to the probability", reverse=True),
        ),
        "What each kind of background adds to each label",
        "Points of probability, over subjects that are something else. Red: the background speaks for the label.",
    )


def _around_zero(values: np.ndarray, meaning: str, *, reverse: bool = False) -> Shade:
    reach = max(1.0, 100 * float(np.nanmax(np.abs(values)))) if np.isfinite(values).any() else 1.0
    return Shade("RdBu_r" if reverse else "RdBu", -reach, reach, f"{meaning}, points", "+.0f")


def _matrix_figure(effects: Effects) -> Figure:
    rows = np.argsort(-np.nan_to_num(effects.drop_S, nan=-1.0), kind="stable")[:MOST_DRAWN]
    rows = rows[np.argsort(effects.truth_S[rows], kind="stable")]
    columns = np.argsort(nanmean(effects.change_SG, 0), kind="stable")[:MOST_DRAWN]
    shown_SG = 100 * effects.true_SG[np.ix_(rows, columns)]
    cut = len(rows) < len(effects.subjects) or len(columns) < len(effects.grounds)
    return Figure(
        "backgrounds.matrix",
        heat_map(
            shown_SG,
            [_named(effects, subject) for subject in rows.tolist()],
            [effects.grounds[ground] for ground in columns.tolist()],
            Shade("RdYlBu", 0, 100, "probability of the true label, %", ".0f"),
        ),
        "Probability of the true label, by subject and background",
        "The worst backgrounds stand at the left."
        + (f" Shown are {len(rows)} subjects that lose most, on the {len(columns)} worst backgrounds." if cut else ""),
    )


def _named(effects: Effects, subject: int) -> str:
    name, label = effects.subjects[subject], effects.labels[effects.truth_S[subject]]
    return name if label.casefold() in name.casefold() else f"{name} ({label})"


def _sheet_figure(effects: Effects, views: Views) -> Figure:
    by_subject: dict[int, list[Answer]] = {}
    for answer in effects.answers:
        by_subject.setdefault(answer.subject, []).append(answer)
    rows = []
    for subject in np.argsort(-np.nan_to_num(effects.drop_S, nan=-1.0), kind="stable")[:SHOWN_SUBJECTS].tolist():
        ordered = sorted(by_subject.get(subject, []), key=lambda answer: answer.probability)
        chosen = [*ordered[:WORST_EACH], ordered[-1]] if len(ordered) > WORST_EACH else ordered
        if chosen:
            rows.append((_named(effects, subject), [_tile(effects, views, answer) for answer in chosen]))
    return Figure(
        "backgrounds.worst",
        sheet(rows),
        "The worst backgrounds of the subjects that lose most",
        f"Each row: a subject on its {WORST_EACH} worst backgrounds and, at the end, on its best. Framed red where "
        "another label wins; under each the background, the winner, and the probability of the true label.",
    )


def _tile(effects: Effects, views: Views, answer: Answer) -> Tile:
    truth = effects.truth_S[answer.subject]
    said = effects.labels[answer.said]
    right = answer.said == truth
    second = f"{said}, true {100 * answer.probability:.0f} %"
    ground = effects.grounds[answer.ground]
    return Tile(views.again(answer), (f"on {ground}", second), "good" if right else "bad")


def _classes_table(effects: Effects) -> Table:
    columns = ("class", "pictures", "right, %", "average, %", "worst background", "there, %", "best background")
    columns += ("there, % ", "drop, points")
    rows = tuple(
        (
            row["class"],
            row["pictures"],
            100 * row["accuracy"],
            100 * row["probability"],
            row["worst background"],
            100 * row["worst"],
            row["best background"],
            100 * row["best"],
            100 * row["drop"],
        )
        for row in class_rows(effects)
    )
    caption = "Right: named right. The other figures are probabilities of the true label."
    return Table("Classes, those that lose most first", columns, rows, caption)


def _groups_table(effects: Effects) -> Table:
    columns = (
        "class",
        "background",
        "pictures",
        "right, %",
        "probability, %",
        "change, points",
        "cosine",
        "own pixels, %",
    )
    return Table("Classes on kinds of background, worst first", columns, tuple(group_rows(effects)[:MOST_ROWS]))


def _subjects_table(effects: Effects) -> Table:
    columns = ("subject", "class", "average, %", "worst background", "there, %", "best background", "there, % ")
    columns += ("drop, points", "right on", "of", "own pixels, %", "taken for")
    rows = sorted(subject_rows(effects), key=lambda row: -row["drop"])
    cells = tuple(
        (
            row["subject"],
            row["class"],
            100 * row["average"],
            row["worst background"],
            100 * row["worst"],
            row["best background"],
            100 * row["best"],
            100 * row["drop"],
            row["right"],
            row["pictures"],
            None if np.isnan(row["own pixels"]) else 100 * row["own pixels"],
            ", ".join(f"{label} ×{count}" for label, count in list(row["taken for"].items())[:3]),
        )
        for row in rows[:MOST_ROWS]
    )
    return Table("Subjects, those that lose most first", columns, cells)


def _flips_tables(effects: Effects) -> tuple[Table, ...]:
    counts = flip_counts(effects)
    if not counts:
        return ()
    rows = tuple(tuple(row.values()) for row in counts[:MOST_ROWS])
    caption = "Wrong answers about subjects that are named right on another background."
    return (Table("What flips, where, and into what", ("class", "on", "becomes", "times"), rows, caption),)

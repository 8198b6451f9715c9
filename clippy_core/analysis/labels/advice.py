"""What stands out in a label set, in plain words with advice."""

import numpy as np

from clippy_core.analysis.labels.run import LabelSet

MOST_ADVICE = 8
"""Findings of one kind that are put into words; all of them are in the tables and the JSON file."""
NEAR = 0.95
"""A label whose nearest is nearer than this share of pairs of everyday names is told of if the nearest changes."""
MANY_PIECES = 4
"""A word in so many tokens is one that the tokenizer does not know."""
SETS = {
    "own": "the model's own",
    "yours": "yours (--template)",
    "word": "the word alone",
    "paper": "the paper's",
    "openai-80": "OpenAI's 80",
}


def advice(found: LabelSet) -> list[tuple[str, str]]:
    """What stands out, the worst first: a kind, and a sentence that says what to do."""
    return [*_about_tokens(found), *_about_collisions(found), *_about_pairs(found), *_about_prompts(found)]


def _about_tokens(found: LabelSet) -> list[tuple[str, str]]:
    said = []
    for words in found.same:
        quoted = " and ".join(map(repr, words[:4]))
        said.append(("same tokens", f"{quoted} are the same to the tokenizer, so the model cannot tell them apart."))
    for word in found.tokens:
        if word.cut:
            said.append(
                (
                    "cut",
                    f"{word.word!r} makes a text of {word.longest} tokens; the model reads {word.limit}: shorten it.",
                )
            )
        if word.unknown:
            share = f"{word.unknown} of {len(word.tokens)} tokens"
            said.append(
                ("unknown", f"{share} of {word.word!r} are unknown to the tokenizer: the model does not see them.")
            )
        elif len(word.tokens) >= MANY_PIECES * len(word.word.split()):
            pieces = " ".join(word.tokens)
            said.append(("pieces", f"{word.word!r} is no word to the tokenizer ({pieces}); try an everyday word."))
    return said[:MOST_ADVICE]


def _about_collisions(found: LabelSet) -> list[tuple[str, str]]:
    said = []
    for item in found.collisions[:MOST_ADVICE]:
        word, rival = found.words[item.word], found.words[item.rival]
        own, other = (found.names[found.label_W[number]] for number in (item.word, item.rival))
        # A label's name stays; what can go is a synonym, and of two the one that has strayed.
        goes, takes = (rival, own) if word == own and rival != other else (word, other)
        of = "" if word == own else f" of label {own!r}"
        belongs = "" if rival == other else f" of label {other!r}"
        what = f"leave {goes!r} out, or it will take pixels of {takes!r}."
        if word == own and rival == other:
            what = f"its synonyms do not keep {other!r} away; better ones would."
        said.append(
            (
                "synonym",
                f"{word!r}{of} is nearer to {rival!r}{belongs} (cosine {item.other:z.2f}) than to any other word of "
                f"its own ({item.own:z.2f}): {what}",
            )
        )
    return said


def _about_pairs(found: LabelSet) -> list[tuple[str, str]]:
    said = []
    for pair in found.confusable[:MOST_ADVICE]:
        names = [found.names[label] for label in pair.labels]
        words = [found.words[word] for word in pair.words]
        through = "" if words == names else f" through {words[0]!r} and {words[1]!r}"
        share = "nearly all" if pair.nearer > 0.9995 else f"{100 * pair.nearer:.1f} % of the"
        nearness = f"a cosine of {pair.cosine:z.2f}{through}, more than {share} pairs of everyday names"
        said.append(
            (
                "confusable",
                f"{names[0]!r} and {names[1]!r} have {nearness}: expect them to swap pixels. Join them with |, or say "
                "what makes them differ.",
            )
        )
    return said


def _about_prompts(found: LabelSet) -> list[tuple[str, str]]:
    said = []
    near = float(np.quantile(found.reference_R, NEAR))
    for label, name in enumerate(found.names):
        # Which of many far labels is the nearest means nothing.
        if not found.cosine_K[label] >= near:
            continue
        changed = [
            f"{found.names[int(effect.neighbour_K[label])]!r} with {SETS[effect.name]}"
            for effect in found.prompts[1:]
            if effect.neighbour_K[label] != found.neighbour_K[label]
        ]
        if changed and len(found.names) > 2:
            here = found.names[int(found.neighbour_K[label])]
            said.append(
                (
                    "prompt",
                    f"nearest to {name!r} is {here!r}, but {', '.join(changed)}: its surroundings hang on the prompt.",
                )
            )
    return said[:MOST_ADVICE]

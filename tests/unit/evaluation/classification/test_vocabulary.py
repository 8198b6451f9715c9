"""The names, ids and prompts of the ImageNet protocol against what others have of them."""

import hashlib

import pytest

from clippy_core.evaluation.vocabulary.imagenet import classes, index_of_number, index_of_wnid
from clippy_core.evaluation.vocabulary.templates import OPENAI_80, PAPER


def digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_the_names_are_those_that_were_checked():
    names = [one.name for one in classes()]
    assert digest(names) == "571ae1c583b4be7da87519494c52bf405a46af05d5815627c7a0dee997068b60"
    assert (len(names), names[0], names[134], names[517], names[999]) == (
        *(1000, "tench", "crane bird", "construction crane"),
        "toilet paper",
    )
    # In the source as well, two names stand for two classes each.
    assert {name for name in names if names.count(name) > 1} == {"missile", "sunglasses"}


def test_the_names_and_prompts_are_open_clip_s():
    metadata = pytest.importorskip("open_clip.zero_shot_metadata")
    assert tuple(one.name for one in classes()) == tuple(metadata.IMAGENET_CLASSNAMES)
    assert tuple(make("{}") for make in metadata.OPENAI_IMAGENET_TEMPLATES) == OPENAI_80


def test_the_order_is_timm_s():
    from timm.data.imagenet_info import ImageNetInfo

    wnids = [one.wnid for one in classes()]
    assert wnids == ImageNetInfo().label_names()
    assert [index_of_wnid()[wnid] for wnid in wnids] == list(range(1000))


def test_numbers_of_the_development_kit(sets):
    assert sorted(one.number for one in classes()) == list(range(1, 1001))
    assert (
        digest(one.wnid for one in sorted(classes(), key=lambda one: one.number))
        == "930a31901625f2149f8bab016254025ad225daf9efafa3f00011daf6f5f919f9"
    )
    assert [(index_of_wnid()[wnid], index_of_number()[number]) for wnid, _, number in sets.HEAD] == [
        (index, index) for _, index, _ in sets.HEAD
    ]


def test_prompts():
    assert digest(OPENAI_80) == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"
    assert len(set(OPENAI_80)) == 80
    assert all(prompt.count("{}") == 1 for prompt in (*OPENAI_80, *PAPER))
    assert PAPER == ("a photo of a {}.",)

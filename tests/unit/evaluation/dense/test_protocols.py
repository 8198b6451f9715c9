"""What the presets say, and what a user changes of them."""

import json

import pytest

from clippy_core.errors import UsageError
from clippy_core.evaluation.dense.vocabulary import context, voc
from clippy_core.evaluation.options import BenchmarkOptions, Calibration, GroupingOptions
from clippy_core.evaluation.protocols import PRESETS, preset, resolve
from clippy_core.evaluation.vocabulary.templates import OPENAI_80
from clippy_core.segmentation.options import SegmentOptions, Windows


def test_the_published_code_s():
    protocol = preset("kahnchana")
    # Source: voc_extended_classes of that code, 21 + 39 names.
    assert len(protocol.distractors) == len(set(protocol.distractors)) == 60 - 21
    others = set(context.NAMES) - set(voc.NAMES) - {"table"}
    assert {word.replace("track", "railway track") for word in protocol.distractors} == others
    names = [protocol.renamed.get(name, name) for name in voc.NAMES]
    assert (names[10], names[19]) == ("table", "television monitor")
    assert (protocol.split, protocol.size, protocol.picture, protocol.mask) == ("train", 224, "crop", "squash")
    assert protocol.templates == ("a photo of a(n) {}",)
    aligned = preset("kahnchana-aligned")
    differing = {name for name, value in vars(aligned).items() if value != getattr(protocol, name)}
    assert differing == {"name", "mask", "remarks"}
    assert aligned.mask == "crop"


def test_sclip_s():
    protocol = preset("sclip")
    assert (protocol.windows, protocol.templates, protocol.synonyms) == (Windows(224, 112), OPENAI_80, True)
    assert (protocol.side("voc21"), protocol.side("cityscapes19"), protocol.side("cityscapes27")) == (336, 560, 560)
    assert (protocol.softmax_scale("voc21"), protocol.softmax_scale("context60")) == (65, 50)
    assert (protocol.certainty, protocol.limit_value, protocol.background) == ("softmax", 0.1, "names")
    assert protocol.describe()["templates"] == "openai-80"


def test_the_paper_s_is_the_default():
    assert resolve(BenchmarkOptions()) == preset("paper")
    assert preset("paper").templates == ("a photo of a {}.",)
    assert preset("paper").side("voc21") is None


@pytest.mark.parametrize("name", PRESETS)
def test_everything_is_said_in_plain_data(name):
    described = json.loads(json.dumps(preset(name).describe()))
    assert described.keys() == vars(preset(name)).keys()
    assert described["name"] == name
    assert described["remarks"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (BenchmarkOptions(SegmentOptions(size=448), protocol="sclip"), {"size": 448, "sizes": {}}),
        (BenchmarkOptions(SegmentOptions(templates=("{}",))), {"templates": ("{}",)}),
        (BenchmarkOptions(SegmentOptions(windows=Windows(96, 48))), {"windows": Windows(96, 48)}),
        (BenchmarkOptions(SegmentOptions(background="wall|floor")), {"background": ("wall", "floor")}),
        (
            BenchmarkOptions(SegmentOptions(background="margin=0.05")),
            {"background": "none", "limit": "margin=0.05"},
        ),
        (BenchmarkOptions(overrides={"synonyms": True}), {"synonyms": True}),
        (BenchmarkOptions(overrides={"windows": None}, protocol="sclip"), {"windows": None}),
        (BenchmarkOptions(split="val", protocol="kahnchana"), {"split": "val"}),
        (BenchmarkOptions(SegmentOptions(size=224), protocol="kahnchana"), {}),
    ],
)
def test_what_a_user_sets_goes_before_and_is_noted(options, expected):
    protocol, plain = resolve(options), preset(options.protocol)
    assert {name: getattr(protocol, name) for name in expected} == expected
    assert protocol.changed == tuple(sorted(expected))
    same = vars(plain).keys() - expected.keys() - {"changed"}
    assert all(getattr(protocol, name) == getattr(plain, name) for name in same)


def refused(**overrides):
    return lambda: resolve(BenchmarkOptions(overrides=overrides))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: resolve(BenchmarkOptions(protocol="clip")), "accepted: paper, kahnchana, kahnchana-aligned, sclip"),
        (refused(name="mine"), "no field 'name'; accepted: background, distractors"),
        (refused(picture="round"), "picture is 'round'; accepted: whole, crop"),
        (refused(mask="half"), "mask is 'half'; accepted: own, crop, squash"),
        (refused(mask="crop"), "needs picture 'crop'"),
        (refused(picture="crop"), "no prediction outside; accepted: mask 'crop' or 'squash'"),
        (refused(background="sky"), "accepted: name, names, none, or words"),
        (refused(limit="sky"), "limit is 'sky'; accepted: none, threshold=T"),
        (refused(limit="threshold=7"), "a number from −1 to 1 is expected"),
        (refused(size=8), "size is 8; accepted: 32 to 4096"),
        (refused(scale=0), "scale is 0; accepted: above 0"),
        (refused(scales={"voc": -1}), "scale is -1; accepted: above 0"),
        (lambda: BenchmarkOptions(limit=0), "--limit is 0; accepted: 1 or more"),
        (lambda: BenchmarkOptions(metric="up"), "accepted: top-down, bottom-up, both"),
        (lambda: BenchmarkOptions(worst=3), "with a folder to write to"),
        (lambda: BenchmarkOptions(metric="bottom-up", calibrate=Calibration((0.1,))), "has no labels"),
        (lambda: GroupingOptions("mean"), "accepted: pca, kmeans, spectral"),
        (lambda: GroupingOptions(groups=1), "accepted: 2 to 64"),
        (lambda: Calibration(()), "at least one limit"),
        (lambda: Calibration((0.1,), share=1.0), "above 0, below 1"),
        (lambda: Calibration((0.1,), kind="words"), "accepted: threshold, margin, softmax"),
    ],
)
def test_what_is_not_accepted(make, words):
    with pytest.raises(UsageError, match=words):
        make()

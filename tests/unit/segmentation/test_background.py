"""The rules for *none of these*: how they are written, and what each does to a label map worked out by hand."""

import numpy as np
import pytest

from clippy_core.errors import UsageError
from clippy_core.prompts import Label
from clippy_core.segmentation.background import BackgroundRule, parse_background
from clippy_core.segmentation.options import SegmentOptions


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param(None, BackgroundRule(), id="nothing"),
        pytest.param("none", BackgroundRule(), id="none"),
        pytest.param(" None ", BackgroundRule(), id="none in any case"),
        pytest.param("threshold=0.2", BackgroundRule("threshold", 0.2), id="threshold"),
        pytest.param("threshold=-1", BackgroundRule("threshold", -1), id="lowest threshold"),
        pytest.param("threshold=1", BackgroundRule("threshold", 1), id="highest threshold"),
        pytest.param(" threshold = 2e-1 ", BackgroundRule("threshold", 0.2), id="spaces"),
        pytest.param("margin=0", BackgroundRule("margin", 0), id="lowest margin"),
        pytest.param("margin=2", BackgroundRule("margin", 2), id="highest margin"),
        pytest.param("softmax=0.5", BackgroundRule("softmax", 0.5), id="softmax"),
        pytest.param("wall", BackgroundRule("words", label=Label("background", ("wall",))), id="a word"),
        pytest.param(
            "wall|floor", BackgroundRule("words", label=Label("background", ("wall", "floor"))), id="synonyms"
        ),
        pytest.param("wall,floor", BackgroundRule("words", label=Label("background", ("wall", "floor"))), id="a list"),
        pytest.param(
            "wall|floor, blue sky",
            BackgroundRule("words", label=Label("background", ("wall", "floor", "blue sky"))),
            id="both",
        ),
        pytest.param("background", BackgroundRule("words", label=Label("background", ("background",))), id="itself"),
    ],
)
def test_what_a_rule_means(text, rule):
    assert parse_background(text) == rule
    assert SegmentOptions(background=text).rule == rule
    assert SegmentOptions(background=rule).rule is rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("threshold=", "a number from −1 to 1 is expected after threshold=", id="no number"),
        pytest.param("threshold=high", "a number from −1 to 1", id="a word"),
        pytest.param("threshold=1.01", "a number from −1 to 1", id="threshold above"),
        pytest.param("threshold=-1.01", "a number from −1 to 1", id="threshold below"),
        pytest.param("threshold=nan", "a number from −1 to 1", id="NaN"),
        pytest.param("threshold=inf", "a number from −1 to 1", id="infinite"),
        pytest.param("threshold=0.1=0.2", "a number from −1 to 1", id="two numbers"),
        pytest.param("threshold=0,2", "a number from −1 to 1", id="decimal comma"),
        pytest.param("margin=-0.1", "a number from 0 to 2", id="margin below"),
        pytest.param("margin=2.1", "a number from 0 to 2", id="margin above"),
        pytest.param("softmax=1.1", "a number from 0 to 1", id="softmax above"),
        pytest.param("softmax=-0.1", "a number from 0 to 1", id="softmax below"),
        pytest.param(
            "treshold=0.2", "is unknown; accepted: none, threshold=T, margin=T, softmax=T, or words", id="typo"
        ),
        pytest.param("=0.2", "is unknown", id="no rule"),
        pytest.param("threshold:0.2", "did you mean threshold=0.1", id="a colon"),
        pytest.param("treshold", "did you mean threshold=0.1", id="typo without a number"),
        pytest.param("Softmax 0.5", "did you mean softmax=0.1", id="a space"),
        pytest.param("thresh", "did you mean threshold=0.1", id="abbreviated"),
        pytest.param("threshold", "needs a number, such as threshold=0.1", id="rule without a number"),
        pytest.param("", "is empty", id="empty"),
        pytest.param("wall,wall", "label 'wall' is repeated", id="repeated"),
        pytest.param("wall|", "has an empty synonym", id="empty word"),
    ],
)
def test_rules_that_are_refused(text, message):
    with pytest.raises(UsageError) as caught:
        parse_background(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        SegmentOptions(background=text)


# One location a pixel, so that nothing is interpolated. Winner: a, b, a, b; lead: 0.8, 0.05, 0.1, 0.3.
LOGITS = np.array([[[0.9, 0.1], [0.25, 0.3], [0.1, 0.0], [-0.5, -0.2]]])
PICTURE = np.zeros((1, 4, 3), np.uint8)


def probability(winner, other, scale):
    return 1 / (1 + np.exp(scale * (other - winner)))


@pytest.mark.parametrize(
    ("rule", "label_map"),
    [
        pytest.param("none", [0, 1, 0, 1], id="none"),
        pytest.param("threshold=0.2", [1, 2, 0, 0], id="threshold"),
        pytest.param("threshold=-1", [1, 2, 1, 2], id="threshold that all reach"),
        pytest.param("threshold=1", [0, 0, 0, 0], id="threshold that none reaches"),
        pytest.param("threshold=0.3", [1, 2, 0, 0], id="the limit itself is enough"),
        pytest.param("margin=0.2", [1, 0, 0, 2], id="margin"),
        pytest.param("margin=0", [1, 2, 1, 2], id="margin that all reach"),
        pytest.param("margin=2", [0, 0, 0, 0], id="margin that none reaches"),
        pytest.param("softmax=0.5", [1, 2, 1, 2], id="softmax that all reach"),
        pytest.param("softmax=0.75", [1, 0, 1, 2], id="softmax"),
        pytest.param("softmax=0.9", [1, 0, 0, 2], id="higher softmax"),
    ],
)
def test_what_a_rule_does_to_a_label_map(given_logits, rule, label_map):
    segmenter = given_logits(LOGITS)
    scale = segmenter.config.logit_scale
    assert np.isclose(scale, 1 / 0.07)
    chances = [probability(*sorted(pair, reverse=True), scale) for pair in LOGITS[0]]
    assert [round(chance, 2) for chance in chances] == [1.0, 0.67, 0.81, 0.99]

    result = segmenter.segment(PICTURE, "a,b", background=rule, score_map=True)
    assert result.label_map.tolist() == [label_map]
    assert result.has_background == (rule != "none")
    names = ("a", "b") if rule == "none" else ("background", "a", "b")
    assert result.labels == names
    np.testing.assert_allclose(result.scores, [0.9, 0.3] if rule == "none" else [np.nan, 0.9, 0.3], atol=1e-6)
    np.testing.assert_allclose(result.score_map, [[0.9, 0.3, 0.1, -0.2]], atol=1e-6)


def test_background_words_become_label_0(given_logits):
    logits = np.array([[[0.1, 0.2, 0.9], [0.5, 0.1, 0.3], [0.1, 0.6, 0.3], [0.2, 0.2, 0.2]]])
    segmenter = given_logits(logits)
    result = segmenter.segment(PICTURE, "dog", background="wall|floor")
    assert result.labels == ("background", "dog")
    assert result.label_map.tolist() == [[1, 0, 0, 0]]
    assert result.has_background
    np.testing.assert_allclose(result.scores, [0.6, 0.9], atol=1e-6)
    listed = segmenter.segment(PICTURE, "dog", background="wall,floor")
    np.testing.assert_array_equal(listed.label_map, result.label_map)


def test_synonyms_do_not_compete_with_each_other(given_logits):
    # a|b lie close together; their label leads c by far and holds nearly all of the probability that c leaves.
    segmenter = given_logits(np.array([[[0.50, 0.49, 0.10]]]))
    pixel = np.zeros((1, 1, 3), np.uint8)
    for rule in ("margin=0.3", "softmax=0.9"):
        assert segmenter.segment(pixel, "a|b,c", background=rule).label_map.tolist() == [[1]]
        assert segmenter.segment(pixel, "a,b,c", background=rule).label_map.tolist() == [[0]]


def test_a_single_label_has_no_rival(given_logits):
    segmenter = given_logits(np.array([[[0.1], [-0.1]]]))
    picture = np.zeros((1, 2, 3), np.uint8)
    assert segmenter.segment(picture, "a", background="margin=2").label_map.tolist() == [[1, 1]]
    assert segmenter.segment(picture, "a", background="softmax=1").label_map.tolist() == [[1, 1]]
    assert segmenter.segment(picture, "a", background="threshold=0").label_map.tolist() == [[1, 0]]


@pytest.mark.parametrize("rule", ["threshold=0.2", "margin=0.1", "softmax=0.5", "wall"])
@pytest.mark.parametrize("name", ["background", "Background|rest"])
def test_a_label_of_the_same_name_as_the_background_is_refused(given_logits, rule, name):
    segmenter = given_logits(np.zeros((1, 1, 3)))
    with pytest.raises(UsageError, match="'background' is what the background rule calls label 0"):
        segmenter.segment(PICTURE, [name, "dog"], background=rule)
    assert segmenter.segment(PICTURE, [name.partition("|")[0], "dog"]).labels[1] == "dog"


def test_a_word_cannot_be_both_a_label_and_background(given_logits):
    with pytest.raises(UsageError, match="label 'Wall' is repeated"):
        given_logits(np.zeros((1, 1, 3))).segment(PICTURE, "dog,Wall", background="wall")


@pytest.mark.parametrize("word", ["marine", "margarine", "shoulder", "wall 3", "threshing floor"])
def test_words_that_are_something_like_a_rule_stay_words(word):
    rule = parse_background(word)
    assert rule.label is not None
    assert rule.label.words == (word,)

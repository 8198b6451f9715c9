"""A label set's figures against scikit-learn and by hand, with word vectors that are given."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from clippy_core import events
from clippy_core.analysis.labels import run as label_set
from clippy_core.analysis.labels.advice import advice
from clippy_core.analysis.labels.report import label_cosines
from clippy_core.analysis.labels.run import LabelSetOptions, analyse_labels, compare, examine
from clippy_core.analysis.labels.tokens import read_tokens, same_tokens
from clippy_core.analysis.maps import by_likeness
from clippy_core.analysis.report import write_report
from clippy_core.errors import UsageError
from clippy_core.evaluation.vocabulary.templates import OPENAI_80
from clippy_core.prompts import parse_labels

WIDTH = 12
OWN = ("a {}", "{}")


def random_unit(*key):
    rng = np.random.default_rng(list("|".join(key).encode()))
    vector_D = rng.normal(size=WIDTH)
    return vector_D / np.linalg.norm(vector_D)


class Worded:
    """A text tower that has a vector for each word, and a random one for every word and prompt it was not given."""

    def __init__(self, tokenizer_file, vectors=None):
        self.vectors = {word: np.pad(np.array(v, float), (0, WIDTH - len(v))) for word, v in (vectors or {}).items()}
        self.config = SimpleNamespace(name="worded", templates=OWN, text=SimpleNamespace(max_tokens=8))
        self.tokenizer = SimpleNamespace(path=tokenizer_file)

    def embed_words(self, words, templates):
        rows = []
        for word in words:
            mean_D = sum(self.vectors.get(word, random_unit(word, template)) for template in templates)
            rows.append(mean_D / np.linalg.norm(mean_D))
        return torch.tensor(np.stack(rows), dtype=torch.float32)


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    """Knows a, of, dog, cat, and pieces of words made of x and y; has marks at both ends."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "of", "dog", "cat", "x", "y", "##x", "##y"]
    backend = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.enable_truncation(8)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return path


def at(degrees):
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


@pytest.fixture
def strayed(tokenizer_file):
    """Words on a circle: hound has strayed to wolf, which is another label; cat stands far off."""
    return Worded(
        tokenizer_file, {"dog": at(0), "puppy": at(10), "hound": at(40), "wolf": at(45), "fox": at(70), "cat": at(200)}
    )


def test_a_synonym_on_the_wrong_side_is_found(strayed):
    found = examine(strayed, LabelSetOptions(parse_labels("dog|puppy|hound,wolf|fox,cat"), prompts=("word",)))
    by_word = {found.words[item.word]: item for item in found.collisions}
    # hound: 5° from wolf, 30° from puppy. wolf: 5° from hound, 25° from fox.
    assert set(by_word) == {"hound", "wolf"}
    assert found.words[by_word["hound"].rival] == "wolf"
    assert by_word["hound"].other == pytest.approx(np.cos(np.radians(5)), abs=1e-6)
    assert by_word["hound"].own == pytest.approx(np.cos(np.radians(30)), abs=1e-6)
    assert by_word["wolf"].own == pytest.approx(np.cos(np.radians(25)), abs=1e-6)
    said = [text for about, text in advice(found) if about == "synonym"]
    # wolf is a label's name and stays; the synonym that strayed is what goes, whichever way it is looked at.
    assert all("leave 'hound' out, or it will take pixels of 'wolf'" in text for text in said)
    assert len(said) == 2


def test_nearest_labels_and_pairs(strayed):
    found = examine(strayed, LabelSetOptions(parse_labels("dog|puppy|hound,wolf|fox,cat"), prompts=("word",)))
    np.testing.assert_array_equal(found.neighbour_K, [1, 0, 1])
    np.testing.assert_allclose(found.cosine_K, np.cos(np.radians([5, 5, 130])), atol=1e-6)
    pair = found.pairs[0]
    assert [found.words[word] for word in pair.words] == ["hound", "wolf"]
    assert pair.nearer == np.mean(found.reference_R < pair.cosine)
    assert pair in found.confusable
    assert [pair.labels for pair in found.pairs] == [(0, 1), (1, 2), (0, 2)]


@pytest.mark.parametrize("block", [3, 512])
def test_comparing_is_what_scikit_learn_finds(monkeypatch, block):
    from sklearn.metrics.pairwise import cosine_similarity

    monkeypatch.setattr(label_set, "BLOCK", block)
    rng = np.random.default_rng(3)
    label_W = np.repeat(np.arange(9), rng.integers(1, 4, 9))
    vectors_WD = rng.normal(size=(len(label_W), 5)).astype(np.float32)
    cosines_WW = cosine_similarity(vectors_WD)
    unit_WD = vectors_WD / np.linalg.norm(vectors_WD, axis=1, keepdims=True)
    neighbour_K, cosine_K, pairs, collisions = compare(unit_WD, label_W, np.array([0.0]))
    other_WW = label_W[:, None] != label_W[None]
    best = {(a, b): cosines_WW[np.ix_(label_W == a, label_W == b)].max() for a in range(9) for b in range(9) if a != b}
    for label in range(9):
        others = {other: best[label, other] for other in range(9) if other != label}
        assert neighbour_K[label] == max(others, key=others.get)
        assert cosine_K[label] == pytest.approx(max(others.values()), abs=1e-6)
    expected = sorted((-best[a, b], a, b) for a in range(9) for b in range(a + 1, 9))
    assert [pair.labels for pair in pairs] == [(a, b) for _, a, b in expected]
    strayed = set()
    for word in range(len(label_W)):
        own = (label_W == label_W[word]) & (np.arange(len(label_W)) != word)
        if own.any() and cosines_WW[word][other_WW[word]].max() > cosines_WW[word][own].max():
            strayed.add(word)
    assert {item.word for item in collisions} == strayed
    assert strayed


def test_many_pairs_are_not_all_kept(monkeypatch):
    monkeypatch.setattr(label_set, "BLOCK", 16)
    monkeypatch.setattr(label_set, "MOST_PAIRS", 20)
    vectors_WD = np.random.default_rng(4).normal(size=(90, 6))
    unit_WD = (vectors_WD / np.linalg.norm(vectors_WD, axis=1, keepdims=True)).astype(np.float32)
    _, _, pairs, _ = compare(unit_WD, np.arange(90), np.array([0.0]))
    cosines_WW = np.triu(unit_WD @ unit_WD.T, 1)
    np.testing.assert_allclose([pair.cosine for pair in pairs], -np.sort(-cosines_WW.ravel())[:20], rtol=1e-6)


def test_prompts_are_averaged_as_the_segmenter_does(tokenizer_file):
    worded = Worded(tokenizer_file)
    labels = parse_labels("dog|hound,cat,cow")
    found = examine(worded, LabelSetOptions(labels))
    assert [effect.name for effect in found.prompts] == ["own", "word", "paper", "openai-80"]
    words = ["dog", "hound", "cat", "cow"]
    own_WD = worded.embed_words(words, OWN).numpy()
    for effect, templates in zip(found.prompts[1:], [("{}",), ("a photo of a {}.",), OPENAI_80], strict=True):
        other_WD = worded.embed_words(words, templates).numpy()
        change_W = 1 - (own_WD * other_WD).sum(1)
        np.testing.assert_allclose(effect.change_K, [change_W[:2].mean(), change_W[2], change_W[3]], atol=1e-5)
        cosines_WW = other_WD @ other_WD.T
        across = [cosines_WW[a, b] for a in range(4) for b in range(4) if a != b and {a, b} != {0, 1}]
        assert effect.spread == pytest.approx(np.mean(across), abs=1e-5)
        assert effect.closest == pytest.approx(np.max(across), abs=1e-5)
    assert found.prompts[0].change_K == pytest.approx([0, 0, 0], abs=1e-6)
    # Every different template once; the paper's is among the eighty, and one of the model's own is the word alone.
    assert [effect.name for effect in found.single] == [*OWN, *dict.fromkeys(("a photo of a {}.", *OPENAI_80))]


def test_templates_that_are_given_are_compared_with_the_models_own(tokenizer_file):
    worded = Worded(tokenizer_file)
    options = LabelSetOptions(parse_labels("dog,cat"), templates=("the {}",), prompts=("own", "word"))
    found = examine(worded, options)
    assert [effect.name for effect in found.prompts] == ["yours", "own", "word"]
    np.testing.assert_allclose(found.words_WD, worded.embed_words(["dog", "cat"], ("the {}",)), atol=1e-7)


def test_eighty_prompts_are_left_out_for_many_words(tokenizer_file):
    labels = parse_labels([f"word {number}" for number in range(label_set.MANY_WORDS + 1)])
    heard = []
    found = examine(Worded(tokenizer_file), LabelSetOptions(labels), heard.append)
    assert [effect.name for effect in found.prompts] == ["own", "word", "paper"]
    assert heard[0] == events.BatchStarted(3, 0)
    assert sum(isinstance(event, events.ItemFinished) for event in heard) == 3


def test_what_the_tokenizer_makes_of_words(tokenizer_file):
    words = ["dog", "xyxyx", "dög 7", "cat of a cat of a dog", "x"]
    dog, pieces, unknown, long, single = read_tokens(Worded(tokenizer_file), words, OWN)
    assert (dog.tokens, dog.unknown, dog.longest, dog.cut) == (("dog",), 0, 4, False)
    assert pieces.tokens == ("x", "##y", "##x", "##y", "##x")
    assert (unknown.tokens, unknown.unknown) == (("dog", "[UNK]"), 1)
    # [CLS] a + seven words [SEP] are ten tokens where eight are read.
    assert (long.longest, long.cut) == (10, True)
    assert not single.cut


def test_a_text_of_just_the_limit_is_not_cut(tokenizer_file):
    (word,) = read_tokens(Worded(tokenizer_file), ["dog cat dog cat dog"], OWN)
    assert (word.longest, word.cut) == (8, False)


def test_words_that_are_one_to_the_tokenizer(tokenizer_file):
    found = read_tokens(Worded(tokenizer_file), ["dog", "döG", "狗", "猫", "cat"], ("{}",))
    assert same_tokens(found) == [("dog", "döG"), ("狗", "猫")]


def test_every_kind_of_finding_is_said(strayed):
    words = "dog|puppy|hound,wolf|fox,xyxyxy,cat of a cat of a dog,狗,猫"
    found = examine(strayed, LabelSetOptions(parse_labels(words)))
    said = advice(found)
    assert {about for about, _ in said} >= {"synonym", "confusable", "same tokens", "unknown", "cut", "pieces"}
    assert all("\n" not in text for _, text in said)


def test_likeness_is_scipys_linkage_and_its_order_puts_neighbours_together(strayed):
    from scipy.cluster.hierarchy import leaves_list

    found = examine(strayed, LabelSetOptions(parse_labels("cat,dog,fox,puppy,wolf,hound"), prompts=("word",)))
    cosines_KK = label_cosines(found, np.arange(6))
    np.testing.assert_allclose(cosines_KK, np.clip(found.words_WD @ found.words_WD.T, None, 1), atol=1e-6)
    order = [found.names[label] for label in leaves_list(by_likeness(cosines_KK))]
    assert order in (
        ["cat", "fox", "wolf", "hound", "puppy", "dog"],
        ["dog", "puppy", "hound", "wolf", "fox", "cat"],
    )


def test_cosines_of_labels_are_those_of_their_nearest_words(strayed):
    found = examine(strayed, LabelSetOptions(parse_labels("dog|hound,cat,wolf"), prompts=("word",)))
    expected = np.cos(np.radians([[0, 160, 5], [160, 0, 155], [5, 155, 0]]))
    np.testing.assert_allclose(label_cosines(found, np.arange(3)), expected, atol=1e-6)
    np.testing.assert_allclose(label_cosines(found, np.array([2, 0])), expected[np.ix_([2, 0], [2, 0])], atol=1e-6)


@pytest.mark.parametrize("words", ["dog", "dog|puppy", "dog,cat", "dog,cat,<b>cow</b>,$x$"])
def test_the_report_of_small_and_odd_sets(tokenizer_file, tmp_path, words):
    found, report = analyse_labels(
        Worded(tokenizer_file), LabelSetOptions(parse_labels(words), prompts=("own", "word", "paper"))
    )
    files = write_report(report, tmp_path)
    assert (tmp_path / "report.html") in files
    assert "<b>cow" not in (tmp_path / "report.html").read_text()
    assert report.numbers["labels"] == list(found.names)
    assert report.main == ("labels.cosines" if len(found.names) > 1 else "")
    assert report.sections[0].tables


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"labels": ()}, "no label was given"),
        ({"labels": parse_labels("a"), "prompts": ("mine",)}, "'mine'; accepted: own, word, paper, openai-80"),
        ({"labels": parse_labels("a"), "templates": ("photo",)}, "must contain {} exactly once"),
    ],
)
def test_mistakes(wrong, words):
    with pytest.raises(UsageError) as caught:
        LabelSetOptions(**wrong)
    assert words in str(caught.value)

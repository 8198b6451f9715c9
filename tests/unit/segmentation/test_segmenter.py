"""Words and a picture in, a label for every pixel out, with a real if tiny model."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clippy_core
from clippy_core.errors import ConfigError, DataError, DeviceError, ImageError, UsageError
from clippy_core.kernels import patch_logits, reference
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.options import MAX_SIZE, MIN_SIZE, SegmentOptions

BUNDLED_PHOTOGRAPH = Path(__file__).parents[3] / "docs" / "photographs" / "castle.jpg"


@pytest.fixture
def picture():
    blocks = np.random.default_rng(3).integers(0, 256, (6, 9, 3), np.uint8)
    return blocks.repeat(17, axis=0).repeat(13, axis=1)


def test_the_label_map_is_the_best_label_of_the_interpolated_cosines(segmenter, picture):
    labels = ["dog|puppy", "grass", "sky|clouds|air", "road"]
    result = segmenter.segment(picture, labels, score_map=True)
    features_PD, grid = segmenter.encode(picture)
    embeddings = segmenter.embed_labels(parse_labels(labels))
    logits_hwK = patch_logits(features_PD, embeddings.words_KD, grid)
    want = reference.label_map(
        logits_hwK, picture.shape[:2], groups=np.array(embeddings.label_of_word), scores=True, dtype=torch.float64
    )
    assert embeddings.label_of_word == (0, 0, 1, 2, 2, 2, 3)
    assert (result.label_map == want.labels_HW.numpy()).mean() > 0.999
    np.testing.assert_allclose(result.score_map, want.scores_HW, atol=1e-5)
    assert result.score_map.dtype == np.float32
    best_K = logits_hwK.amax(dim=(0, 1))
    np.testing.assert_allclose(result.scores, [best_K[:2].max(), best_K[2], best_K[3:6].max(), best_K[6]], atol=1e-6)


def test_what_a_result_says_about_itself(segmenter, picture, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture).save(path)
    result = segmenter.segment(path, "dog,grass")
    assert result.label_map.shape == (result.height, result.width) == picture.shape[:2]
    assert result.labels == ("dog", "grass")
    assert (result.model, result.source, result.has_background) == ("tiny", str(path), False)
    assert set(result.seconds) == {"decode", "text", "encode", "label"}
    assert all(seconds >= 0 for seconds in result.seconds.values())
    assert result.kernel.startswith("numpy (")
    assert result.score_map is None
    np.testing.assert_array_equal(result.picture.pixels_HW3, picture)


def test_a_picture_without_a_path_is_called_what_its_stream_is_called(segmenter, picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    assert segmenter.segment(io.BytesIO(stream.getvalue()), "dog").source == "image"
    assert segmenter.segment(picture, "dog").source == "image"
    stream.seek(0)
    stream.name = "-"
    assert segmenter.segment(stream, "dog").source == "-"


def test_the_size_is_that_of_the_picture_as_displayed(segmenter, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", exif=exif)
    turned = segmenter.segment(buffer.getvalue(), "dog,grass,sky")
    assert turned.label_map.shape == picture.shape[1::-1]
    upright = segmenter.segment(np.ascontiguousarray(np.rot90(picture, -1)), "dog,grass,sky")
    np.testing.assert_array_equal(turned.label_map, upright.label_map)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 100), (100, 1), (7, 300), (333, 40)])
def test_pictures_of_any_shape_get_a_label_at_every_pixel(segmenter, height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    result = segmenter.segment(picture, "dog,grass")
    assert result.label_map.shape == (height, width)
    assert set(np.unique(result.label_map)) <= {0, 1}


@pytest.mark.parametrize(
    ("count", "rule", "dtype"),
    [
        (1, "none", np.uint8),
        (254, "none", np.uint8),
        (255, "none", np.uint8),
        (256, "none", np.uint16),
        (254, "threshold=-1", np.uint8),
        (255, "threshold=-1", np.uint16),
        (254, "margin=0", np.uint8),
        (254, "wall|floor", np.uint8),
        (255, "wall|floor", np.uint16),
    ],
)
def test_more_than_255_labels_take_16_bits(given_logits, count, rule, dtype):
    words = count + (2 if "wall" in rule else 0)
    logits = np.zeros((1, 1, words))
    logits[..., -1] = 0.5
    segmenter = given_logits(logits)
    result = segmenter.segment(np.zeros((2, 2, 3), np.uint8), [f"label {i}" for i in range(count)], background=rule)
    last = count - 1 + (rule != "none")
    assert result.label_map.dtype == dtype
    assert (result.label_map == last).all()
    assert result.undecided == np.iinfo(dtype).max > last
    assert len(result.labels) == last + 1
    assert result.labels[last] == f"label {count - 1}"


def test_a_word_is_the_mean_of_its_templates(segmenter):
    templates = ("{}", "a photo of a {}.", "the {} again")
    several = segmenter.embed_words(["dog", "grass"], templates)
    parts = torch.stack([segmenter.embed_words(["dog", "grass"], (template,)) for template in templates])
    torch.testing.assert_close(several, torch.nn.functional.normalize(parts.mean(0), dim=-1))
    torch.testing.assert_close(several.norm(dim=-1), torch.ones(2))
    filled = segmenter.embed_words(["a photo of a dog."], ("{}",))
    torch.testing.assert_close(filled[0], parts[1, 0], rtol=0, atol=1e-6)


def test_texts_of_any_number_and_length_keep_their_places(segmenter):
    words = [f"{'long ' * (i % 7)}word {i}" for i in range(300)]
    together = segmenter.embed_words(words, ("{}",))
    for index in (0, 1, 150, 299):
        torch.testing.assert_close(together[index], segmenter.embed_words([words[index]], ("{}",))[0])


def test_the_model_s_own_templates_are_the_default(segmenter):
    labels = parse_labels("dog,grass")
    own = segmenter.embed_labels(labels, SegmentOptions(templates=segmenter.config.templates)).words_KD
    torch.testing.assert_close(segmenter.embed_labels(labels).words_KD, own)
    other = segmenter.embed_labels(labels, SegmentOptions(templates=("zzz {} 000",))).words_KD
    assert not torch.allclose(own, other, atol=1e-3)


def test_labels_are_embedded_once_for_many_pictures(segmenter, picture, monkeypatch):
    embed, calls = segmenter.embed_words, []
    monkeypatch.setattr(segmenter, "embed_words", lambda *given: (calls.append(given), embed(*given))[1])
    for labels in ("dog,grass", ["dog", "grass"], "dog,grass"):
        segmenter.segment(picture, labels)
    assert len(calls) == 1
    segmenter.segment(picture, "dog,grass", templates=("the {}",))
    segmenter.segment(picture, "grass,dog")
    segmenter.segment(picture, "grass,dog", background="wall")
    assert len(calls) == 4


def test_repeating_a_call_repeats_its_result(segmenter, picture):
    first, second = (segmenter.segment(picture, "dog,grass,sky", score_map=True) for _ in range(2))
    np.testing.assert_array_equal(first.label_map, second.label_map)
    np.testing.assert_array_equal(first.score_map, second.score_map)


def test_options_can_be_given_whole_or_one_by_one(segmenter, picture):
    whole = segmenter.segment(picture, "dog,grass,sky", SegmentOptions(size=96, background="margin=0.01"))
    single = segmenter.segment(picture, "dog,grass,sky", size=96, background="margin=0.01")
    mixed = segmenter.segment(picture, "dog,grass,sky", SegmentOptions(size=32, background="margin=0.01"), size=96)
    for other in (single, mixed):
        np.testing.assert_array_equal(whole.label_map, other.label_map)


def test_the_size_decides_how_fine_the_grid_is(segmenter, picture):
    for size, grid in ((32, (2, 2)), (64, (4, 5)), (128, (8, 9))):
        assert segmenter.encode(picture, SegmentOptions(size=size))[1] == grid


def test_a_line_of_pixels_does_not_become_a_panorama(segmenter):
    line = np.zeros((1, 100, 3), np.uint8)
    assert segmenter.encode(line, SegmentOptions(size=64))[1] == (1, 40)
    assert segmenter.encode(line, SegmentOptions(size=32))[1] == (1, 20)
    assert segmenter.encode(np.zeros((10, 100, 3), np.uint8), SegmentOptions(size=64))[1] == (4, 40)


@pytest.mark.parametrize(
    ("labels", "changes", "error", "message"),
    [
        pytest.param("", {}, UsageError, "the label set is empty", id="no label"),
        pytest.param([], {}, UsageError, "the label set is empty", id="empty list"),
        pytest.param("dog,dog", {}, UsageError, "'dog' is repeated", id="repeated label"),
        pytest.param([3], {}, UsageError, "not int", id="a number"),
        pytest.param("dog", {"colour": 1}, UsageError, "colour", id="unknown option"),
        pytest.param("dog", {"size": MIN_SIZE - 1}, UsageError, "--size is 31; accepted: 32 to 4096", id="too small"),
        pytest.param("dog", {"size": MAX_SIZE + 1}, UsageError, "--size is 4097; accepted: 32 to 4096", id="too large"),
        pytest.param("dog", {"templates": ()}, UsageError, "no prompt template", id="no template"),
        pytest.param("dog", {"templates": ("a",)}, UsageError, "exactly once", id="template without a place"),
        pytest.param("dog", {"background": "margin=9"}, UsageError, "a number from 0 to 2", id="background"),
        pytest.param("dog", {"max_pixels": 100}, ImageError, "the limit is 100", id="too many pixels"),
    ],
)
def test_what_is_refused(segmenter, picture, labels, changes, error, message):
    with pytest.raises(error) as caught:
        segmenter.segment(picture, labels, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize("image", ["gone.jpg", b"", np.zeros((3, 3, 3), np.int64), None])
def test_a_picture_that_cannot_be_used_is_an_image_error(segmenter, image):
    with pytest.raises(ImageError):
        segmenter.segment(image, "dog")


def test_labels_are_checked_before_the_picture_is_read(segmenter):
    with pytest.raises(UsageError):
        segmenter.segment("gone.jpg", "dog,dog")


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        pytest.param("clippy-lit", {}, UsageError, "did you mean clippy-lite", id="near name"),
        pytest.param("no/such/folder", {}, DataError, "no such model directory", id="missing folder"),
        pytest.param("clippy-lite", {"device": "gpu"}, UsageError, "accepted: auto, cpu, cuda", id="device"),
        pytest.param("clippy-lite", {"device": "cuda:4096"}, DeviceError, "cannot be used", id="missing GPU"),
        pytest.param("clippy-lite", {"precision": "int4"}, UsageError, "accepted: auto, fp32", id="precision"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(model, options, error, message):
    with pytest.raises(error) as caught:
        clippy_core.load(model, **options)
    assert message in str(caught.value)
    assert not isinstance(caught.value, ConfigError)


def test_the_bundled_model_finds_a_castle_under_the_sky():
    result = clippy_core.load(device="cpu").segment(BUNDLED_PHOTOGRAPH, ["castle", "sky", "grass"])
    rows = np.arange(result.height)
    centre = {name: np.average(rows, weights=mask.sum(axis=1)) for name, mask in result.masks().items()}
    assert centre["sky"] < centre["castle"]
    assert sum(label.fraction for label in result.summary()) == pytest.approx(1)
    assert max(result.summary(), key=lambda label: label.pixels).name in ("castle", "sky")

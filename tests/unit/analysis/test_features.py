"""Features against scikit-learn's components, attention worked out again from queries and keys, and numbers by hand."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from clippy_core.analysis.colours import cells, component_colours, enlarged, fit, heat, heat_colours, marked, montage
from clippy_core.analysis.features.points_map import embed_2d
from clippy_core.analysis.features.run import FeaturesOptions, analyse_features, cell_at, quota, spread
from clippy_core.analysis.features.spool import Spool
from clippy_core.analysis.look import LastAttention, look
from clippy_core.analysis.pictures import Pictures, unique_names
from clippy_core.analysis.principal import Principal, effective_number
from clippy_core.analysis.report import write_report
from clippy_core.errors import DataError, UsageError
from clippy_core.events import BatchFinished, BatchStarted, ItemFinished
from clippy_core.images import read_picture
from clippy_core.model.config import VisionConfig
from clippy_core.model.device import place
from clippy_core.model.vision import VisionTower
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.inputs import Input, find_inputs

FAST = FeaturesOptions(map=False)


def inputs(*paths):
    return [Input(str(path), Path(Path(path).stem)) for path in paths]


@pytest.mark.parametrize(("pictures", "locations", "channels"), [(5, 40, 12), (1, 9, 24), (3, 7, 7)])
def test_components_of_many_pictures_are_scikit_learn_s(pictures, locations, channels):
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(channels, channels)) * np.linspace(3, 0.1, channels)
    features = [(rng.normal(size=(locations, channels)) @ mixed + 50).astype(np.float32) for _ in range(pictures)]
    principal = Principal()
    for one in features:
        principal.add(one)
    count = min(4, pictures * locations - 1, channels)
    basis, together = principal.basis(count), np.concatenate(features).astype(np.float64)
    theirs = PCA(count, svd_solver="full").fit(together)
    assert np.allclose(basis.mean_D, theirs.mean_, rtol=1e-5)
    assert np.allclose(basis.share_C, theirs.explained_variance_ratio_, rtol=1e-3, atol=1e-6)
    signs = np.sign(np.take_along_axis(theirs.components_, np.abs(theirs.components_).argmax(1)[:, None], 1))
    assert np.allclose(basis.components_CD, theirs.components_ * signs, atol=2e-3)
    assert np.allclose(basis.project(features[0]), theirs.transform(together[:locations]) * signs.T, atol=0.05)


def test_a_picture_of_one_colour_has_no_directions():
    principal = Principal()
    principal.add(np.ones((6, 4), np.float32))
    basis = principal.basis(3)
    assert np.allclose(basis.project(np.ones((2, 4), np.float32)), 0)
    assert basis.share_C.sum() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("shares", "want"), [([1, 1, 1, 1], 4), ([5, 0, 0], 1), ([0, 0], 0), ([0.5, 0.25, 0.25], 2**1.5)]
)
def test_effective_number(shares, want):
    assert effective_number(np.array(shares, float)) == pytest.approx(want)


def test_features_are_those_that_segmenting_takes(vit, picture_file):
    pixels_HW3 = read_picture(picture_file("a.png")).pixels_HW3
    found = look(vit, pixels_HW3)
    features_PD, grid = vit.encode(pixels_HW3)
    assert found.grid == grid == (4, 5)
    assert np.allclose(found.unit_PD, features_PD.numpy(), atol=1e-6)
    assert found.prefix_ND.shape == (1, 24)
    assert np.array_equal(found.lengths["features"], np.linalg.norm(found.patches_PD, axis=1))
    assert look(vit, pixels_HW3, 64).grid == (8, 11)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_softmax_of_queries_and_keys(vit, picture_file, monkeypatch, fused):
    pixels_HW3 = read_picture(picture_file("a.png")).pixels_HW3
    attention, seen = vit.model.vision.trunk.blocks[-1].attn, {}
    for block in vit.model.vision.trunk.blocks:
        monkeypatch.setattr(block.attn, "fused_attn", fused)
    hook = attention.register_forward_pre_hook(lambda module, given: seen.update(tokens_BTC=given[0]))
    found = look(vit, pixels_HW3)
    hook.remove()
    with torch.no_grad():
        queries_TC, keys_TC, _ = attention.qkv(seen["tokens_BTC"])[0].chunk(3, dim=-1)
    heads, rows = attention.num_heads, []
    for query_Td, key_Td in zip(queries_TC.chunk(heads, -1), keys_TC.chunk(heads, -1), strict=True):
        scores_T = query_Td[0].double() @ key_Td.double().T / np.sqrt(query_Td.shape[1])
        rows.append(torch.softmax(scores_T, -1).numpy())
    want_T = np.mean(rows, 0)
    assert found.attention_NP is not None
    assert found.attention_NP.shape == (1, 20)
    assert np.allclose(found.attention_NP[0], want_T[1:], atol=1e-6)
    assert found.attention_NP[0].sum() == pytest.approx(1 - want_T[0], abs=1e-5)


@pytest.mark.parametrize("backbone", ["vit_small_patch16_dinov3", "vit_small_patch14_reg4_dinov2"])
def test_attention_of_registers_is_the_same_fused_and_in_steps(backbone):
    """Rotary positions and registers: the fused kernel's queries and keys against the block's own softmax."""
    small = {"depth": 2, "embed_dim": 48, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = VisionTower(VisionConfig(backbone, size=64, trunk_args=small)).eval()
    config = SimpleNamespace(vision=tower.config)
    fake = SimpleNamespace(model=SimpleNamespace(vision=tower), config=config, placement=place("cpu", "fp32"))
    pixels_HW3 = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    found = []
    for fused in (True, False):
        for module in tower.trunk.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = fused
        found.append(look(fake, pixels_HW3))  # type: ignore[arg-type]
    first, second = (one.attention_NP for one in found)
    assert first is not None
    assert second is not None
    assert first.shape == (5, len(found[0].patches_PD))
    assert np.allclose(first, second, atol=1e-6)
    assert (first.sum(1) < 1).all()
    assert first.std() > 0


def test_no_attention_is_claimed_where_it_is_not_among_all_tokens():
    recorder = LastAttention()
    assert recorder.of_prefix(1, 4) is None
    with recorder:
        torch.nn.functional.scaled_dot_product_attention(*torch.randn(3, 1, 2, 9, 4))
    assert recorder.of_prefix(1, 4) is None
    assert recorder.of_prefix(0, 9) is None
    found = recorder.of_prefix(1, 8)
    assert found is not None
    assert found.shape == (1, 8)


@pytest.mark.parametrize(
    ("backbone", "levels"), [("test_efficientnet", ("blocks.2", "blocks.3")), ("test_vit", ("blocks.1",))]
)
def test_lengths_of_levels_are_those_before_they_are_made_one(backbone, levels):
    tower = VisionTower(VisionConfig(backbone, size=64, levels=levels)).eval()
    config = SimpleNamespace(vision=tower.config)
    fake = SimpleNamespace(model=SimpleNamespace(vision=tower), config=config, placement=place("cpu", "fp32"))
    outputs = {}
    for name in levels:
        module = tower.trunk.get_submodule(name)
        module.register_forward_hook(lambda module, given, output, name=name: outputs.update({name: output}))
    pixels_HW3 = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    found = look(fake, pixels_HW3)  # type: ignore[arg-type]
    assert set(found.lengths) == {*levels, "last"}
    grid = found.grid
    for name in levels:
        output = outputs[name][0].detach()
        if output.ndim == 2:
            want_P = output[1:].norm(dim=1)
        else:
            rows, columns = output.shape[1] // grid[0], output.shape[2] // grid[1]
            want_P = output.norm(dim=0).view(grid[0], rows, grid[1], columns).mean((1, 3)).flatten()
        assert np.allclose(found.lengths[name], want_P.numpy(), rtol=1e-4), name
    assert "forward_features" not in vars(tower.trunk)
    assert np.allclose(np.linalg.norm(found.patches_PD, axis=1), np.sqrt(len(levels) + 1), atol=1e-4)


def test_the_same_thing_has_the_same_colour_and_numbers_are_those_of_the_model(vit, picture_file, tmp_path):
    a, b = picture_file("a.png", 0), picture_file("b.png", 1)
    again = tmp_path / "again.png"
    again.write_bytes(a.read_bytes())
    labels = parse_labels("dog|cat,boat,house")
    options = FeaturesOptions(labels=labels, points=((10.0, 40.0),))
    out = tmp_path / "out"
    report = analyse_features(vit, inputs(a, b, again), options, out)
    write_report(report, out)
    for kind in ("pca", "lengths-features", "attention-CLS", "label-02-boat"):
        assert (out / f"a.{kind}.png").read_bytes() == (out / f"again.{kind}.png").read_bytes()
        assert (out / f"a.{kind}.png").read_bytes() != (out / f"b.{kind}.png").read_bytes()
    document = json.loads((out / "features.json").read_text())
    found = document["numbers"]["pictures"][1]
    features_PD, grid = vit.encode(read_picture(b).pixels_HW3)
    dog, cat, boat, house = vit.embed_words(["dog", "cat", "boat", "house"], vit.config.templates)
    cosines_P3 = torch.stack(
        [torch.maximum(features_PD @ dog, features_PD @ cat), *(features_PD @ w for w in (boat, house))]
    )
    for place_, name in enumerate(("dog", "boat", "house")):
        assert found["labels"][name]["highest"] == pytest.approx(float(cosines_P3[place_].max()), abs=1e-5)
        assert found["labels"][name]["mean"] == pytest.approx(float(cosines_P3[place_].mean()), abs=1e-5)
        share = (cosines_P3.argmax(0) == place_).double().mean()
        assert found["labels"][name]["nearest for"] == pytest.approx(float(share), abs=1e-5)
        row, column = divmod(int(cosines_P3[place_].argmax()), grid[1])
        assert found["labels"][name]["at"] == [(column + 0.5) * 64 / 5, (row + 0.5) * 48 / 4]
    query_D = vit.encode(read_picture(a).pixels_HW3)[0][3 * 5 + 0]
    assert found["points"][0]["highest"] == pytest.approx(float((features_PD @ query_D).max()), abs=1e-5)
    assert document["numbers"]["pictures"][0]["points"][0]["highest"] == pytest.approx(1, abs=1e-5)
    assert document["settings"]["labels"] == ["dog", "boat", "house"]
    assert report.main == "features.overview"
    assert sorted(path.suffix for path in out.iterdir() if path.name.startswith(".")) == []


def test_what_goes_wrong_is_left_out_and_told(vit, picture_file, tmp_path):
    good, bad = picture_file("good.png"), tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    heard = []
    report = analyse_features(vit, inputs(bad, good), FAST, tmp_path / "out", heard.append)
    assert [item["picture"] for item in report.numbers["left out"]] == [str(bad)]
    assert "not a picture" in report.numbers["left out"][0]["why"]
    assert report.sections[-1].title == "Left out"
    assert [event.total for event in heard if isinstance(event, BatchStarted)] == [2, 1]
    assert [event.status for event in heard if isinstance(event, ItemFinished)] == ["failed", "ok", "drawn"]
    assert [event.failed for event in heard if isinstance(event, BatchFinished)] == [1, 0]
    with pytest.raises(DataError, match="not a picture"):
        analyse_features(vit, inputs(bad, bad), FAST, tmp_path / "out")
    with pytest.raises(DataError, match="not a picture"):
        analyse_features(vit, inputs(bad, good), FeaturesOptions(points=((0.0, 0.0),)), tmp_path / "out")


@pytest.mark.parametrize("point", [(64.0, 0.0), (0.0, 48.0), (-1.0, 3.0), (float("nan"), 1.0)])
def test_a_point_beside_the_picture(vit, picture_file, tmp_path, point):
    with pytest.raises(UsageError, match="x below 64 and y below 48"):
        analyse_features(vit, inputs(picture_file("a.png")), FeaturesOptions(points=(point,)), tmp_path / "out")


@pytest.mark.parametrize(
    ("point", "want"),
    [((0, 0), 0), ((63.9, 0), 4), ((12.8, 11.9), 1), ((12.7, 12), 5), ((63, 47), 19), ((12.8, 12), 6)],
)
def test_the_cell_of_a_point(point, want):
    assert cell_at(point, (4, 5), (48, 64)) == want


def test_locations_are_chosen_the_same_way_again():
    assert spread(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    chosen = spread(100, 10, 3)
    assert len(set(chosen.tolist())) == 10
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, spread(100, 10, 3))
    assert not np.array_equal(chosen, spread(100, 10, 4))


@pytest.mark.parametrize("total", [1, 3, 200, 4096, 10_000])
def test_as_much_is_kept_of_many_pictures_as_of_few(total):
    quotas = [quota(number, total) for number in range(total)]
    assert sum(quotas) in (4096, 4097)
    assert quotas[0] >= 1
    assert max(quotas) - min(quotas) <= 1


def test_the_map_keeps_what_is_alike_together():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 16)) * 5
    features = np.concatenate([centre + rng.normal(size=(40, 16)) for centre in centres]).astype(np.float32)
    at = embed_2d(features)
    assert np.array_equal(at, embed_2d(features))
    distance = np.linalg.norm(at[:, None] - at, axis=-1) + np.eye(len(at)) * 1e9
    assert (distance.argmin(1) // 40 == np.arange(120) // 40).mean() > 0.98


def test_the_map_is_drawn_with_and_without_labels(vit, picture_file, tmp_path):
    for name, labels in (("plain", ()), ("labelled", parse_labels("dog,boat"))):
        report = analyse_features(vit, inputs(picture_file("a.png")), FeaturesOptions(labels=labels), tmp_path / name)
        assert [figure.name for figure in report.sections[0].figures][1] == "features.map"
        with Image.open(tmp_path / name / "features.map.png") as image:
            assert image.size == (960, 768)


def test_records_come_back_from_disk(tmp_path):
    rng = np.random.default_rng(0)
    records = [{"a": rng.normal(size=(3, number)), "b": np.arange(number, dtype=np.uint8)} for number in range(4)]
    with Spool(tmp_path / "deep") as spool:
        for record in records:
            spool.add(record)
        for _ in range(2):
            back = list(spool)
            assert len(spool) == len(back) == 4
            for want, got in zip(records, back, strict=True):
                assert all(
                    np.array_equal(want[name], got[name]) and want[name].dtype == got[name].dtype for name in want
                )
    assert list(tmp_path.iterdir()) == []


def test_names_are_safe_and_never_alike(tmp_path):
    stems = [Path("a b"), Path("a-b"), Path("A-B"), Path("x/y"), Path("../../up"), Path("…")]
    names = unique_names(stems)
    assert names == ["a-b", "a-b-2", "A-B-3", "x/y", "picture/picture/up", "picture"]


def test_pictures_come_as_they_are_found(picture_file, tmp_path):
    for name in ("in/b.png", "in/deep/a.png"):
        picture_file(name)
    pictures = Pictures(find_inputs([str(tmp_path / "in")], tmp_path / "out"))
    assert [(shown.number, shown.name) for shown in pictures] == [(0, "b"), (1, "deep/a")]
    assert pictures.done == 2


def test_pictures_are_drawn_at_a_size_that_can_be_seen(picture_file):
    sizes = {}
    for name, size in (("tiny", (2, 3)), ("small", (100, 120)), ("large", (1000, 500))):
        pictures = Pictures(inputs(picture_file(f"{name}.png", size=size)))
        for shown in pictures:
            sizes[name] = pictures.canvas(shown).shape[:2]
    assert sizes == {"tiny": (170, 255), "small": (200, 240), "large": (640, 320)}
    many = Pictures(inputs(picture_file("large.png", size=(1000, 500))) * 25)
    assert many.canvas(next(iter(many))).shape[:2] == (320, 160)


def test_heat_runs_from_dark_to_bright():
    values_P, black = np.array([0.0, 1.0, 2.0, 5.0]), np.zeros((20, 20, 3), np.uint8)
    shown = heat(values_P, (2, 2), (1.0, 2.0), black)
    table = heat_colours()
    for (row, column), level in (((0, 0), 0), ((0, 19), 0), ((19, 0), 255), ((19, 19), 255)):
        assert np.abs(shown[row, column] - 0.72 * table[level]).max() <= 1
    assert np.array_equal(heat(np.ones(4), (2, 2), (1.0, 1.0), black), heat(np.zeros(4), (2, 2), (1.0, 1.0), black))
    sharp = cells(values_P, (2, 2), (0.0, 5.0), black)
    assert [len(np.unique(sharp[rows, columns].reshape(-1, 3), axis=0)) for rows in (slice(10), slice(10, 20))
            for columns in (slice(10), slice(10, 20))] == [1, 1, 1, 1]  # fmt: skip


def test_three_components_are_three_colours():
    scores = np.array([[0, 5, -1], [1, 5, -3]], float)
    spans = np.array([[0, 1], [0, 10], [-3, -1]], float)
    shown = component_colours(scores, spans, (1, 2), (1, 2))
    assert shown.tolist() == [[[0, 128, 255], [255, 128, 0]]]
    assert component_colours(scores[:, :1], spans[:1], (1, 2), (1, 2)).tolist() == [[[0, 0, 0], [255, 0, 0]]]


def test_enlarging_is_torch_s_bilinear():
    values = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    want = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None], size=(40, 33), mode="bilinear")
    assert np.allclose(enlarged(values, (40, 33)), want[0, 0].numpy(), atol=1e-5)


def test_pictures_on_a_sheet():
    red, wide = np.full((100, 100, 3), (255, 0, 0), np.uint8), np.zeros((10, 400, 3), np.uint8)
    sheet = montage([[red, wide], [red]], 50)
    assert sheet.shape == (50 + 50 + 18, 2 * 50 + 18, 3)
    assert sheet[6 + 25, 6 + 25].tolist() == [255, 0, 0]
    assert sheet[-2, -2].tolist() == [255, 255, 255]
    assert fit(red, 200).shape == (100, 100, 3)
    assert (marked(red, 50, 50) != red).any()
    assert (red == (255, 0, 0)).all()


def test_a_spool_leaves_no_empty_folder_that_it_made(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("made", "there"):
        with Spool(tmp_path / name) as spool:
            spool.add({"a": np.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    with Spool(tmp_path / "used"):
        (tmp_path / "used/report.html").write_text("")
    assert (tmp_path / "used/report.html").is_file()

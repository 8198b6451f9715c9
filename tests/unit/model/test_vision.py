"""The image tower against timm itself: the same weights must give the same features."""

import pytest
import timm
import torch
from torch.nn import functional as F

from clippy_core.errors import ConfigError
from clippy_core.model.config import VisionConfig
from clippy_core.model.vision import ImageFeatures, VisionTower

SMALL_VIT = {"depth": 2}
SMALL_SWIN = {"embed_dim": 32, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8), "window_size": 4}

# backbone, output stride, arguments for timm, further arguments for the reference, stride, prefix tokens, channels
BACKBONES = {
    "vit": ("vit_tiny_patch16_224", None, SMALL_VIT, {"dynamic_img_size": True}, 16, 1, 192),
    "registers": (
        "vit_small_patch14_reg4_dinov2",
        None,
        {**SMALL_VIT, "img_size": 56},
        {"dynamic_img_size": True},
        14,
        5,
        384,
    ),
    "resnet": ("resnet18", 16, {}, {}, 16, 0, 512),
    "resnet at its own stride": ("resnet18", None, {}, {}, 32, 0, 512),
    "efficientnet": ("tf_efficientnet_lite0", 16, {}, {}, 16, 0, 1280),
    "convnext": ("test_convnext", 8, {}, {}, 8, 0, 64),
    "swin": ("swin_tiny_patch4_window7_224", None, SMALL_SWIN, {"dynamic_img_size": True}, 32, 0, 256),
}
SIZES = [(64, 64), (96, 160), (160, 96), (50, 75), (15, 130), (1, 1)]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module", params=BACKBONES)
def case(request, disturb):
    """A tower of ours, timm's own model with the same weights, and what is known about them."""
    name, output_stride, arguments, reference_arguments, stride, prefix, channels = BACKBONES[request.param]
    tower = VisionTower(VisionConfig(name, output_stride=output_stride, trunk_args=arguments)).eval()
    disturb(tower)
    dilation = {} if output_stride is None else {"output_stride": output_stride}
    reference = timm.create_model(name, num_classes=0, **arguments, **reference_arguments, **dilation).eval()
    reference.load_state_dict(tower.trunk.state_dict(), strict=True)
    return tower, reference, stride, prefix, channels


def reference_tokens(reference, pixels, stride, prefix):
    """Prefix and patch tokens from timm's ``forward_features``, the picture padded by hand to whole cells."""
    height, width = pixels.shape[-2:]
    padded = torch.zeros(len(pixels), 3, -(-height // stride) * stride, -(-width // stride) * stride)
    padded[:, :, :height, :width] = pixels
    with torch.no_grad():
        features = reference.forward_features(padded)
    if features.ndim == 3:
        return features[:, :prefix], features[:, prefix:]
    if getattr(reference, "output_fmt", "NCHW") == "NHWC":
        features = features.movedim(-1, 1)
    batch, channels, rows, columns = features.shape
    locations = [features[:, :, row, column] for row in range(rows) for column in range(columns)]
    return features.new_zeros(batch, 0, channels), torch.stack(locations, dim=1)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_features_agree_with_timm(case, size):
    tower, reference, stride, prefix, channels = case
    height, width = size
    pixels = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = tower(pixels)
    expected_prefix, expected_patches = reference_tokens(reference, pixels, stride, prefix)
    assert features.grid == (-(-height // stride), -(-width // stride))
    assert features.patches_BPD.shape == (2, features.grid[0] * features.grid[1], channels)
    assert features.prefix_BND.shape == (2, prefix, channels)
    assert expected_patches.std() > 1e-2
    close(features.patches_BPD, expected_patches)
    close(features.prefix_BND, expected_prefix)


def test_what_the_tower_says_about_itself(case):
    tower, _, stride, prefix, channels = case
    assert (tower.stride, tower.prefix_tokens, tower.width) == (stride, prefix, channels)


@pytest.mark.parametrize("pool_prefix", [False, True])
@pytest.mark.parametrize("pool", ["max", "mean", "cls"])
def test_pooled_embeddings_agree_with_timm(case, pool, pool_prefix):
    tower, reference, stride, prefix, _ = case
    pixels = torch.randn(2, 3, 70, 100, generator=torch.Generator().manual_seed(2))
    config = VisionConfig(
        tower.config.backbone,
        output_stride=tower.config.output_stride,
        trunk_args=tower.config.trunk_args,
        pool=pool,
        pool_prefix=pool_prefix,
    )
    if pool == "cls" and not prefix:
        with pytest.raises(ConfigError, match=r"vision.pool is 'cls', but backbone .* no CLS token; accepted: max, m"):
            VisionTower(config)
        return
    pooling = VisionTower(config).eval()
    pooling.load_state_dict(tower.state_dict())
    with torch.no_grad():
        actual = pooling.pool(pooling(pixels))
    prefix_tokens, patches = reference_tokens(reference, pixels, stride, prefix)
    tokens = torch.cat([prefix_tokens, patches], 1) if pool_prefix else patches
    expected = {
        "max": lambda: tokens.max(dim=1).values,
        "mean": lambda: tokens.sum(dim=1) / tokens.shape[1],
        "cls": lambda: prefix_tokens[:, 0],
    }[pool]()
    close(actual, expected)


def test_at_its_own_size_a_vit_equals_timms_ordinary_model_and_its_pooling(disturb):
    arguments = {"depth": 2, "img_size": 64}
    reference = disturb(timm.create_model("vit_tiny_patch16_224", num_classes=7, **arguments)).eval()
    tower = VisionTower(VisionConfig("vit_tiny_patch16_224", pool="cls", trunk_args=arguments)).eval()
    state = {key: value for key, value in reference.state_dict().items() if not key.startswith("head.")}
    tower.trunk.load_state_dict(state, strict=True)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = tower(pixels)
        close(torch.cat([features.prefix_BND, features.patches_BPD], dim=1), reference.forward_features(pixels))
        close(tower.pool(features), reference.forward_head(reference.forward_features(pixels), pre_logits=True))


def test_at_its_own_size_a_cnn_equals_timms_pooling(disturb):
    reference = disturb(timm.create_model("resnet18", num_classes=7)).eval()
    tower = VisionTower(VisionConfig("resnet18", pool="mean")).eval()
    state = {key: value for key, value in reference.state_dict().items() if not key.startswith("fc.")}
    tower.trunk.load_state_dict(state, strict=True)
    pixels = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        close(tower.pool(tower(pixels)), reference.forward_head(reference.forward_features(pixels), pre_logits=True))


def test_a_projection_is_applied_to_patches_and_prefix_alike(disturb):
    config = VisionConfig("vit_tiny_patch16_224", projection=24, trunk_args=SMALL_VIT)
    tower = disturb(VisionTower(config)).eval()
    pixels = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        features = tower(pixels)
        tokens = tower.trunk.forward_features(pixels) @ tower.projection.weight.T
    assert tower.width == 24
    close(torch.cat([features.prefix_BND, features.patches_BPD], dim=1), tokens)


def test_padding_is_the_mean_colour_at_the_right_and_the_bottom(disturb):
    tower = disturb(VisionTower(VisionConfig("test_resnet"))).eval()
    pixels = torch.randn(1, 3, 40, 70)
    padded = F.pad(pixels, (0, 96 - 70, 0, 64 - 40))
    with torch.no_grad():
        actual, expected = tower(pixels), tower(padded)
    assert actual.grid == expected.grid == (2, 3)
    assert torch.equal(actual.patches_BPD, expected.patches_BPD)


def test_pictures_of_a_batch_do_not_influence_each_other(case):
    tower = case[0]
    pixels = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        together = tower(pixels).patches_BPD
        alone = torch.cat([tower(pixels[row : row + 1]).patches_BPD for row in range(3)])
    # Convolutions round differently for another batch size; a leak between pictures would be of the order of 1.
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("pool", "pool_prefix", "expected"),
    [("max", False, [3.0, 4.0]), ("max", True, [9.0, 4.0]), ("mean", False, [2.0, 3.0]), ("cls", False, [9.0, 0.0])],
)
def test_pooling_of_given_numbers(pool, pool_prefix, expected):
    config = VisionConfig("test_vit", pool=pool, pool_prefix=pool_prefix)
    features = ImageFeatures(torch.tensor([[[1.0, 4.0], [3.0, 2.0]]]), torch.tensor([[[9.0, 0.0]]]), (1, 2))
    assert VisionTower(config).pool(features).tolist() == [expected]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (VisionConfig("resnet19"), r"vision\.backbone is 'resnet19'; timm .* knows no such model"),
        (VisionConfig("hf_hub:timm/resnet18"), "knows no such model"),
        (VisionConfig(""), "knows no such model"),
        (VisionConfig("resnet18", trunk_args={"lairs": 3}), r"'resnet18' cannot be built with {'lairs': 3}: .*'lairs'"),
        (VisionConfig("test_vit", output_stride=16), "'test_vit' cannot be built with {'output_stride': 16}"),
        (VisionConfig("vgg11", output_stride=16), "'vgg11' cannot be built with {'output_stride': 16}"),
        (VisionConfig("test_resnet", pool="cls"), "backbone 'test_resnet' has no CLS token"),
    ],
)
def test_a_tower_that_cannot_be_built_says_why(config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        VisionTower(config)
    assert "\n" not in str(caught.value)


def test_a_backbone_of_one_size_only_says_so():
    tower = VisionTower(VisionConfig("mixer_s32_224")).eval()
    with torch.no_grad():
        assert tower(torch.zeros(1, 3, 224, 224)).grid == (7, 7)
        with pytest.raises(ConfigError, match=r"'mixer_s32_224' does not take pictures of 64 × 96 pixels: .*224"):
            tower(torch.zeros(1, 3, 64, 96))


def test_a_backbone_without_a_grid_says_so():
    tower = VisionTower(VisionConfig("test_resnet")).eval()
    tower.trunk.forward_features = lambda pixels: torch.zeros(1, 64, 3, 3)
    with pytest.raises(ConfigError, match="'test_resnet' gave 9 locations where a 2×4 grid was expected"):
        tower(torch.zeros(1, 3, 64, 128))


@pytest.mark.parametrize(
    ("backbone", "levels", "stride"),
    [("tf_efficientnet_lite0", ("blocks.2", "blocks.4"), 16), ("vit_tiny_patch16_224", ("blocks.5",), None)],
)
def test_levels_are_what_timm_computes_there_each_of_unit_length(backbone, levels, stride):
    torch.manual_seed(0)
    tower = VisionTower(VisionConfig(backbone, size=64, output_stride=stride, levels=levels)).eval()
    pixels = torch.randn(2, 3, 96, 64)
    found = tower(pixels)
    grid = found.grid
    maps = []
    for name in levels:
        hook = tower.trunk.get_submodule(name).register_forward_hook(lambda _m, _i, output: maps.append(output))
        with torch.no_grad():
            last = tower.trunk.forward_features(pixels)
        hook.remove()
    expected = []
    for values in (last, *maps):
        if values.ndim == 4:
            rows = values.shape[2] // grid[0]
            values = F.avg_pool2d(values, rows) if rows > 1 else values
            values = values.flatten(2).transpose(1, 2)
        else:
            values = values[:, 1:]
        expected.append(values / values.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(found.patches_BPD, torch.cat(expected, -1), rtol=1e-4, atol=1e-5)
    assert tower.width == found.patches_BPD.shape[-1]
    assert found.prefix_BND.shape[-1] == tower.width


def test_a_level_that_is_not_there_says_so():
    with pytest.raises(ConfigError, match=r"'blocks\.44', which the backbone has not; its parts: conv_stem"):
        VisionTower(VisionConfig("tf_efficientnet_lite0", levels=("blocks.44",)))
    with pytest.raises(ConfigError, match="each name once"):
        VisionConfig("tf_efficientnet_lite0", levels=("blocks.4", "blocks.4"))

"""Parts traced for any size compute what the model computes."""

import pytest
import torch
from timm.layers import pos_embed_sincos as rotary
from timm.layers import resample_abs_pos_embed
from timm.layers.conv2d_same import Conv2dSame
from torch.nn import functional as F

from clippy_core.errors import DataError
from clippy_core.export import graphs


@pytest.mark.parametrize("old", [(14, 14), (8, 8), (3, 3), (1, 1)])
@pytest.mark.parametrize("new", [(14, 14), (5, 23), (40, 2), (1, 1), (9, 13)])
def test_position_embeddings_are_resampled_as_timm_does(old, new):
    positions = torch.randn(1, 2 + old[0] * old[1], 6, generator=torch.Generator().manual_seed(0))
    expected = resample_abs_pos_embed(positions, list(new), list(old), num_prefix_tokens=2)
    found = graphs.resample_positions(positions, list(new), list(old), num_prefix_tokens=2)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_cubic_weights_of_a_shrunken_axis_by_hand():
    # Two cells to one: centre 1, scale 2, both cells half a width away, so both weigh the same.
    torch.testing.assert_close(graphs.cubic_weights(1, 2), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(graphs.cubic_weights(3, 3), torch.eye(3))


@pytest.mark.parametrize("offset", [0.0, 0.25])
@pytest.mark.parametrize("shape", [(3, 5), (1, 1)])
def test_rotary_coordinates_are_those_of_timm(shape, offset):
    options = {"grid_type": "centered", "grid_offset": offset, "normalize_coords": "separate", "ndim": 2}
    own = rotary._build_grid
    torch.testing.assert_close(graphs.build_grid(own, list(shape), **options), own(list(shape), **options))


def test_other_rotary_coordinates_stay_timms():
    calls = []

    def own(shape, **options):
        calls.append(options)
        return torch.zeros(1)

    for options in (
        {"grid_type": "index"},
        {"grid_type": "centered", "normalize_coords": "max"},
        {"grid_type": "centered", "normalize_coords": "separate", "grid_indexing": "xy"},
    ):
        graphs.build_grid(own, [2, 3], **options)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 1), (3, 1, 2), (1, 2, 1), (5, 1, 4)]
)
def test_fixed_padding_is_that_of_tensorflow_for_multiples_of_the_stride(kernel, stride, dilation):
    convolution = Conv2dSame(3, 4, kernel, stride=stride, dilation=dilation)
    fixed = graphs.FixedPadding(convolution)
    for height, width in ((2, 4), (8, 6), (16, 30)):
        x = torch.randn(1, 3, height, width)
        torch.testing.assert_close(fixed(x), convolution(x))


def test_the_model_is_as_it_was_after_tracing(convolutional):
    model = convolutional.model
    before = [type(module) for module in model.modules()]
    attention = model.text.encoder.config._attn_implementation
    with graphs.traceable(model):
        assert sum(isinstance(module, graphs.FixedPadding) for module in model.modules()) > 0
        assert model.text.encoder.config._attn_implementation == "eager"
    assert [type(module) for module in model.modules()] == before
    assert model.text.encoder.config._attn_implementation == attention


def test_it_is_so_also_when_tracing_fails(convolutional):
    model = convolutional.model
    before = [type(module) for module in model.modules()]
    with pytest.raises(KeyError), graphs.traceable(model):
        raise KeyError
    assert [type(module) for module in model.modules()] == before


def test_a_tower_that_depends_on_the_size_is_named(tiny):
    part = graphs.vision_part(tiny.model)

    class Fixed(torch.nn.Module):
        def forward(self, pixels):
            return pixels.view(2, 3, 40, 56).mean(), pixels

    with pytest.raises(DataError, match="the model's vision cannot be traced for pictures of any size: "):
        graphs.trace(part._replace(module=Fixed()))


def test_the_segmenter_graph_gives_cosines(tiny):
    pixels = torch.randn(2, 3, 16, 24)
    labels = torch.randn(5, tiny.model.vision.width) * 7
    with torch.no_grad():
        found = graphs.SegmenterGraph(tiny.model.vision)(pixels, labels)
        patches = tiny.model.encode_image(pixels).patches_BPD.view(2, 2, 3, -1)
    expected = F.cosine_similarity(patches[..., None, :], labels, dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from clippy_core.errors import ConfigError, DataError
from clippy_core.training.grad_cache import cached_backward
from clippy_core.training.losses import contrastive_loss
from clippy_core.training.reference_losses import infonce_reference, siglip_reference

KINDS = ("infonce", "siglip")


def pairs(batch: int, width: int, noise: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit vectors in float64; the less noise, the more alike are those that belong together."""
    random = torch.Generator().manual_seed(seed)
    image = normalize(torch.randn(batch, width, generator=random, dtype=torch.float64), dim=1)
    other = normalize(torch.randn(batch, width, generator=random, dtype=torch.float64), dim=1)
    return image, normalize(image + noise * other, dim=1)


def numbers(scale: float, bias: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(scale, dtype=torch.float64), torch.tensor(bias, dtype=torch.float64)


def reference(kind: str) -> Callable[..., Tensor]:
    return (
        siglip_reference if kind == "siglip" else lambda image, text, scale, bias: infonce_reference(image, text, scale)
    )


def tiled(kind: str, tile: int) -> Callable[..., Tensor]:
    return lambda image, text, scale, bias: contrastive_loss(image, text, scale, kind=kind, bias=bias, tile=tile)


def evaluate(loss: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The loss and its gradients by image, text, scale and bias (0 where it does not depend on it)."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = loss(*leaves)
    gradients = torch.autograd.grad(3 * value, leaves, allow_unused=True)
    return [value.detach(), *(torch.zeros(()) if x is None else x for x in gradients)]


def differences(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    """Largest difference of each, relative to its largest value.

    Loss and embeddings' gradients of less than 1e-6 are held to that instead. Gradients of scale and bias are sums of
    both signs over the matrix, in which terms of about 1 may cancel: they are held to 0.1.
    """
    least = [1e-6, 1e-6, 1e-6, 0.1, 0.1]
    return [
        float((a.double() - b.double()).abs().max() / max(float(b.double().abs().max()), floor))
        for a, b, floor in zip(found, expected, least, strict=True)
    ]


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    batch=st.integers(1, 40),
    width=st.integers(2, 24),
    tile=st.integers(1, 50),
    scale=st.sampled_from([0.5, 14.0, 40.0]),
    bias=st.sampled_from([-10.0, 0.0, 3.0]),
    noise=st.sampled_from([0.5, 2.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_definition(
    kind: str, batch: int, width: int, tile: int, scale: float, bias: float, noise: float, dtype: Any, seed: int
) -> None:
    image, text = (x.to(dtype) for x in pairs(batch, width, noise, seed))
    found = evaluate(tiled(kind, tile), image, text, *numbers(scale, bias))
    expected = evaluate(reference(kind), image.double(), text.double(), *numbers(scale, bias))
    # A tiny loss is as wrong, relatively, as its logits are absolutely: some roundings of the scale. The plain one in
    # float64, besides, cancels: it is right to some roundings of its logits, seen relative to 1e-6.
    rounding = 3e-7 * scale if dtype == torch.float32 else 0.0
    of_value, of_gradient = (1e-6 + rounding, 1e-5 + rounding) if dtype == torch.float32 else (1e-7, 1e-7)
    value, *gradients = differences(found, expected)
    assert value <= of_value
    assert max(gradients) <= of_gradient
    assert found[0].dtype == dtype
    assert found[1].dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 0.3, 2.0, 100.0])
def test_extreme_scale(kind: str, noise: float) -> None:
    image, text = (x.float() for x in pairs(50, 16, noise))
    found = evaluate(tiled(kind, 16), image, text, *numbers(100.0, -3.0))
    expected = evaluate(reference(kind), image.double(), text.double(), *numbers(100.0, -3.0))
    assert max(differences(found, expected)) <= 1e-5


@pytest.mark.parametrize("tile", [2, 64])
def test_rows_that_would_underflow_are_computed_in_float64(tile: int) -> None:
    image, text = pairs(9, 12, 0.01)
    text = -normalize(image.mean(0) + 0.05 * text, dim=1)  # every text opposite to every image
    image = normalize(image.mean(0) + 0.05 * image, dim=1)
    found = evaluate(tiled("infonce", tile), image.float(), text.float(), *numbers(100.0, 0.0))
    expected = evaluate(reference("infonce"), image.float().double(), text.float().double(), *numbers(100.0, 0.0))
    assert max(differences(found, expected)) <= 1e-5
    assert found[0].dtype == torch.float32


def test_small_losses_keep_their_digits() -> None:
    image = torch.eye(8)
    scale = torch.tensor(30.0)
    found = evaluate(tiled("infonce", 3), image, image, scale, scale)
    expected = math.log1p(7 * math.exp(-30))
    assert float(found[0]) == pytest.approx(expected, rel=1e-6)  # the plain one gives 0 in float32
    assert float(found[1].diagonal()[0]) == pytest.approx(-3 * 30 * 7 * math.exp(-30) / 8, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(kind: str, dtype: torch.dtype) -> None:
    image, text = (x.to(dtype) for x in pairs(37, 24))
    found = evaluate(tiled(kind, 10), image, text, *numbers(20.0, -5.0))
    expected = evaluate(reference(kind), image.double(), text.double(), *numbers(20.0, -5.0))
    value, of_image, of_text, *others = differences(found, expected)
    assert value <= 1e-6
    assert max(others) <= 1e-5
    assert max(of_image, of_text) <= torch.finfo(dtype).eps  # rounded once, to the dtype of the embeddings
    assert found[0].dtype == torch.float32
    assert found[1].dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_does_not_reach_the_logits(kind: str) -> None:
    inputs = (*(x.float() for x in pairs(20, 8)), *numbers(20.0, -5.0))
    expected = evaluate(tiled(kind, 7), *inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = evaluate(tiled(kind, 7), *inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile", [2, 10])
def test_gradcheck(kind: str, tile: int) -> None:
    leaves = [x.requires_grad_() for x in (*pairs(5, 3), *numbers(4.0, -1.0))]
    if kind == "infonce":
        assert torch.autograd.gradcheck(lambda *x: tiled(kind, tile)(*x, None), leaves[:3])
    else:
        assert torch.autograd.gradcheck(tiled(kind, tile), leaves)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [{0}, {1}, {0, 1}, {2}, {0, 1, 2}])
def test_what_needs_no_gradient_gets_none(kind: str, frozen: set[int]) -> None:
    inputs = (*pairs(11, 6), *numbers(14.0, -10.0))
    expected = evaluate(tiled(kind, 4), *inputs)
    leaves = [x.clone().requires_grad_(i not in frozen) for i, x in enumerate(inputs)]
    value = tiled(kind, 4)(*leaves)
    assert torch.allclose(value.detach(), expected[0], rtol=1e-12)
    if value.requires_grad:
        (3 * value).backward()
    for i in range(3):
        assert (leaves[i].grad is None) == (i in frozen)
        assert i in frozen or torch.allclose(leaves[i].grad, expected[i + 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_again_gives_the_same_but_not_a_second_derivative(kind: str) -> None:
    leaves = [x.requires_grad_() for x in (*pairs(9, 4), *numbers(14.0, -10.0))]
    value = tiled(kind, 4)(*leaves)
    first = torch.autograd.grad(value, leaves[:3], retain_graph=True)
    second = torch.autograd.grad(value, leaves[:3], create_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match=r"does not require grad"):
        second[0].sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_without_gradients_only_the_loss(kind: str) -> None:
    inputs = [x.requires_grad_() for x in (*pairs(9, 4), *numbers(14.0, -10.0))]
    with torch.no_grad():
        value = tiled(kind, 4)(*inputs)
    assert not value.requires_grad
    assert torch.allclose(value, reference(kind)(*inputs), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_shows_in_the_loss(kind: str) -> None:
    image, text = pairs(6, 4)
    image[2, 1] = math.nan
    assert evaluate(tiled(kind, 4), image.float(), text.float(), *numbers(14.0, -10.0))[0].isnan()


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_as_large_as_the_matrix_is_made(kind: str) -> None:
    leaves = [x.float().requires_grad_() for x in (*pairs(300, 8), *numbers(14.0, -10.0))]
    with Largest() as largest:
        tiled(kind, 40)(*leaves).backward()
    assert largest.elements == 300 * 8
    with Largest() as largest:
        tiled(kind, 64)(*leaves).backward()
    assert largest.elements == 64 * 64


@pytest.mark.parametrize(
    ("shapes", "options", "error", "message"),
    [
        (((2, 3), (3, 3)), {}, DataError, r"shapes \(2, 3\) and \(3, 3\)"),
        (((2,), (2,)), {}, DataError, r"shapes \(2,\)"),
        (((0, 3), (0, 3)), {}, DataError, r"shapes \(0, 3\)"),
        (
            ((2, 3), (2, 3)),
            {"kind": "triplet"},
            ConfigError,
            "loss.kind is 'triplet', but must be one of infonce",
        ),
        (((2, 3), (2, 3)), {"tile": 0}, ConfigError, "loss.tile is 0"),
        (((2, 3), (2, 3)), {"kind": "siglip"}, ConfigError, "needs a bias"),
    ],
)
def test_mistakes(shapes: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        contrastive_loss(torch.ones(shapes[0]), torch.ones(shapes[1]), torch.tensor(1.0), **options)
    assert "\n" not in str(caught.value)


class Towers(nn.Module):
    """Two towers with dropout, a scale and a bias."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.4), nn.GELU(), nn.Linear(16, width))
        self.text = nn.Sequential(nn.Linear(7, 16), nn.GELU(), nn.Dropout(0.4), nn.Linear(16, width))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        image, text = (normalize(x.float(), dim=1) for x in (self.image(image), self.text(text)))
        return image, text, self.scale.exp(), self.bias


def cached_and_whole(
    kind: str, sizes: list[int], closure: bool = False, autocast: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Loss, gradients and next random number, with caching and by one backward pass through all parts."""
    torch.manual_seed(3)
    model = Towers()
    whole = copy.deepcopy(model)
    batches = [(torch.randn(size, 5), torch.randn(size, 7)) for size in sizes]

    def loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return contrastive_loss(image, text, scale, kind=kind, bias=bias, tile=5)

    def finish(model: Towers, value: Tensor) -> list[Tensor]:
        zero = torch.zeros(())
        return [value.detach(), torch.rand(()), *(zero if p.grad is None else p.grad for p in model.parameters())]

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        torch.manual_seed(4)
        if closure:
            value = cached_backward(
                lambda part: model(*batches[part])[:2],
                len(batches),
                lambda image, text: loss(image, text, model.scale.exp(), model.bias),
            )
        else:
            value = cached_backward(lambda part: model(*batches[part]), len(batches), loss)
        found = finish(model, value)

        torch.manual_seed(4)
        encoded = [whole(*batch) for batch in batches]
        image, text = (torch.cat([outputs[side] for outputs in encoded]) for side in (0, 1))
        value = loss(image, text, *encoded[-1][2:])
        value.backward()
    return found, finish(whole, value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[7], [4, 4], [3, 3, 3, 2]])
@pytest.mark.parametrize("closure", [False, True])
def test_cached_gradients_equal_those_of_one_batch(kind: str, sizes: list[int], closure: bool) -> None:
    found, expected = cached_and_whole(kind, sizes, closure)
    assert len(found) == 12
    assert torch.equal(found[1], expected[1])  # random numbers go on where one pass would leave them
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_cached_gradients_under_a_callers_autocast() -> None:
    found, expected = cached_and_whole("infonce", [4, 4, 4], autocast=True)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=0.05, atol=0.02)
    assert all(gradient.abs().max() > 0 for gradient in [found[2], *found[4:]])  # all but the bias


def test_cached_backward_keeps_one_part_at_a_time_and_syncs_once() -> None:
    model = Towers()
    events: list[str] = []

    class Alone:
        def __enter__(self) -> None:
            events.append("alone")

        def __exit__(self, *_: object) -> None:
            events.append("together")

    def encode(part: int) -> Any:
        events.append(f"{part}{'+' if torch.is_grad_enabled() else ''}")
        return model(torch.ones(2, 5), torch.ones(2, 7))

    cached_backward(encode, 3, lambda *x: contrastive_loss(*x[:3]), no_sync=Alone)
    assert events == ["alone", "0", "1", "2+", "together", "alone", "0+", "together", "1+"]


def test_cached_backward_with_a_scaler() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    gradients = []
    for used in (None, scaler):
        torch.manual_seed(5)
        model = Towers().eval()
        batch = torch.randn(6, 5), torch.randn(6, 7)
        cached_backward(
            lambda part: model(*(x[3 * part : 3 * part + 3] for x in batch)),  # noqa: B023 - called at once
            2,
            lambda image, text, scale, _: contrastive_loss(image, text, scale),
            scaler=used,
        )
        gradients.append([p.grad for p in model.parameters() if p is not model.bias])
    for plain, scaled in zip(*gradients, strict=True):
        assert torch.allclose(1024 * plain, scaled, rtol=1e-5)


def test_cached_backward_of_a_frozen_tower() -> None:
    model = Towers().eval()
    model.text.requires_grad_(False)
    model.scale.requires_grad_(False)
    cached_backward(lambda part: model(torch.randn(3, 5), torch.randn(3, 7)), 2, lambda *x: contrastive_loss(*x[:3]))
    assert all(p.grad is not None for p in model.image.parameters())
    assert all(p.grad is None for p in model.text.parameters())

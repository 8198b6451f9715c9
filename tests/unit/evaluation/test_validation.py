"""Validation between steps of training leaves no trace, says the same every time, and shares the work."""

import dataclasses

import numpy as np
import pytest
import torch

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.validation import Validation
from clippy_core.model.device import place
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.families import clippy_micro
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.shapes import scene

CPU = place("cpu", "fp32")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(**vision):
    preset = clippy_micro()
    config = preset.config
    if vision:
        config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, **vision))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DualEncoder(config), Tokenizer(f"{preset.tokenizer}/tokenizer.json", 32)


@pytest.fixture
def micro():
    return build()


def state(model):
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: (tensor.detach().clone(), tensor.stride(), tensor.data_ptr()) for name, tensor in tensors.items()}


def test_nothing_about_the_model_changes(micro):
    model, tokenizer = micro
    model.train()
    model.vision.trunk.blocks[1].eval()  # a frozen part, say
    before, modes, random = state(model), [m.training for m in model.modules()], torch.get_rng_state()
    Validation(["shapes"], limit=10)(model, tokenizer, CPU)
    after = state(model)
    for name, (values, stride, place_) in before.items():
        assert torch.equal(values, after[name][0])
        assert (stride, place_) == after[name][1:]
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "vision",
    [{}, {"backbone": "test_vit3", "trunk_args": {"img_size": 64}, "projection": 128}, {"backbone": "test_convnext"}],
    ids=["vit", "rotary vit", "convnet"],
)
def test_training_goes_on_exactly_as_without_it(vision):
    def train(validate):
        if vision and "projection" not in vision:
            vision["projection"] = 128
        if vision:
            vision.setdefault("trunk_args", {})
        model, tokenizer = build(**vision)
        model.train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        ids_BL, mask_BL = map(torch.from_numpy, tokenizer([scene(number).caption for number in range(4)]))
        pixels_B3HW = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(2)
        losses = []
        for _ in range(3):
            image_BD, text_BD, scale = model(pixels_B3HW, ids_BL, mask_BL)
            loss = torch.nn.functional.cross_entropy(image_BD @ text_BD.T * scale, torch.arange(4))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if validate:
                Validation(["shapes"], limit=5)(model, tokenizer, CPU)
        return losses

    assert train(validate=True) == train(validate=False)


def test_it_says_the_same_every_time_and_in_every_mode(micro):
    model, tokenizer = micro
    validation = Validation(["shapes"], limit=20)
    first, pictures = validation(model.train(), tokenizer, CPU)
    torch.manual_seed(5)
    again, more = validation(model.eval(), tokenizer, CPU)
    assert first == again
    assert all(np.array_equal(*pair) for pair in zip(pictures, more, strict=True))
    assert {"shapes/mIoU", "shapes/JS", "shapes/text to image R@1", "shapes/top-1 of things"} <= first.keys()
    assert all(0 <= value <= 1 for value in first.values())
    assert [(picture.shape, picture.dtype) for picture in pictures] == [((64, 64, 3), np.uint8)] * 6


def test_a_benchmark_with_a_folder(micro, tmp_path):
    import json

    from PIL import Image

    Image.fromarray(scene(0).pixels_HW3).save(tmp_path / "one.png")
    entry = {"id": "one", "candidates": ["dog", "sky"], "points": [{"x": 0.5, "y": 0.5, "label": "dog"}]}
    (tmp_path / "points.json").write_text(json.dumps({"photographs": [entry]}))
    metrics, pictures = Validation([f"points={tmp_path}", "shapes"], limit=5)(*micro, CPU)
    assert "points/candidates: points right" in metrics
    assert "shapes/mIoU" in metrics
    assert len(pictures) == 6


@pytest.mark.parametrize(
    ("specs", "error", "message"),
    [
        (["shape"], UsageError, "did you mean shapes"),
        (["points"], UsageError, "benchmark 'points' needs the folder of its data set; give it by --eval"),
        (["shapes=x"], UsageError, "--eval x: benchmark 'shapes' makes its own pictures and takes no folder"),
        (["points=/no/such/folder"], DataError, "--eval /no/such/folder: no such folder"),
        (["shapes", "shapes"], UsageError, "benchmark 'shapes' is given twice"),
    ],
)
def test_what_cannot_be_run_is_refused_before_training(specs, error, message):
    with pytest.raises(error, match=message):
        Validation(specs)

"""``torch.export`` programs and the ways to call an exporter."""

import json

import pytest
import torch

from clippy_core.errors import PartialError, UsageError
from clippy_core.export import EXPORTERS, ExportOptions, program, run_exporter, takes_options


def test_programs_compute_what_the_model_computes(tiny, tmp_path):
    files = program.export_programs(tiny, tmp_path / "out", ExportOptions(seed=1))
    assert [file.name for file in files] == [
        "vision.pt2",
        "text.pt2",
        "segmenter.pt2",
        "tokenizer.json",
        "config.json",
        "torch.json",
    ]
    pixels = torch.randn(3, 3, 72, 16)
    found, pooled = torch.export.load(tmp_path / "out" / "vision.pt2").module()(pixels)
    with torch.no_grad():
        expected = tiny.model.encode_image(pixels)
    torch.testing.assert_close(found, expected.patches_BPD.view(3, 9, 2, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, expected.pooled_BD, atol=1e-5, rtol=0)
    sheet = json.loads((tmp_path / "out" / "torch.json").read_text())
    assert sheet["parity"]["text"]["max_abs"] < 1e-5
    assert (tmp_path / "out" / "text.pt2").stat().st_size < 1.5 * sum(
        value.nbytes for value in tiny.model.text.state_dict().values()
    ) + 200_000, "the program of one tower holds that tower alone"


def test_a_program_that_differs_is_not_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(
        program.PARTS, "text", lambda model: program.graphs.text_part(model)._replace(module=Turned(model))
    )
    with pytest.raises(PartialError, match=r"^text.pt2 differs from the model and was not kept: max_abs is"):
        program.export_programs(tiny, tmp_path, ExportOptions(parts=("text",), seed=1))
    assert list(tmp_path.iterdir()) == []


class Turned(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        return -self.model.encode_text(ids, mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ("labelmap",)}, "--parts has 'labelmap'"),
        ({"quantize": "int8"}, "has no --quantize"),
        ({"opset": 19}, "has no --opset"),
    ],
)
def test_options_that_programs_do_not_have(tiny, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        program.export_programs(tiny, tmp_path / "out", ExportOptions(**options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ()}, "--parts is ''"),
        ({"parts": ("vision", "vision")}, "each at most once"),
        ({"parts": ("eyes",)}, "--parts is 'eyes'; accepted: vision"),
        ({"quantize": "int4"}, "--quantize is 'int4'; accepted: none, fp16, int8"),
        ({"opset": 17}, "--opset is 17; accepted: 18 to 23"),
        ({"calibrate": "x", "quantize": "int8", "parts": ("text",)}, "--parts is 'text', which has none"),
        ({"calibrate": "x"}, "--calibrate measures for --quantize int8; --quantize is 'none'"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(UsageError, match=message):
        ExportOptions(**options)


def test_exporters_with_and_without_options(tmp_path):
    seen = []

    def old(loaded, out):
        seen.append((loaded, out))
        return [out / "a"]

    def new(loaded, out, options):
        seen.append(options.opset)
        return [out / "b"]

    assert run_exporter("old", old, "model", tmp_path) == [tmp_path / "a"]
    assert run_exporter("new", new, "model", tmp_path, ExportOptions(opset=21)) == [tmp_path / "b"]
    assert seen == [("model", tmp_path), 21]
    with pytest.raises(UsageError, match="exporter 'old' takes no --quantize, --opset; only the model and --out"):
        run_exporter("old", old, "model", tmp_path, ExportOptions(opset=21, quantize="fp16"))


def test_what_counts_as_taking_options():
    assert takes_options(lambda *everything: None)
    assert takes_options(lambda loaded, out, options=None: None)
    assert not takes_options(lambda loaded, out, *, progress=None: None)
    assert not takes_options(dict.update)


def test_registered_exporters_are_functions():
    assert {name: takes_options(EXPORTERS.load(name)) for name in ("onnx", "torch", "safetensors")} == {
        "onnx": True,
        "torch": True,
        "safetensors": False,
    }

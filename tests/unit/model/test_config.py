"""Configurations: plain data in, plain data out, and an error that names the field."""

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import ConfigError, UsageError
from clippy_core.model.config import (
    DENSE_ACTIVATIONS,
    IMAGE_POOLS,
    TEXT_POOLS,
    ModelConfig,
    TextConfig,
    VisionConfig,
)

VISION = {"backbone": "resnet18"}
TEXT = {"encoder": {"model_type": "bert"}}
MODEL = {"name": "m", "vision": VISION, "text": TEXT}

widths = st.none() | st.integers(1, 4096)
numbers = st.floats(-10, 10)
positive = st.floats(1e-3, 10)
words = st.text(max_size=20)
plain = st.none() | st.booleans() | st.integers() | numbers | words

vision_configs = st.builds(
    VisionConfig,
    backbone=st.text(min_size=1),
    size=st.integers(1, 4096),
    output_stride=st.sampled_from([None, 8, 16, 32]),
    mean=st.tuples(numbers, numbers, numbers),
    std=st.tuples(positive, positive, positive),
    pool=st.sampled_from(IMAGE_POOLS),
    pool_prefix=st.booleans(),
    projection=widths,
    trunk_args=st.dictionaries(words, plain, max_size=3),
)
text_configs = st.builds(
    TextConfig,
    encoder=st.dictionaries(words, plain, max_size=3).map(lambda table: {**table, "model_type": "bert"}),
    pool=st.sampled_from(TEXT_POOLS),
    dense=widths,
    dense_bias=st.booleans(),
    dense_activation=st.sampled_from(DENSE_ACTIVATIONS),
    projection=widths,
    max_tokens=st.integers(2, 512),
)
model_configs = st.builds(
    ModelConfig,
    name=words,
    vision=vision_configs,
    text=text_configs,
    templates=st.lists(words.filter(lambda word: "{}" not in word).map(lambda word: f"{word} {{}}"), min_size=1).map(
        tuple
    ),
    logit_scale=st.floats(0.01, 100),
    description=words,
    quality=words,
    licence=words,
)


@given(model_configs)
def test_a_configuration_survives_json(config):
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_fields_left_out_take_the_papers_values():
    config = ModelConfig.from_dict(MODEL)
    assert config.vision.pool == "max"
    assert config.vision.projection is None
    assert config.text.pool == "mean"
    assert config.logit_scale == pytest.approx(1 / 0.07)
    assert config.templates == ("a photo of a {}.",)


def test_a_configuration_cannot_be_changed():
    config = ModelConfig.from_dict(MODEL)
    with pytest.raises(FrozenInstanceError):
        config.name = "other"


def test_lists_become_tuples_and_whole_numbers_do_for_real_ones():
    config = VisionConfig("x", mean=[0, 0.5, 1], std=[1, 1, 1])
    assert (config.mean, config.std) == ((0, 0.5, 1), (1, 1, 1))
    assert ModelConfig.from_dict({**MODEL, "logit_scale": 10}).logit_scale == 10


nan, infinity = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("backbone", 5, "text"),
        ("backbone", None, "text"),
        ("size", 0, "a positive number of pixels"),
        ("size", -224, "a positive number of pixels"),
        ("size", "224", "a whole number"),
        ("size", 224.5, "a whole number"),
        ("size", True, "a whole number"),
        ("output_stride", 4, "8, 16, 32 or none"),
        ("output_stride", "16", "a whole number or none"),
        ("mean", (0.5, 0.5), "three numbers"),
        ("mean", "abc", "a list"),
        ("mean", ("a", "b", "c"), "three numbers"),
        ("mean", (nan, 0.5, 0.5), "three numbers"),
        ("mean", 0.5, "a list"),
        ("std", (1, 1, 0), "three positive numbers"),
        ("std", (1, 1, -1), "three positive numbers"),
        ("std", (1, nan, 1), "three positive numbers"),
        ("std", (1, infinity, 1), "three positive numbers"),
        ("std", (), "three positive numbers"),
        ("pool", "sum", "one of max, mean, cls"),
        ("pool", None, "text"),
        ("pool_prefix", "no", "true or false"),
        ("pool_prefix", 1, "true or false"),
        ("projection", 0, "a positive width"),
        ("projection", 1.5, "a whole number or none"),
        ("trunk_args", None, "a table"),
        ("trunk_args", [1], "a table"),
    ],
)
@pytest.mark.parametrize(
    "make", [VisionConfig.from_dict, lambda table: VisionConfig(**table)], ids=["dict", "keywords"]
)
def test_a_vision_field_that_is_not_accepted_is_named(make, field, value, accepted):
    with pytest.raises(ConfigError) as caught:
        make({**VISION, field: value})
    shown = tuple(value) if isinstance(value, list) else value
    assert str(caught.value) == f"vision.{field} is {shown!r}; accepted: {accepted}"


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("encoder", {}, "a table with model_type"),
        ("encoder", "model_type", "a table"),
        ("encoder", None, "a table"),
        ("pool", "max", "one of mean, cls"),
        ("dense", 0, "a positive width"),
        ("dense", "768", "a whole number or none"),
        ("dense_bias", None, "true or false"),
        ("dense_activation", "relu", "one of identity, tanh"),
        ("projection", -1, "a positive width"),
        ("max_tokens", 1, "at least 2"),
        ("max_tokens", 7.5, "a whole number"),
    ],
)
def test_a_text_field_that_is_not_accepted_is_named(field, value, accepted):
    with pytest.raises(ConfigError, match=rf"^text\.{field} is .*; accepted: {accepted}$"):
        TextConfig.from_dict({**TEXT, field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": []}, r"templates is \(\); accepted: at least one"),
        ({"templates": "a {}"}, r"templates is 'a \{\}'; accepted: a list"),
        ({"templates": ["a photo"]}, "templates is 'a photo'; accepted: each with exactly one {}"),
        ({"templates": ["{} or {}"]}, "templates is '{} or {}'"),
        ({"templates": [5]}, "templates is 5; accepted: each with exactly one {}"),
        ({"logit_scale": 0}, "logit_scale is 0; accepted: above 0 and at most 100"),
        ({"logit_scale": 100.5}, "logit_scale is 100.5"),
        ({"logit_scale": nan}, "logit_scale is nan"),
        ({"logit_scale": "14"}, "logit_scale is '14'; accepted: a number"),
        ({"name": None}, "name is None; accepted: text"),
        ({"licence": 5}, "licence is 5; accepted: text"),
        ({"vision": None}, "VisionConfig: a table of fields is expected, not None"),
        ({"text": "bert"}, "TextConfig: a table of fields is expected, not 'bert'"),
        (
            {"vision": {"backbone": "x", "pol": "max"}},
            "VisionConfig has no field 'pol'; known: backbone, levels,",
        ),
        ({"text": {**TEXT, "poool": "max"}}, "TextConfig has no field 'poool'"),
        ({"vision": {}}, "VisionConfig: .*missing 1 required .*'backbone'"),
        ({"colour": "red"}, "ModelConfig has no field 'colour'; known: description, licence, logit_scale, name"),
    ],
)
def test_a_model_table_that_is_not_accepted_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict({**MODEL, **changes})


@pytest.mark.parametrize("table", [None, [], "m", 5])
def test_something_other_than_a_table_is_refused(table):
    with pytest.raises(ConfigError, match="a table of fields is expected"):
        ModelConfig.from_dict(table)


def test_a_configuration_error_is_a_usage_error():
    assert issubclass(ConfigError, UsageError)

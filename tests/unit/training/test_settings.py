"""From recipe, file, ``--set`` and flags to one configuration, and back to a file."""

import pytest

from clippy_core.errors import ConfigError, DataError
from clippy_core.model.presets import Preset
from clippy_core.training import settings
from clippy_core.training.config import TrainConfig
from clippy_core.training.settings import read_toml, resolve, write_toml


def test_later_sources_win(monkeypatch):
    monkeypatch.setattr(settings, "recipe", lambda model: {"optim": {"lr": 1.0, "warmup": 1, "beta1": 0.1, "eps": 0.5}})
    config = resolve(
        {"optim": {"lr": 2.0, "warmup": 2, "beta1": 0.2}}, ["optim.lr=3", "optim.warmup=3"], {"optim": {"lr": 4.0}}
    )
    assert (config.optim.lr, config.optim.warmup, config.optim.beta1, config.optim.eps) == (4.0, 3, 0.2, 0.5)


def test_a_recipe_is_that_of_the_model_that_was_chosen(monkeypatch):
    preset = Preset.__new__(Preset)
    object.__setattr__(preset, "training", {"run": {"batch_size": 7}})
    monkeypatch.setattr(settings, "get_preset", lambda name: preset if name == "clippy-lite" else None)
    assert resolve({}, ["model.name=clippy-lite"], {}).run.batch_size == 7
    assert resolve({}, [], {"model": {"name": "some/directory"}}).run.batch_size == TrainConfig().run.batch_size


@pytest.mark.parametrize(
    ("assignment", "table", "field", "value"),
    [
        ("optim.lr=1e-4", "optim", "lr", 1e-4),
        ("run.name=x y", "run", "name", "x y"),
        ("run.name='quoted'", "run", "name", "quoted"),
        ("model.freeze=['text', 'bias']", "model", "freeze", ("text", "bias")),
        ("data.flip=true", "data", "flip", True),
        ("model.ema=none", "model", "ema", None),
        (" run.steps = 5 ", "run", "steps", 5),
    ],
)
def test_assignments(assignment, table, field, value):
    assert getattr(getattr(resolve({}, [assignment], {}), table), field) == value


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("optim.lr", "table.field=value"),
        ("lr=1", "table.field=value"),
        ("optim.=1", "table.field=value"),
        ("opt.lr=1", "no table 'opt'; known: data, model"),
        ("optim.lrr=1", "optim has no field 'lrr'; known: "),
        ("optim.lr=fast", "optim.lr is 'fast'; accepted: a number"),
        ("optim.lr=-1", "optim.lr is -1; accepted: 0 or more"),
        ("run.batch_size=0", "run.batch_size is 0; accepted: 1 or more"),
        ("run.nan_policy=ignore", "run.nan_policy is 'ignore'; accepted: stop or skip"),
        ("run.name=a/b", "run.name is 'a/b'; accepted: a folder's name"),
        ("run.report=['tv']", "run.report is 'tv'"),
        ("model.patch_dropout=1", "model.patch_dropout is 1"),
        ("model.pool=median", "model.pool is 'median'; accepted: one of max, mean, cls"),
        ("loss.kind=triplet", "loss.kind is 'triplet'; accepted: one of infonce, siglip"),
        ("data.crop=0", "data.crop is 0; accepted: above 0"),
        ("data.sources=[]", "data.sources is (); accepted: at least one"),
    ],
)
def test_what_is_not_accepted_is_named(assignment, words):
    with pytest.raises(ConfigError) as caught:
        resolve({}, [assignment], {})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_repeats_a_configuration(tmp_path):
    config = resolve(
        {},
        ["optim.lr=0.1", "model.freeze=['text']", "data.sources=['a b.tar', 'ü.tar']", "run.evaluate=['x=/y']"],
        {"model": {"pool": "cls", "ema": 0.5}, "run": {"steps": 3, "name": "n"}},
    )
    write_toml(tmp_path / "config.toml", config)
    assert resolve(read_toml(tmp_path / "config.toml"), (), {}) == config
    # A recipe must not come back where a field was set to no value.
    assert resolve(read_toml(tmp_path / "config.toml"), ("model.ema=none",), {}).model.ema is None


@pytest.mark.parametrize(("text", "words"), [("a = = 1", "not TOML"), ("\x00", "not TOML")])
def test_files_that_are_no_configuration(tmp_path, text, words):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(DataError, match=words):
        read_toml(tmp_path / "c.toml")
    with pytest.raises(DataError, match="No such file"):
        read_toml(tmp_path / "missing.toml")


def test_a_table_that_is_a_value():
    with pytest.raises(ConfigError, match="optim is 3; accepted: a table"):
        resolve({"optim": 3}, (), {})

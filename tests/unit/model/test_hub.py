"""Models from the Hugging Face hub and to it: a hub on this machine, its cache, and no network at all."""

import json
import re
import shutil

import pytest

import clippy_core
from clippy_core.errors import CheckpointError, DataError, UsageError
from clippy_core.model.card import card_metadata, model_card
from clippy_core.model.catalogue import describe
from clippy_core.model.directory import verify
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.hub import Repository, fetch_directory
from clippy_core.model.presets import MODELS, find, get_preset
from clippy_core.model.push import push
from clippy_core.model.weights import load_directory, save_directory

# The hub's library uploads in a way that its own HTTP library asks it not to.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
FILES = {"config.json", "model.safetensors", "tokenizer.json", "README.md", "manifest.json"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny_config, tokenizer_json):
    """A model directory with something beside the model, as a checkpoint of a training run has; none may change it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model = DualEncoder(tiny_config)
    save_directory(folder, model, tokenizer_json, model_card(tiny_config), extra={"trainer.pt": b"state"})
    return folder


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- from the hub -----------------------------------------------------------------------------------------------


def test_what_is_pushed_loads_back_and_then_without_a_network(saved, hub, monkeypatch):
    from huggingface_hub import constants

    url = push(saved, "hf:org/tiny", message="first")
    assert url == f"{hub.url}/org/tiny"
    assert hub.repositories["org/tiny"].keys() == FILES
    assert hub.messages == [("main", "first")]
    assert {token for _, path, token in hub.seen if path.startswith("/api/models/org")} == {"Bearer hf_test"}
    folder = find("hf:org/tiny")
    verify(folder)
    before = load_directory(saved).model.state_dict()
    after = load_directory(folder).model.state_dict()
    assert all(after[key].equal(value) for key, value in before.items())
    assert describe("hf:org/tiny")["source"] == "hf:org/tiny"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find("hf:org/tiny") == folder
    assert clippy_core.load("hf:org/tiny").config.name == "tiny"


def test_a_server_that_is_gone_leaves_the_cache(saved, hub):
    hub.repositories["org/tiny"] = {name: data for name, data in files_of(saved).items() if name != "trainer.pt"}
    hub.repositories["org/tiny"]["manifest.json"] = json.dumps(
        {
            "format": 1,
            "files": {
                k: v for k, v in json.loads((saved / "manifest.json").read_text())["files"].items() if k != "trainer.pt"
            },
        }
    ).encode()
    folder = find("hf:org/tiny")
    hub.refusals["/"] = (503, "")
    assert find("hf:org/tiny") == folder
    assert find("hf:org/tiny@main") == folder


def test_without_a_network_and_cache_it_is_said_what_to_do(hub_cache):
    with pytest.raises(
        DataError, match=r"^hf:org/x: manifest.json is not in the cache \(.*\) and HF_HUB_OFFLINE is"
    ) as e:
        find("hf:org/x")
    assert "hf download org/x" in str(e.value)
    assert "\n" not in str(e.value)


def test_half_a_model_in_the_cache_is_named(saved, hub_cache):
    hub_cache("org/tiny", {name: data for name, data in files_of(saved).items() if name != "model.safetensors"})
    with pytest.raises(DataError, match=r"^hf:org/tiny: model.safetensors is not in the cache"):
        fetch_directory("hf:org/tiny")


@pytest.mark.parametrize(
    ("address", "refusal", "message"),
    [
        ("org/none", None, "no such repository on the hub, or a private one; .*hf auth login"),
        ("org/tiny@v9", None, "no such branch, tag or commit"),
        ("org/other", None, "no model directory of this package, it has no manifest.json"),
        ("org/tiny", (401, ""), r"no such repository|cannot be reached"),
        ("org/tiny", (403, "GatedRepo"), "access has to be asked for"),
    ],
)
def test_repositories_that_cannot_be_had(hub, address, refusal, message):
    hub.repositories |= {"org/tiny": {"manifest.json": b"{}"}, "org/other": {"config.json": b"{}"}}
    if refusal:
        hub.refusals["org/tiny"] = refusal
    with pytest.raises(DataError, match=message) as caught:
        fetch_directory(address)
    assert str(caught.value).startswith(f"hf:{address}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b/c", "a/b/c", "../x", "a--b", "-a/b", "a/b.git", "x" * 97, "a/b\n"])
def test_what_cannot_be_the_name_of_a_repository(name):
    with pytest.raises(UsageError, match="is not the name of a repository"):
        Repository(name)


def test_all_files_come_from_one_commit(saved, hub):
    hub.repositories["org/tiny"] = {"a.json": b"{}", "part/b.json": b"{}"}
    repository = Repository("org/tiny")
    assert repository.require("a.json").parent == repository.require("part/b.json").parents[1]
    asked = [path for command, path, _ in hub.seen if command == "HEAD"]
    assert asked == ["/org/tiny/resolve/main/a.json", f"/org/tiny/resolve/{hub.commit}/part/b.json"]
    assert repository.file("c.json") is None
    with pytest.raises(DataError, match=r"^hf:org/tiny: the repository has no c\.json$"):
        repository.require("c.json")


# --- to the hub -------------------------------------------------------------------------------------------------


def test_private_branches_and_default_message(saved, hub):
    assert push(saved, "tiny", private=True, revision="dev") == f"{hub.url}/me/tiny/tree/dev"
    assert hub.private == {"me/tiny"}
    assert [branch for branch, _ in hub.messages] == ["dev"]
    assert any("/branch/dev" in path for _, path, _ in hub.seen)


def change(name, data):
    return lambda folder: (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("tokenizer.json", b"{}"), "tokenizer.json: 2 bytes; the manifest says"),
        (change("README.md", b"# no header\n"), "README.md: no metadata header"),
        (change("README.md", b"---\na: [\n---\n"), "README.md: its metadata header is not YAML"),
        (change("README.md", b"---\n- a\n---\n"), "README.md: its metadata header is a list"),
        (lambda folder: (folder / "README.md").unlink(), "README.md: missing"),
    ],
)
def test_what_is_damaged_is_not_pushed(saved, hub, tmp_path, damage, message):
    folder = shutil.copytree(saved, tmp_path / "tiny")
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        push(folder, "org/tiny")
    assert "\n" not in str(caught.value)
    assert hub.seen == []


@pytest.mark.parametrize(
    ("place", "status", "message"),
    [
        ("/api/repos/create", 401, "the hub answers 401 not for you; log in with `hf auth login` or set HF_TOKEN"),
        ("/api/repos/create", 403, "the hub answers 403 not for you; log in"),
        ("/commit/", 500, "the hub answers 500"),
        ("/store/", 400, "Error while uploading 'model.safetensors'"),
    ],
)
def test_a_hub_that_refuses_is_one_line(saved, hub, place, status, message):
    hub.refusals[place] = (status, "")
    with pytest.raises(DataError, match=message) as caught:
        push(saved, "org/tiny")
    assert "\n" not in str(caught.value)


def test_nobody_is_logged_in(saved, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(DataError, match="hf:org/tiny: not logged in to the hub; log in"):
        push(saved, "org/tiny")
    assert hub.seen == []


def test_a_hub_that_cannot_be_reached(saved, hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"hf:org/tiny: .* cannot be reached") as caught:
        push(saved, "org/tiny")
    assert "\n" not in str(caught.value)


def test_the_command_pushes_and_prints_the_address(saved, hub, clippy, monkeypatch):
    monkeypatch.setattr("os.isatty", lambda descriptor: False)
    done = clippy("models", "push", saved, "org/tiny", "--private")
    assert (done.code, done.out, done.err) == (0, f"{hub.url}/org/tiny\n", "")
    done = clippy("models", "push", saved, "org/tiny", "--json")
    assert json.loads(done.out) == {"model": str(saved), "url": f"{hub.url}/org/tiny"}
    done = clippy("models", "push", saved, "no name")
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"error: 'no name' is not the name of a repository .*\n", done.err)
    done = clippy("models", "info", "hf:org/tiny")
    assert done.code == 0
    assert "hf:org/tiny" in done.out


# --- cards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS.names())
def test_the_card_of_every_preset_has_a_header_that_the_hub_accepts(name):
    config = get_preset(name).config
    metadata = card_metadata(model_card(config, "From *somewhere*."), "card")
    assert metadata["library_name"] == "clippy-vlm"
    assert metadata["pipeline_tag"] == "image-segmentation"
    assert metadata["license"] == "apache-2.0" or re.fullmatch(r"[a-z0-9.-]+", metadata["license_name"])
    assert config.quality in model_card(config)

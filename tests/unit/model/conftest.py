"""Small models for the tests of this folder; nothing here is fetched."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.presets import find
from clippy_core.model.weights import load_directory

WORDS = ["a", "photo", "of", "the", "dog", "grass", "sky", "castle", "red", "green", "on", "in", "two", "and", ".", ","]
WORDS += ["##s", "##ly", "un", "##usual", "quick"]
VOCABULARY = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}

BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": len(VOCABULARY),
    "max_position_embeddings": 64,
}
T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": len(VOCABULARY),
}


def disturb(module, seed=0):
    """Add noise to every floating-point parameter and buffer, so that no layer is an identity by its initialisation.

    Matrices get little, so that features stay of the order of 1 and an absolute tolerance means something.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point():
                scale = 0.1 if value.ndim < 2 else 0.2 * max(float(value.std()), 0.02)
                noise = torch.randn(value.shape, generator=generator) * scale
                value.add_(noise.abs() if "running_var" in name else noise)
    return module


@pytest.fixture(scope="session", name="disturb")
def _disturb():
    """The function above, for tests."""
    return disturb


@pytest.fixture(scope="session")
def encoders():
    """Configurations of small text encoders, by kind."""
    common = {key: value for key, value in BERT.items() if key != "model_type"}
    return {
        "bert": BERT,
        "t5": T5,
        "mpnet": {"model_type": "mpnet", **common},
        "distilbert": {
            "model_type": "distilbert",
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "vocab_size": len(VOCABULARY),
            "max_position_embeddings": 64,
        },
    }


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors on a busy machine: threads that wait for each other take many times longer than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer_json():
    """A WordPiece tokenizer with BERT's special tokens, as the bytes of ``tokenizer.json``."""
    tokenizer = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return json.dumps(json.loads(tokenizer.to_str())).encode()


@pytest.fixture(scope="session")
def tiny_config():
    """A dual encoder of half a million parameters: a CNN with batch norm and a BERT of two layers."""
    return ModelConfig(
        "tiny",
        VisionConfig("test_efficientnet", size=64, projection=24),
        TextConfig(BERT, projection=24, max_tokens=16),
        templates=("{}", "a photo of a {}."),
        description="for tests",
        licence="Apache-2.0",
    )


@pytest.fixture
def tiny_model(tiny_config):
    """The model of ``tiny_config`` with random weights and statistics, in evaluation mode."""
    torch.manual_seed(0)
    return disturb(DualEncoder(tiny_config)).eval()


@pytest.fixture(scope="session")
def bundled():
    """The model that ships inside the package."""
    return load_directory(find("clippy-lite"))


class LocalHub(ThreadingHTTPServer):
    """As much of the Hugging Face hub as is used: repositories of files, read and written over HTTP.

    ``repositories`` has the files of each by name; ``refusals`` a status for addresses that contain a text.
    """

    daemon_threads = True
    commit = "c" * 40

    def __init__(self):
        super().__init__(("127.0.0.1", 0), LocalHubHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.stored, self.refusals, self.seen, self.private = {}, {}, {}, [], set()
        self.messages = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def leave(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


class LocalHubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status=200, document=None, data=None, **headers):
        body = json.dumps(document).encode() if data is None else data
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        hub, path = self.server, self.path.partition("?")[0]
        hub.seen.append((self.command, path, self.headers.get("Authorization")))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for text, (status, code) in hub.refusals.items():
            if text in path:
                return self.answer(status, {"error": "not for you"}, X_Error_Code=code, X_Error_Message="not for you")
        if found := re.fullmatch(r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<name>.+)", path):
            return self.give(found["repo"], found["name"])
        if found := re.fullmatch(r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?", path):
            return self.describe(found["repo"], found["revision"])
        return self.take(path, body)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def describe(self, repo, revision):
        if repo not in self.server.repositories:
            return self.answer(404, {}, X_Error_Code="RepoNotFound")
        if revision not in (None, "main", "dev", self.server.commit):
            return self.answer(404, {}, X_Error_Code="RevisionNotFound")
        siblings = [{"rfilename": name} for name in self.server.repositories[repo]]
        return self.answer(document={"id": repo, "sha": self.server.commit, "siblings": siblings})

    def give(self, repo, name):
        data = self.server.repositories.get(repo, {}).get(name)
        if data is None:
            return self.answer(404, {}, X_Error_Code="EntryNotFound")
        etag = hashlib.sha256(data).hexdigest()
        return self.answer(data=data, ETag=f'"{etag}"', X_Repo_Commit=self.server.commit)

    def take(self, path, body):
        hub = self.server
        if path == "/api/repos/create":
            wish = json.loads(body)
            repo = f"{wish.get('organization') or 'me'}/{wish['name']}"
            if wish.get("private") or wish.get("visibility") == "private":
                hub.private.add(repo)
            status = 409 if repo in hub.repositories else 200
            hub.repositories.setdefault(repo, {})
            return self.answer(status, {"url": f"{hub.url}/{repo}", "name": repo, "id": repo})
        if path == "/api/validate-yaml":
            return self.answer(document={})
        if "/branch/" in path:
            return self.answer(document={})
        if "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith("safetensors") else "regular"}
                for file in json.loads(body)["files"]
            ]
            return self.answer(document={"files": [file | {"shouldIgnore": False} for file in files]})
        if path.endswith("/objects/batch"):
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{hub.url}/store/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            return self.answer(document={"transfer": "basic", "objects": objects})
        if path.startswith("/store/"):
            hub.stored[path.removeprefix("/store/")] = body
            return self.answer(document={})
        if found := re.fullmatch(r"/api/models/(.+)/commit/([^/]+)", path):
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.repositories[found[1]][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.repositories[found[1]][value["path"]] = hub.stored[value["oid"]]
                elif line["key"] == "header":
                    hub.messages.append((found[2], value["summary"]))
            return self.answer(document={"commitUrl": f"{hub.url}/{found[1]}/commit/1", "commitOid": hub.commit})
        return self.answer(404, {"error": path})


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The hub's own cache below the test's folder, without a network: ``put("org/name", {"config.json": b"…"})``."""
    from huggingface_hub import constants

    cache = tmp_path / "hub-cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "clippy-cache"))

    def put(repo, files):
        folder = cache / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text("a" * 40)
        for name, data in files.items():
            path = folder / "snapshots" / ("a" * 40) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder / "snapshots" / ("a" * 40)

    return put


@pytest.fixture
def hub(hub_cache, monkeypatch):
    """A hub on this machine, and somebody who is logged in to it."""
    from huggingface_hub import constants

    server = LocalHub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.leave()

"""What a download accepts, checks and records; connections that break are in ``tests/faults``."""

import hashlib
import io
import os
from urllib.request import Request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import DataError, UsageError
from clippy_core.model import download as module
from clippy_core.model.download import download

CONTENT = bytes(range(256)) * 1000
HASH = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def source(tmp_path):
    """A file that can be fetched by its address."""
    path = tmp_path / "published" / "weights.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "weights.bin"


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("as_text", [True, False])
def test_a_file_address_is_fetched_like_any_other(source, target, as_text):
    steps = []
    got = download(
        source.as_uri(),
        str(target) if as_text else target,
        sha256=HASH,
        size=len(CONTENT),
        progress=lambda *step: steps.append(step),
    )
    assert got == HASH
    assert target.read_bytes() == CONTENT
    assert names(target) == ["weights.bin"]
    assert steps[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("name", ["weights.bin", "größe 100%.pt", os.fsdecode(b"\xff.pt")])
def test_the_recorded_hash_has_the_form_that_sha256sum_checks(source, target, name):
    target = target.with_name(name)
    assert download(source.as_uri(), target, sha256=None) == HASH
    record = target.with_name(f"{name}.sha256")
    assert record.read_bytes() == HASH.encode() + b"  " + os.fsencode(name) + b"\n"


def test_a_file_placed_by_hand_is_taken_and_recorded(target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert download("https://publisher.invalid/weights.bin", target, sha256=None) == HASH
    assert names(target) == ["weights.bin", "weights.bin.sha256"]


def test_a_file_in_a_folder_that_may_only_be_read_serves_without_a_record(target, monkeypatch):
    def forbidden(path, data):
        raise PermissionError(13, "Permission denied", str(path))

    target.parent.mkdir()
    target.write_bytes(CONTENT)
    monkeypatch.setattr(module, "write_bytes", forbidden)
    monkeypatch.setattr(module, "locked", None)
    assert download("https://publisher.invalid/weights.bin", target, sha256=None) == HASH
    assert names(target) == ["weights.bin"]


@pytest.mark.parametrize(
    ("sha256", "size", "record", "said"),
    [
        (OTHER, None, None, [HASH, OTHER, "delete it"]),
        (None, None, f"{OTHER}  weights.bin\n", [HASH, OTHER, "weights.bin.sha256"]),
        (None, None, OTHER, [HASH, OTHER]),
        (None, None, "", ["weights.bin.sha256: holds no SHA-256"]),
        (None, None, "\x00\xff not a hash", ["weights.bin.sha256: holds no SHA-256"]),
        (HASH, 5, None, ["256,000 bytes", "expected 5"]),
        (HASH, len(CONTENT), f"{OTHER}  weights.bin\n", None),
        (None, None, f"{HASH}  weights.bin\n", None),
    ],
)
def test_a_file_that_is_here_must_be_the_right_one(target, sha256, size, record, said):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    if record is not None:
        target.with_name("weights.bin.sha256").write_text(record)
    before = names(target)
    if said is None:
        assert download("https://publisher.invalid/x", target, sha256=sha256, size=size) == HASH
    else:
        with pytest.raises(DataError) as caught:
            download("https://publisher.invalid/x", target, sha256=sha256, size=size)
        assert [text for text in said if text not in str(caught.value)] == []
    assert target.read_bytes() == CONTENT
    assert names(target) == before


@pytest.mark.parametrize(
    "url",
    [
        "",
        "weights.bin",
        "/srv/weights.bin",
        "ftp://publisher.invalid/weights.bin",
        "data:application/octet-stream;base64,AAAA",
        "javascript:alert(1)",
        "https://",
        "https:///weights.bin",
        "http://[::1/weights.bin",
        "http://publisher.invalid:port/weights.bin",
        "http://publisher.invalid/weights\n.bin?a b",
        "http://publisher.invalid/gewichte ü",
        f"http://{'x' * 70}.invalid/weights.bin",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_made(tmp_path, url):
    with pytest.raises(UsageError, match="cannot be fetched") as caught:
        download(url, tmp_path / "weights.bin", sha256=None)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "a" * 65, f"sha256:{'a' * 64}", f"{'a' * 64}\n"])
def test_what_is_no_hash_is_refused(source, target, sha256):
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        download(source.as_uri(), target, sha256=sha256)
    assert not target.parent.exists()


def test_a_target_that_is_a_folder_is_refused(source, tmp_path):
    with pytest.raises(UsageError, match="a folder"):
        download(source.as_uri(), tmp_path, sha256=None)


@pytest.mark.parametrize("missing", ["no-such-file", "."])
def test_a_file_address_without_a_file_is_one_line_and_no_talk_of_networks(tmp_path, target, missing):
    with pytest.raises(DataError, match=r"^file:.*cannot be reached") as caught:
        download((tmp_path / missing).as_uri(), target, sha256=None)
    assert "network" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(target) == []


@pytest.mark.parametrize(
    ("start", "end", "followed"),
    [
        ("https://a.invalid/x", "https://b.invalid/y", True),
        ("http://a.invalid/x", "http://b.invalid/y", True),
        ("http://a.invalid/x", "https://a.invalid/x", True),
        ("https://a.invalid/x", "http://a.invalid/x", False),
        ("https://a.invalid/x", "ftp://a.invalid/x", False),
        ("https://a.invalid/x", "file:///etc/hostname", False),
    ],
)
def test_a_redirection_never_leaves_encryption(start, end, followed):
    body = io.BytesIO()
    request = Request(start, headers={"Range": "bytes=5-"})
    follow = module._Redirections().redirect_request
    if followed:
        after = follow(request, body, 302, "Found", {}, end)
        assert (after.full_url, after.get_header("Range")) == (end, "bytes=5-")
    else:
        with pytest.raises(DataError, match="refused"):
            follow(request, body, 302, "Found", {}, end)
        assert body.closed


@given(st.text(alphabet="abc:@?&=#/.%", max_size=20), st.sampled_from(["", "key", "key:secret"]))
def test_messages_show_neither_password_nor_query(path, user):
    errand = module._Errand(f"https://{user}@publisher.invalid/{path}?token=hidden", None, None, None, None, 1.0)
    assert errand.name.startswith("https://publisher.invalid/")
    assert "hidden" not in errand.name
    assert "secret" not in errand.name


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError("The read operation timed out"), "no byte arrived in time"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ValueError("two\nlines"), "two lines"),
        (ConnectionError(), "ConnectionError"),
        ("file not on local host", "file not on local host"),
        ("x" * 1000, "x" * 200),
    ],
)
def test_a_reason_is_one_short_line(error, said):
    assert module._reason(error) == said

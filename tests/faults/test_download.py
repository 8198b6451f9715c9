"""Downloads over a real connection that breaks, lies or ends: continued or refused, never half a file in its place."""

import builtins
import errno
import hashlib
import io
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import namedtuple
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from clippy_core.errors import DataError
from clippy_core.model import download as module
from clippy_core.model.download import download

CONTENT = random.Random(0).randbytes(300_000)
CHANGED = random.Random(1).randbytes(310_000)
LARGE = random.Random(2).randbytes(7 << 20)
DAY, LATER = "Wed, 01 Jul 2026 10:00:00 GMT", "Thu, 02 Jul 2026 10:00:00 GMT"
PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@dataclass
class Answer:
    """What the server does with one request.

    ``until`` and ``stall`` are places in the file: there the connection is closed, or nothing more is sent until the
    test lets go. A stall at None never comes, one at -1 is before the status line.
    """

    status: int = 200
    body: bytes | None = None
    until: int | None = None
    stall: int | None = None
    reset: bool = False
    ranges: bool = True
    length: bool = True
    chunked: bool = False
    validator: tuple[str, str] | None = ("ETag", '"1"')
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


class Site(ThreadingHTTPServer):
    """A server that gives ``answers`` one after another and then ``usual`` for ever."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.answers, self.usual = [], Answer()
        self.seen, self.sent = [], 0
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/weights.bin"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def leave(self):
        self.go_on.set()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that went away is what many of these tests are about."""

    @property
    def ranges(self):
        """The Range header of every request so far."""
        return [headers.get("Range") for _, headers in self.seen]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do_GET(self):
        site = self.server
        answer = site.answers.pop(0) if site.answers else site.usual
        site.seen.append((self.path, dict(self.headers)))
        if answer.stall == -1:
            self.stall()
        body = site.content if answer.body is None else answer.body
        start = self.start_of(answer)
        self.send_head(answer, start, len(body))
        places = sorted({start, *filter(None, (answer.stall, answer.until)), len(body)})
        for begin, end in pairwise(places):
            if begin == answer.until:
                break
            if begin == answer.stall:
                self.stall()
            self.send_body(answer, body[begin:end])
        else:
            if answer.chunked:
                self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def start_of(self, answer):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if answer.status == 200 and wanted and answer.ranges and self.headers["If-Range"] == answer.validator[1]:
            return int(wanted[1])
        return 0

    def send_head(self, answer, start, length):
        status = answer.status if not start else 206 if start < length else 416
        self.send_response(status)
        headers = {"Content-Type": answer.kind, "Connection": "close"}
        if answer.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif answer.length:
            headers["Content-Length"] = str(max(0, length - start))
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{length - 1}/{length}"
        if answer.validator:
            headers[answer.validator[0]] = answer.validator[1]
        for name, value in (headers | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, answer, piece):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
        self.server.sent += len(piece)

    def stall(self):
        self.server.stalled.set()
        self.server.go_on.wait(30)


@pytest.fixture
def site():
    server = Site()
    yield server
    server.leave()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "weights.bin"


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch):
    """Pauses that cost nothing, and no proxy of whoever runs the tests."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def names(target):
    return sorted(path.name for path in target.parent.iterdir()) if target.parent.exists() else []


PARTIAL = ["weights.bin.part", "weights.bin.part.json"]


def refusal(url, target, **more):
    """The one line with which a download is refused; what is left in the folder can only be continued."""
    before = set(names(target))
    with pytest.raises(DataError) as caught:
        download(url, target, **({"sha256": None} | more))
    assert "\n" not in str(caught.value)
    assert set(names(target)) - before <= set(PARTIAL)
    return str(caught.value)


def assert_is(target, content):
    assert target.read_bytes() == content
    assert names(target) == ["weights.bin"]


def begun(site, target, until=100_000, **more):
    """Leave a partial download behind, as a run whose connection was lost does."""
    site.answers = [Answer(until=until, **more)]
    refusal(site.url, target, attempts=1)
    site.seen.clear()
    site.sent = 0


def test_an_undisturbed_download_is_one_request(site, target):
    steps = []
    assert download(site.url, target, sha256=sha256(CONTENT).upper(), progress=lambda *step: steps.append(step))
    assert_is(target, CONTENT)
    assert site.ranges == [None]
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert steps == sorted(steps)


@pytest.mark.parametrize("validator", [("ETag", '"1"'), ("Last-Modified", DAY)])
@pytest.mark.parametrize("drops", [1, 4])
def test_a_dropped_connection_is_continued_and_no_byte_is_fetched_twice(site, target, drops, validator):
    places = [60_000 * number + 1 for number in range(1, drops + 1)]
    site.usual = Answer(validator=validator)
    site.answers = [Answer(until=place, validator=validator) for place in places]
    assert download(site.url, target, sha256=sha256(CONTENT)) == sha256(CONTENT)
    assert_is(target, CONTENT)
    assert site.ranges == [None, *(f"bytes={place}-" for place in places)]
    assert {headers.get("If-Range") for _, headers in site.seen[1:]} == {validator[1]}
    assert site.sent == len(CONTENT)


@pytest.mark.parametrize(
    "drop",
    [
        Answer(until=100_000, reset=True),
        Answer(until=100_000, chunked=True),
        Answer(until=100_000, headers={"Content-Length": str(len(CONTENT))}, length=False),
    ],
    ids=["reset", "chunked", "cut"],
)
def test_whatever_way_a_connection_breaks_the_rest_is_fetched(site, target, drop):
    site.answers = [drop]
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert len(site.seen) == 2


def test_the_rest_is_fetched_by_the_next_run(site, target):
    site.usual = Answer(until=100_000)
    message = refusal(site.url, target, attempts=3)
    assert "given up after 3 attempts" in message
    assert "0.1 MB of 0.3 MB" in message
    assert "run it again" in message
    assert names(target) == PARTIAL
    site.seen.clear()
    site.usual, site.sent = Answer(), 0
    steps = []
    download(site.url, target, sha256=sha256(CONTENT), progress=lambda *step: steps.append(step))
    assert_is(target, CONTENT)
    assert site.ranges == ["bytes=100000-"]
    assert site.sent == 200_000
    assert steps[0] == (100_000, 300_000)


def test_drops_do_not_count_while_the_download_gets_ahead(site, target):
    site.content = LARGE
    site.answers = [Answer(until=number << 20) for number in range(1, 7)]
    download(site.url, target, sha256=sha256(LARGE), attempts=1)
    assert target.read_bytes() == LARGE
    assert site.sent == len(LARGE)


def test_a_server_that_starts_over_every_time_is_given_up(site, target):
    site.content = LARGE
    site.usual = Answer(until=2 << 20, ranges=False)
    assert "given up after 2 attempts" in refusal(site.url, target, attempts=2)
    assert len(site.seen) == 3


@pytest.mark.parametrize(
    ("first", "then", "asked"),
    [
        (Answer(until=100_000), Answer(ranges=False), "bytes=100000-"),
        (Answer(until=100_000, validator=None), Answer(validator=None), None),
        (Answer(until=100_000, validator=("ETag", 'W/"1"')), Answer(), None),
    ],
    ids=["ranges are ignored", "nothing names the version", "weak ETag"],
)
def test_where_the_rest_cannot_be_had_the_whole_is_fetched_again(site, target, first, then, asked):
    site.answers = [first, then]
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == [None, asked]


def test_what_was_known_of_an_overwritten_partial_file_is_forgotten(site, target):
    begun(site, target)
    site.answers = [Answer(until=150_000, validator=None, ranges=False)]
    refusal(site.url, target, attempts=1)
    assert names(target) == ["weights.bin.part"]
    download(site.url, target, sha256=sha256(CONTENT))
    assert site.ranges == ["bytes=100000-", None]


def test_a_weak_etag_leaves_the_date(site, target):
    site.answers = [Answer(until=100_000, validator=("Last-Modified", DAY), headers={"ETag": 'W/"1"'})]
    site.usual = Answer(validator=("Last-Modified", DAY), headers={"ETag": 'W/"2"'})
    download(site.url, target, sha256=sha256(CONTENT))
    assert site.ranges == [None, "bytes=100000-"]
    assert site.sent == len(CONTENT)


@pytest.mark.parametrize("old", [("ETag", '"1"'), ("Last-Modified", DAY)])
@pytest.mark.parametrize("new", [("ETag", '"2"'), ("Last-Modified", LATER)])
def test_a_file_that_was_replaced_meanwhile_is_fetched_from_its_beginning(site, target, old, new):
    begun(site, target, validator=old)
    site.content, site.usual = CHANGED, Answer(validator=new)
    assert download(site.url, target, sha256=sha256(CHANGED)) == sha256(CHANGED)
    assert_is(target, CHANGED)


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"2"'},
        {"Content-Range": "bytes 0-299999/300000"},
        {"Content-Range": "bytes 100000-309999/310000"},
        {"Content-Range": "nonsense"},
    ],
)
def test_a_rest_that_does_not_fit_is_not_taken(site, target, headers):
    begun(site, target)
    site.answers = [Answer(headers=headers)]
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == ["bytes=100000-", None]


def test_a_partial_file_longer_than_the_whole_is_fetched_again(site, target):
    begun(site, target)
    with open(target.with_name("weights.bin.part"), "ab") as file:
        file.write(bytes(len(CONTENT)))
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == ["bytes=400000-", None]


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"null", b'{"source": 1}'])
def test_a_damaged_note_means_a_new_beginning(site, target, note):
    begun(site, target)
    target.with_name("weights.bin.part.json").write_bytes(note)
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == [None]


def test_a_partial_file_of_another_address_is_not_continued(site, target):
    begun(site, target)
    download(f"{site.url}?version=2", target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == [None]


def test_an_address_with_a_key_in_it_is_written_nowhere(site, target):
    url = f"{site.url}?key=secret"
    site.usual = Answer(until=1000)
    assert "secret" not in refusal(url, target, attempts=1)
    assert names(target) == PARTIAL
    assert all(b"secret" not in path.read_bytes() for path in target.parent.iterdir())


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_wrong_hash_is_refused_and_nothing_stays(site, target, interrupted):
    if interrupted:
        begun(site, target)
    message = refusal(site.url, target, sha256=sha256(CHANGED))
    assert sha256(CONTENT) in message
    assert sha256(CHANGED) in message
    assert names(target) == []
    assert len(site.seen) == 1
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)


def test_a_hash_is_of_the_whole_file_and_not_of_what_this_run_fetched(site, target):
    begun(site, target)
    part = target.with_name("weights.bin.part")
    part.write_bytes(bytes(part.stat().st_size))
    assert "SHA-256" in refusal(site.url, target, sha256=sha256(CONTENT))
    assert names(target) == []


def test_without_a_hash_the_first_one_is_recorded_and_later_files_must_have_it(site, target):
    assert download(site.url, target, sha256=None) == sha256(CONTENT)
    record = target.with_name("weights.bin.sha256")
    assert record.read_text() == f"{sha256(CONTENT)}  weights.bin\n"
    target.unlink()
    site.content = CHANGED
    message = refusal(site.url, target)
    assert sha256(CHANGED) in message
    assert str(record) in message
    assert names(target) == [record.name]
    record.unlink()
    assert download(site.url, target, sha256=None) == sha256(CHANGED)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=PAGE, kind="text/html; charset=utf-8"),
        Answer(body=PAGE, kind="application/xhtml+xml"),
        Answer(body=PAGE),
        Answer(body=b"\xef\xbb\xbf\n\n" + PAGE.lower()),
        Answer(body=b"<html lang='en'>\n" + bytes(1000), length=False),
    ],
    ids=["type", "XHTML", "content", "BOM", "no length"],
)
def test_a_web_page_instead_of_the_file_is_refused_and_costs_nothing_that_is_here(site, target, answer, partial):
    if partial:
        begun(site, target)
    answer.ranges = False
    site.answers = [answer]
    assert "web page" in refusal(site.url, target)
    assert names(target) == (PARTIAL if partial else [])
    download(site.url, target, sha256=sha256(CONTENT))
    assert site.ranges[-1] == ("bytes=100000-" if partial else None)


def test_a_web_page_that_is_wanted_is_a_file(site, tmp_path):
    site.usual = Answer(body=PAGE, kind="text/html")
    download(site.url, tmp_path / "page.html", sha256=sha256(PAGE))
    assert (tmp_path / "page.html").read_bytes() == PAGE


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(401), "401 Unauthorized"),
        (Answer(403), "403 Forbidden"),
        (Answer(404), "404 Not Found"),
        (Answer(404, body=PAGE, kind="text/html"), "404 Not Found"),
        (Answer(416), "the server answers 416 "),
        (Answer(headers={"Content-Encoding": "gzip"}), "packed as gzip"),
    ],
)
def test_a_final_refusal_is_told_after_one_request(site, target, answer, said):
    site.usual = answer
    assert said in refusal(site.url, target)
    assert len(site.seen) == 1
    assert names(target) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_passing_refusal_is_waited_out(site, target, status):
    site.answers = [Answer(until=100_000), Answer(status), Answer(status)]
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == [None, *["bytes=100000-"] * 3]


def test_a_refusal_that_does_not_pass_is_told_in_the_end(site, target):
    site.usual = Answer(503)
    message = refusal(site.url, target, attempts=4)
    assert "503 Service Unavailable" in message
    assert "--checkpoint FILE" in message
    assert len(site.seen) == 4
    assert names(target) == []


@pytest.mark.parametrize(
    ("retry_after", "pauses"),
    [(None, [1.0, 2.0, 4.0, 5.0]), ("3", [3.0, 3.0, 4.0, 5.0]), ("999", [5.0] * 4), ("soon", [1.0, 2.0, 4.0, 5.0])],
)
def test_pauses_grow_to_a_bound_and_follow_what_the_server_asks(site, target, monkeypatch, retry_after, pauses):
    made = []
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 5.0)
    monkeypatch.setattr(module.time, "sleep", made.append)
    site.usual = Answer(503, headers={"Retry-After": retry_after} if retry_after else {})
    refusal(site.url, target)
    assert made == pauses


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_server_that_gives_no_length_serves_as_well(site, target, size):
    steps = []
    site.usual = Answer(length=False)
    download(site.url, target, sha256=None, size=size, progress=lambda *step: steps.append(step))
    assert target.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), size)


def test_a_known_size_shows_that_something_is_missing_where_the_server_does_not(site, target):
    site.answers = [Answer(until=100_000, length=False)]
    download(site.url, target, sha256=None, size=len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize(("length", "left"), [(True, PARTIAL), (False, [])], ids=["announced", "not announced"])
def test_a_wrong_size_is_refused(site, target, length, left):
    begun(site, target)
    site.usual = Answer(length=length, ranges=False)
    assert "100,001" in refusal(site.url, target, size=100_001)
    assert names(target) == left


def test_a_file_without_end_is_left_once_it_is_longer_than_it_should_be(site, target):
    steps = []
    site.content, site.usual = LARGE, Answer(length=False)
    assert "more than" in refusal(site.url, target, size=1000, progress=lambda arrived, total: steps.append(arrived))
    assert steps[-1] <= 1000 + module.PIECE
    assert names(target) == []


def test_an_empty_file_is_refused_unless_it_should_be_empty(site, target):
    site.usual = Answer(body=b"")
    assert "empty" in refusal(site.url, target, attempts=2)
    assert download(site.url, target, sha256=None, size=0) == sha256(b"")
    assert target.read_bytes() == b""


@pytest.mark.parametrize("stall", [-1, 100_000], ids=["no answer", "in the middle"])
def test_a_server_that_falls_silent_is_left_and_asked_again(site, target, stall):
    site.answers = [Answer(stall=stall)]
    download(site.url, target, sha256=sha256(CONTENT), timeout=0.2)
    assert_is(target, CONTENT)
    assert site.ranges == [None, None if stall < 0 else "bytes=100000-"]


def test_a_server_that_stays_silent_is_given_up(site, target):
    site.usual = Answer(stall=-1)
    assert "no byte arrived in time" in refusal(site.url, target, timeout=0.1, attempts=2)


def test_a_redirection_is_followed_and_the_rest_fetched_from_there(site, target):
    away = Answer(302, body=b"", headers={"Location": "/elsewhere"})
    site.answers = [away, Answer(until=100_000), away]
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert [path for path, _ in site.seen] == ["/weights.bin", "/elsewhere"] * 2
    assert site.ranges == [None, None, "bytes=100000-", "bytes=100000-"]


@pytest.mark.parametrize(
    ("location", "said"),
    [("file:///etc/hostname", "not allowed"), ("ftp://127.0.0.1/x", "from http to ftp"), ("/weights.bin", "302")],
    ids=["file", "ftp", "for ever"],
)
def test_a_redirection_that_leads_astray_is_refused(site, target, location, said):
    site.usual = Answer(302, body=b"", headers={"Location": location})
    assert said in refusal(site.url, target)
    assert names(target) == []


def test_a_proxy_from_the_environment_is_used(site, target, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.server_port}")
    download("http://publisher.invalid/weights.bin", target, sha256=sha256(CONTENT))
    assert site.seen[0][0] == "http://publisher.invalid/weights.bin"
    assert_is(target, CONTENT)


def refusing_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_nobody_at_the_address_is_told_at_once_with_what_to_do(target):
    message = refusal(f"http://127.0.0.1:{refusing_port()}/weights.bin", target)
    assert "cannot be reached (Connection refused)" in message
    assert "--checkpoint FILE" in message
    assert names(target) == []


def test_no_network_is_told_at_once_with_what_to_do(target, monkeypatch):
    def unknown(*args, **more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = refusal("https://publisher.invalid/weights.bin", target)
    assert "https://publisher.invalid/weights.bin: cannot be reached (Name or service not known)" in message
    assert "--checkpoint FILE" in message


def test_a_server_that_goes_away_in_the_middle_is_waited_for(site, target, monkeypatch):
    connections = []
    connect = socket.create_connection

    def away_for_a_while(*args, **more):
        connections.append(args)
        if len(connections) in (2, 3):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return connect(*args, **more)

    monkeypatch.setattr(socket, "create_connection", away_for_a_while)
    site.answers = [Answer(until=100_000)]
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert (len(connections), site.ranges) == (4, [None, "bytes=100000-"])


def test_a_connection_that_breaks_as_it_is_made_is_tried_again(site, target, monkeypatch):
    broken = [ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")]
    connect = socket.create_connection

    def break_once(*args, **more):
        if broken:
            raise broken.pop()
        return connect(*args, **more)

    monkeypatch.setattr(socket, "create_connection", break_once)
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)


@pytest.mark.parametrize("sha", [None, sha256(CONTENT)], ids=["recorded", "given"])
def test_a_file_that_is_here_needs_no_network(site, target, sha):
    download(site.url, target, sha256=sha)
    nowhere = f"http://127.0.0.1:{refusing_port()}/weights.bin"
    assert download(nowhere, target, sha256=sha, size=len(CONTENT)) == sha256(CONTENT)
    target.write_bytes(CHANGED)
    message = refusal(nowhere, target, sha256=sha)
    assert sha256(CHANGED) in message
    assert sha256(CONTENT) in message
    assert target.read_bytes() == CHANGED


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("size", "requests"), [(len(CONTENT), 0), (None, 1)], ids=["size known", "size announced"])
def test_a_full_disk_is_found_before_downloading(site, target, monkeypatch, size, requests):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 200_000, 200_000))
    message = refusal(site.url, target, size=size)
    assert "0.3 MB needed, but only 0.2 MB free" in message
    assert (len(site.seen), names(target)) == (requests, [])


def test_what_is_here_already_needs_no_space(site, target, monkeypatch):
    begun(site, target)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 200_000, 200_000))
    download(site.url, target, sha256=sha256(CONTENT), size=len(CONTENT))
    assert_is(target, CONTENT)


class NearlyFull(io.FileIO):
    """A file on a disk that has room for 120,000 bytes of it."""

    def write(self, data):
        room = 120_000 - self.tell()
        super().write(data[:room])
        if len(data) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)


def test_a_disk_that_fills_up_midway_keeps_what_arrived_and_the_next_run_goes_on(site, target, monkeypatch):
    def open_nearly_full(path, mode):
        return NearlyFull(path, mode) if mode in ("wb", "ab") else builtins.open(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(module, "open", open_nearly_full, raising=False)
        assert "no space left; 0.1 MB are kept" in refusal(site.url, target)
    assert names(target) == PARTIAL
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == [None, "bytes=120000-"]


PROGRAM = """
import sys
from clippy_core.model.download import download
if len(sys.argv) > 3:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    download(sys.argv[1], sys.argv[2], sha256=None, progress=lambda arrived, total: print(arrived, flush=True))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def start(clippy_environment):
    """Start a process that downloads; it prints how far it is."""
    running = []

    def run(*args):
        command = [sys.executable, "-c", PROGRAM, *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(subprocess.Popen(command, env=clippy_environment, text=True, **pipes))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.communicate()


def progress_of(process, arrived):
    """Wait until the process says that it has come so far."""
    line = next((line for line in process.stdout if int(line) >= arrived), None)
    assert line is not None, process.stderr.read()


def test_a_limit_of_the_system_keeps_what_arrived(site, target, start):
    process = start(site.url, target, 120_000)
    _, message = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "DataError" in message
    assert "no space left; 0.1 MB are kept" in message
    assert message.count("\n") == 1
    assert names(target) == PARTIAL
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == [None, "bytes=120000-"]


def test_a_killed_process_is_continued_by_the_next(site, target, start):
    site.answers = [Answer(stall=150_000)]
    process = start(site.url, target)
    progress_of(process, 150_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert set(names(target)) - {"weights.bin.lock"} == set(PARTIAL)
    here = target.with_name("weights.bin.part").stat().st_size
    assert 100_000 < here <= 150_000
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == [None, f"bytes={here}-"]


def test_two_processes_bring_one_file_with_one_download(site, target, start):
    site.answers = [Answer(stall=150_000)]
    first = start(site.url, target)
    assert site.stalled.wait(20)
    second = start(site.url, target)
    progress_of(second, 0)  # it says how far the other is
    site.go_on.set()
    for process in (first, second):
        _, said = process.communicate(timeout=20)
        assert (process.returncode, said) == (0, "")
    assert target.read_bytes() == CONTENT
    assert names(target) == ["weights.bin", "weights.bin.sha256"]
    assert len(site.seen) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_an_interruption_leaves_what_can_be_continued(site, target, error):
    def interrupt(arrived, total):
        if arrived >= 100_000:
            raise error

    site.answers = [Answer(stall=100_000)]
    with pytest.raises(error):
        download(site.url, target, sha256=None, progress=interrupt)
    assert names(target) == PARTIAL
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert site.ranges == [None, "bytes=100000-"]


def test_a_file_that_lacked_only_its_name_gets_it_without_network(site, target, monkeypatch):
    replace = os.replace

    def interrupted(old, new):
        if new == target:
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            download(site.url, target, sha256=sha256(CONTENT))
    assert names(target) == PARTIAL
    download(site.url, target, sha256=sha256(CONTENT))
    assert_is(target, CONTENT)
    assert len(site.seen) == 1


def test_a_folder_that_cannot_be_made_is_one_line(site, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    message = refusal(site.url, tmp_path / "file" / "models" / "weights.bin")
    assert str(tmp_path / "file") in message
    assert site.seen == []

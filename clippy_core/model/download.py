"""Fetching one file so that it is whole or not there, over connections that break.

Bytes go to ``NAME.part``. A connection that drops is tried again after a pause, and the rest is asked for with an HTTP
range that holds only for the version of the file that was begun; a killed process is continued by the next run the
same way. The file gets its name once its size and its SHA-256 are right. Imports no torch.
"""

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from clippy_core.errors import DataError, UsageError
from clippy_core.files import write_bytes, write_json
from clippy_core.model.cache import in_megabytes, locked, note_of, part_of, record_of, require_space
from clippy_core.version import __version__

ACCEPTED_SCHEMES = ("http", "https", "file")
BY_HAND = "download the file by hand and give it with --checkpoint FILE"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts; each pause is twice the one before."""
PIECE = 1 << 18
"""Bytes asked of the connection at once."""
AHEAD = 1 << 20
"""An attempt that got this many bytes further than any before it does not count as a failed one."""
TRY_AGAIN = (408, 425, 429)
"""HTTP statuses below 500 that pass."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[int, int | None], None]


def _silent(arrived: int, total: int | None) -> None:
    pass


@dataclass(frozen=True)
class _Errand:
    """What is to be fetched, and where it goes."""

    url: str
    target: Path
    sha256: str | None
    size: int | None
    progress: Progress
    timeout: float

    @property
    def name(self) -> str:
        """The address without the query and the password it may have, for messages."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def part(self) -> Path:
        return part_of(self.target)

    def arrived(self) -> int:
        """Bytes of the file that are here."""
        return self.part.stat().st_size if self.part.exists() else 0

    def forget(self) -> None:
        """Delete what has arrived."""
        note_of(self.target).unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)


class _DroppedError(Exception):
    """An attempt failed for a reason that may pass.

    Attributes:
        unreachable: Not even a connection came about.
        pause: Seconds that the server asks to wait.
    """

    def __init__(self, reason: str, *, unreachable: bool = False, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        self.pause = pause


class _StartOverError(Exception):
    """What has arrived cannot be continued."""


def download(
    url: str,
    target: str | os.PathLike[str],
    *,
    sha256: str | None,
    size: int | None = None,
    progress: Progress = _silent,
    timeout: float = 30.0,
    attempts: int = 5,
) -> str:
    """Fetch ``url`` to the file ``target`` and return the SHA-256 of the file in lower-case hexadecimal.

    A file that is there already is checked against the hash and not fetched again; then no network is needed. Only one
    process fetches a target; others wait for it. Whatever goes wrong, nothing appears under the target's name; what has
    arrived stays in ``target.part`` and the next call goes on from there, unless it turned out to be wrong.

    A server that gives neither a length nor chunks cannot show that a file is complete; give ``size`` or ``sha256``.

    Args:
        url: An ``http``, ``https`` or ``file`` address. Proxies are taken from the environment, as Python does.
            A redirection may not leave encryption.
        target: Where the file goes; missing folders are made.
        sha256: The published hash in hexadecimal. None where none is published: then the hash of the first download is
            recorded in ``target.sha256``, and later files must have that one.
        size: Length in bytes, if it is known.
        progress: Called with the bytes that are here and the length or None, often; from a lower number again if the
            download has to start over, and with another process's progress while waiting for it.
        timeout: Seconds without a single byte after which a connection counts as dropped.
        attempts: How many in a row may fail without getting ahead by a mebibyte.

    Raises:
        UsageError: An address or hash that is not one, or a target that is a folder.
        DataError: The server cannot be reached, refuses, sends a web page, or drops the connection too often; the size
            or the hash is wrong; the disk is full or the folder cannot be written. One line each.
    """
    errand = _Errand(url, Path(target), _as_hash(sha256), size, progress, timeout)
    _check(errand)
    with _local_faults_in_one_line(errand):
        if errand.target.exists():
            return _check_existing(errand)
        errand.target.parent.mkdir(parents=True, exist_ok=True)
        with locked(errand.target, waiting=lambda: progress(errand.arrived(), size)):
            if errand.target.exists():  # another process has brought it meanwhile
                return _check_existing(errand)
            _fetch(errand, attempts)
            return _keep(errand)


def _as_hash(sha256: str | None) -> str | None:
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"sha256 is {sha256!r}; accepted: 64 hexadecimal digits")
    return sha256.lower() if sha256 else None


def _check(errand: _Errand) -> None:
    try:
        parts = urlsplit(errand.url)
        usable = parts.scheme in ACCEPTED_SCHEMES and (parts.scheme == "file" or bool(parts.hostname))
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"address {errand.url!r} cannot be fetched; accepted: {', '.join(ACCEPTED_SCHEMES)} addresses")
    if errand.target.is_dir():
        raise UsageError(f"{errand.target}: a folder; the download needs the name of a file")


@contextmanager
def _local_faults_in_one_line(errand: _Errand) -> Iterator[None]:
    """Faults of this machine's disk; those of the network never arrive here as they are."""
    try:
        yield
    except BrokenPipeError:  # whoever shows the progress has nobody reading it
        raise
    except OSError as error:
        if error.errno in NO_SPACE:
            kept = f"{in_megabytes(errand.arrived())} are kept in {errand.part}"
            raise DataError(f"{errand.target}: no space left; {kept}, make room and run it again") from error
        raise DataError(f"{error.filename or errand.target}: {_reason(error)}") from error


def _check_existing(errand: _Errand) -> str:
    length = errand.target.stat().st_size
    if errand.size is not None and length != errand.size:
        raise DataError(
            f"{errand.target}: has {length:,} bytes, expected {errand.size:,}; delete it to download it again"
        )
    with open(errand.target, "rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    expected, origin = _expected(errand)
    if expected not in (None, actual):
        raise DataError(
            f"{errand.target}: SHA-256 is {actual}, expected {expected}{origin}; delete it to download it again"
        )
    if expected is None:
        _record(errand, actual)
    return actual


def _keep(errand: _Errand) -> str:
    """Give the file its name if it is the right one."""
    with open(errand.part, "r+b") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    expected, origin = _expected(errand)
    if expected not in (None, actual):
        errand.forget()
        raise DataError(
            f"{errand.name}: SHA-256 is {actual}, expected {expected}{origin}; what was downloaded has been deleted"
        )
    os.replace(errand.part, errand.target)
    note_of(errand.target).unlink(missing_ok=True)
    if expected is None:
        _record(errand, actual)
    return actual


def _expected(errand: _Errand) -> tuple[str | None, str]:
    """The hash that the file must have, and where that is known from, for messages."""
    record = record_of(errand.target)
    if errand.sha256 or not record.exists():
        return errand.sha256, ""
    recorded = record.read_text(encoding="ascii", errors="replace").split(maxsplit=1)
    if not recorded or not re.fullmatch(r"[0-9a-f]{64}", recorded[0]):
        raise DataError(f"{record}: holds no SHA-256; delete it to have it made anew")
    return recorded[0], f" as recorded in {record} (delete that too if the publisher has replaced the file)"


def _record(errand: _Errand, sha256: str) -> None:
    line = f"{sha256}  {errand.target.name}\n".encode("utf-8", "surrogateescape")
    with suppress(OSError):  # a cache that may only be read serves as well; where it was full, the next run records
        write_bytes(record_of(errand.target), line)


def _fetch(errand: _Errand, attempts: int) -> None:
    """Bring everything into the partial file, however often that takes."""
    failed, furthest, answered = 0, errand.arrived(), False
    while True:
        try:
            _receive(errand)
            return
        except _StartOverError:
            errand.forget()
        except _DroppedError as drop:
            answered = answered or not drop.unreachable
            if errand.arrived() >= furthest + AHEAD:
                failed, furthest = 0, errand.arrived()
            else:
                failed += 1
            if failed >= attempts or not answered:
                raise DataError(_given_up(errand, drop, failed if answered else 0)) from drop
            time.sleep(min(LONGEST_PAUSE, max(drop.pause, FIRST_PAUSE * 2 ** max(0, failed - 1))))


def _given_up(errand: _Errand, drop: _DroppedError, failed: int) -> str:
    if not failed:
        hint = "" if errand.url.startswith("file:") else f"; check the network and the proxy, or {BY_HAND}"
        return f"{errand.name}: cannot be reached ({drop}){hint}"
    arrived = errand.arrived()
    kept = f"{in_megabytes(arrived)} are kept, run it again to go on" if arrived else "try later"
    return f"{errand.name}: given up after {failed} attempts without progress ({drop}); {kept}, or {BY_HAND}"


def _receive(errand: _Errand) -> None:
    """One attempt to bring what is missing.

    Raises:
        _DroppedError, _StartOverError: Not all has arrived.
        DataError: What the server offers is not the file that is wanted, or does not fit on the disk.
    """
    note = _read_note(errand)
    offset = errand.arrived() if note else 0
    if offset and offset == note["size"] and errand.size in (None, offset):
        return  # the process ended between the last byte and the new name
    if errand.size is not None:
        require_space(errand.target.parent, errand.size - errand.arrived(), errand.name)
    wanted = {"Range": f"bytes={offset}-", "If-Range": note["validator"]} if offset else {}
    with _open(errand, wanted) as response:
        goes_on = _goes_on(response, offset, note)
        total = _total(response, offset if goes_on else 0)
        _refuse_something_else(errand, response.headers, total)
        if total is not None:
            require_space(errand.target.parent, total - errand.arrived(), errand.name)
        _store(errand, response, goes_on, total)


def _read_note(errand: _Errand) -> dict[str, Any]:
    """What the server said about the partial file; empty if that is not known, or was another address."""
    try:
        note = json.loads(note_of(errand.target).read_bytes())
        return note if note["source"] == _source(errand) and note["validator"] and "size" in note else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_note(errand: _Errand, headers: Mapping[str, str], total: int | None) -> None:
    if validator := _validator(headers):
        write_json(note_of(errand.target), {"source": _source(errand), "validator": validator, "size": total})
    else:
        note_of(errand.target).unlink(missing_ok=True)


def _source(errand: _Errand) -> str:
    """The address in a form that gives no key away that may be in it."""
    return hashlib.sha256(errand.url.encode("utf-8", "surrogatepass")).hexdigest()


def _validator(headers: Mapping[str, str]) -> str | None:
    """What names this very version of a file. A weak ETag does not: its bytes may differ."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


class _Redirections(HTTPRedirectHandler):
    """Follows to the same kind of address, or from plain to encrypted."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request for the new address."""
        schemes = req.type, urlsplit(newurl).scheme
        if schemes[0] != schemes[1] and schemes != ("http", "https"):
            fp.close()
            raise DataError(f"{req.host}: redirects from {schemes[0]} to {schemes[1] or 'nowhere'}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(errand: _Errand, wanted: Mapping[str, str]) -> Any:
    """The server's answer, if it is a file or the wanted rest of one."""
    try:
        request = Request(errand.url, headers={"User-Agent": f"clippy/{__version__}", **wanted})
        return build_opener(_Redirections).open(request, timeout=errand.timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and wanted:
            raise _StartOverError from error
        answer = f"the server answers {error.code} {_one_line(error.reason)}"
        if error.code >= 500 or error.code in TRY_AGAIN:
            seconds = error.headers.get("Retry-After", "") if error.headers else ""
            raise _DroppedError(answer, pause=float(seconds) if seconds.isdecimal() else 0.0) from error
        raise DataError(f"{errand.name}: {answer}; check the address, or {BY_HAND}") from error
    except URLError as error:
        unreachable = not isinstance(error.reason, ConnectionResetError | BrokenPipeError)
        raise _DroppedError(_reason(error.reason), unreachable=unreachable) from error
    except (InvalidURL, ValueError) as error:
        raise UsageError(f"address {errand.name!r} cannot be fetched ({_one_line(error)})") from error
    except (OSError, HTTPException) as error:
        raise _DroppedError(_reason(error)) from error


def _goes_on(response: Any, offset: int, note: Mapping[str, Any]) -> bool:
    """Whether the answer is the rest of the partial file; otherwise it is a whole one."""
    if response.status != 206:
        return False
    if not offset:
        raise _DroppedError("the server answers with a part that nobody asked for")
    span = re.match(r"bytes (\d+)-\d+/(\d+)?", response.headers.get("Content-Range", ""))
    version = response.headers.get("ETag" if note["validator"].startswith('"') else "Last-Modified")
    if not span or int(span[1]) != offset or version not in (None, note["validator"]):
        raise _StartOverError
    if None not in (span[2], note["size"]) and int(span[2]) != note["size"]:
        raise _StartOverError
    return True


def _total(response: Any, offset: int) -> int | None:
    """Length of the whole file in bytes, if the answer says it."""
    whole = re.search(r"/(\d+)$", response.headers.get("Content-Range", "")) if offset else None
    length = response.headers.get("Content-Length", "")
    if whole:
        return int(whole[1])
    return offset + int(length) if length.isdecimal() else None


def _refuse_something_else(errand: _Errand, headers: Any, total: int | None) -> None:
    if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        _refuse_page(errand)
    if headers.get("Content-Encoding", "identity") != "identity":
        raise DataError(f"{errand.name}: is sent packed as {headers['Content-Encoding']}, which was not asked for")
    if None not in (errand.size, total) and total != errand.size:
        raise DataError(f"{errand.name}: has {total:,} bytes, expected {errand.size:,}; the publisher has replaced it")


def _refuse_page(errand: _Errand) -> None:
    if errand.target.suffix.lower() not in (".html", ".htm", ".xhtml"):
        raise DataError(
            f"{errand.name}: the server sends a web page instead of the file (a login page?); "
            f"open it in a browser, or {BY_HAND}"
        )


def _store(errand: _Errand, response: Any, goes_on: bool, total: int | None) -> None:
    beginning = b"" if goes_on else _beginning(response)
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head)\b", beginning, re.IGNORECASE):
        _refuse_page(errand)
    expected = errand.size if total is None else total
    with open(errand.part, "ab" if goes_on else "wb") as file:
        if not goes_on:
            _write_note(errand, response.headers, expected)
        file.write(beginning)
        arrived = file.tell()
        errand.progress(arrived, expected)
        while total is None or arrived < total:
            piece = _piece(response)
            if not piece or (expected is not None and arrived > expected):
                break
            file.write(piece)
            arrived += len(piece)
            errand.progress(arrived, expected)
    if expected is not None and arrived > expected:
        errand.forget()
        raise DataError(f"{errand.name}: has more than the expected {expected:,} bytes")
    if expected is not None and arrived < expected:
        raise _DroppedError(f"the connection closed at {in_megabytes(arrived)} of {in_megabytes(expected)}")
    if not arrived and errand.size != 0:
        raise _DroppedError("the server sends an empty file")


def _beginning(response: Any) -> bytes:
    """The first bytes, enough to recognise a web page, before anything that is here is overwritten."""
    beginning = b""
    while len(beginning) < 512 and (piece := _piece(response)):
        beginning += piece
    return beginning


def _piece(response: Any) -> bytes:
    """What the connection has, at least one byte; nothing at its end."""
    try:
        return response.read1(PIECE)
    except (OSError, HTTPException, ValueError) as error:
        raise _DroppedError(_reason(error)) from error


def _reason(error: BaseException | str) -> str:
    if isinstance(error, TimeoutError):
        return "no byte arrived in time"
    return _one_line(getattr(error, "strerror", None) or error) or type(error).__name__


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]

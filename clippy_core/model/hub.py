"""The Hugging Face hub: its files, through its own cache. Imports no torch.

A repository is named ``hf:ORG/NAME``, or ``hf:ORG/NAME@REVISION`` for a branch, tag or commit. Where the hub cannot be
reached, what is in the cache (``HF_HOME``, ``HF_HUB_CACHE``) is used.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from clippy_core.errors import DataError, UsageError
from clippy_core.model.directory import CARD, CONFIG, MANIFEST, read_manifest

PREFIX = "hf:"
TIMEOUT = 10.0
"""Seconds after which a hub that does not answer counts as out of reach."""
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?(?:/[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?)?", re.ASCII)


class Repository:
    """A model repository on the hub, seen in one state: the first file that is found fixes the commit of all others.

    Args:
        address: ``ORG/NAME`` or ``ORG/NAME@REVISION``, with or without the prefix ``hf:``.

    Raises:
        UsageError: Something else.
    """

    def __init__(self, address: str) -> None:
        self.id, _, revision = address.removeprefix(PREFIX).partition("@")
        require_name(self.id)
        self.name = f"{PREFIX}{self.id}{f'@{revision}' if revision else ''}"
        self._revision: str | None = revision or None

    @cached_property
    def _listing(self) -> frozenset[str] | Exception:
        """The names of all files, or why the hub does not tell; asked once, and briefly."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            info = HfApi().model_info(self.id, revision=self._revision, timeout=TIMEOUT)
        except (HfHubHTTPError, OfflineModeIsEnabled, ValueError, _http_error()) as error:
            return error
        return frozenset(sibling.rfilename for sibling in info.siblings or ())

    @property
    def reachable(self) -> bool:
        """Whether the hub tells which files there are."""
        return not isinstance(self._listing, Exception)

    def file(self, name: str, *, certain: bool = True) -> Path | None:
        """A file of the repository on this machine, fetched if need be, or None if the repository does not have it.

        Args:
            name: Path within the repository, with ``/``.
            certain: Where the hub cannot be reached, tell a file that it does not have from one that is not cached;
                otherwise both are None.

        Raises:
            DataError: The repository or its revision does not exist or may not be read, or it cannot be reached and
                the file is not in the cache; one line that says what to do.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        if not isinstance(self._listing, Exception) and name not in self._listing:
            return None
        with explained(self.name):
            try:
                found = hf_hub_download(self.id, name, revision=self._revision, local_files_only=not self.reachable)
            except LocalEntryNotFoundError as error:
                if not self.reachable and (not certain or self._known_to_be_absent(name)):
                    return None
                raise self._not_here(name) from error
            except EntryNotFoundError:
                return None
        self._revision = Path(found).parents[name.count("/")].name
        return Path(found)

    def require(self, name: str) -> Path:
        """As :meth:`file`, for one that must be there."""
        found = self.file(name)
        if found is None:
            raise DataError(f"{self.name}: the repository has no {name}")
        return found

    def _known_to_be_absent(self, name: str) -> bool:
        from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

        return try_to_load_from_cache(self.id, name, revision=self._revision) is _CACHED_NO_EXIST

    def _not_here(self, name: str) -> DataError:
        from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        if isinstance(self._listing, RepositoryNotFoundError | RevisionNotFoundError):
            return _in_one_line(self.name, self._listing)
        why = "HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else "the Hugging Face hub cannot be reached"
        return DataError(
            f"{self.name}: {name} is not in the cache ({HF_HUB_CACHE}) and {why}; run `hf download {self.id}` where "
            "there is a network and copy the cache, or give a local directory instead"
        )


def require_name(name: str) -> None:
    """Make sure that ``name`` can be that of a repository; raises :class:`UsageError` otherwise."""
    if not NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git") or len(name) > 96:
        raise UsageError(f"{name!r} is not the name of a repository on the Hugging Face hub; accepted: ORG/NAME")


def fetch_directory(address: str) -> Path:
    """A model directory of ours that lies on the hub, in the hub's own cache; fetched if need be, not verified here.

    Raises:
        UsageError: Not the name of a repository.
        DataError: It cannot be had, or is no model directory of this package.
    """
    repository = Repository(address)
    manifest = repository.file(MANIFEST)
    if manifest is None:
        raise DataError(
            f"{repository.name}: no model directory of this package, it has no {MANIFEST}; towers of other models are "
            "what training starts from (--init-vision, --init-text)"
        )
    for name in {CONFIG, *read_manifest(manifest.parent)} - {CARD}:
        repository.require(name)
    return manifest.parent


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Errors of the hub as one line about ``what`` that says what to do.

    Raises:
        DataError: For whatever goes wrong with the hub in the block.
        UsageError: A name that cannot be that of a repository.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        with _bars_on_terminals_only():
            yield
    except HFValidationError as error:
        raise UsageError(f"{what}: {_first_line(error)}") from error
    except (HfHubHTTPError, OfflineModeIsEnabled, LocalTokenNotFoundError, _http_error()) as error:
        raise _in_one_line(what, error) from error


@contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    from huggingface_hub import utils

    if os.isatty(2) or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _in_one_line(what: str, error: Exception) -> DataError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return DataError(f"{what}: access has to be asked for on its page on the hub first; then {LOG_IN}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return DataError(f"{what}: no such repository on the hub, or a private one; if it is yours, {LOG_IN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(f"{what}: the repository has no such branch, tag or commit")
    if isinstance(error, errors.LocalTokenNotFoundError):
        return DataError(f"{what}: not logged in to the hub; {LOG_IN}")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        said = " ".join(str(error.server_message or error.response.reason_phrase).split())[:200]
        return DataError(f"{what}: the hub answers {status} {said}{f'; {LOG_IN}' if status in (401, 403) else ''}")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return DataError(f"{what}: {endpoint} cannot be reached ({_first_line(error)}); check the network and the proxy")


def _http_error() -> type[Exception]:
    """What the library that speaks HTTP for the hub's raises when there is no answer; which library, depends on it."""
    from huggingface_hub import errors

    return getattr(errors, "HTTPError", errors.HfHubHTTPError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

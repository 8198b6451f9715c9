"""Putting a model directory on the Hugging Face hub. Imports no torch."""

from pathlib import Path

from clippy_core.errors import CheckpointError, DataError
from clippy_core.files import to_json
from clippy_core.model.card import card_metadata
from clippy_core.model.directory import CARD, CONFIG, FORMAT, MANIFEST, TOKENIZER, WEIGHTS, read_manifest, verify
from clippy_core.model.hub import LOG_IN, PREFIX, explained, require_name

FILES = (CONFIG, WEIGHTS, TOKENIZER, CARD)


def push(
    directory: Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload a model directory in one commit, making the repository or the branch if need be.

    The directory is verified first. What a training checkpoint has beside the model stays here, and the manifest that
    goes up does not list it.

    Args:
        directory: The model directory.
        repository: ``ORG/NAME``, with or without the prefix ``hf:``.
        private: Make the repository private, if it has to be made.
        revision: Branch to push to; None for the main one.
        message: Message of the commit.

    Returns:
        The address of the repository or branch.

    Raises:
        UsageError: Not the name of a repository.
        CheckpointError: A damaged directory, or one whose card has no metadata that the hub could read.
        DataError: Nobody is logged in, the hub refuses, or it cannot be reached; one line that says what to do.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    name = repository.removeprefix(PREFIX)
    require_name(name)
    verify(directory)
    card = directory / CARD
    if not card.is_file():
        raise CheckpointError(f"{card}: missing; a model on the hub needs a card")
    card_metadata(card.read_text(encoding="utf-8", errors="replace"), str(card))
    manifest = {key: entry for key, entry in read_manifest(directory).items() if key in FILES}
    contents: dict[str, Path | bytes] = {key: directory / key for key in FILES}
    contents[MANIFEST] = to_json({"format": FORMAT, "files": manifest}, indent=2)
    what = f"{PREFIX}{name}"
    if get_token() is None:
        raise DataError(f"{what}: not logged in to the hub; {LOG_IN}")
    api = HfApi()
    try:
        with explained(what):
            repo_id = api.create_repo(name, private=private or None, exist_ok=True).repo_id
            if revision:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            api.create_commit(
                repo_id,
                [
                    CommitOperationAdd(key, str(data) if isinstance(data, Path) else data)
                    for key, data in contents.items()
                ],
                commit_message=message or f"Model {directory.name} of clippy",
                revision=revision,
            )
    except (ValueError, RuntimeError) as error:
        # What the hub's library makes of a card that the hub refuses, and of files that did not arrive.
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())[:300]
        raise DataError(f"{what}: {reason}") from error
    return f"{api.endpoint}/{repo_id}" + (f"/tree/{revision}" if revision else "")

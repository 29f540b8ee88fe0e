"""What a repository holds at a revision: its commit, and every file with its size and digest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx2  # the client that huggingface_hub speaks HTTP with: its errors come through
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._pagination import paginate

from maxbuild.errors import MaxbuildError
from maxbuild.hub.cached import list_cached
from maxbuild.hub.problems import EXPECTED, Wanted, explain, hub_address
from maxbuild.lock import LockedFile, LockedRepository, is_commit, lock_name

WAITS: Final = (1.0, 3.0)
"""Seconds before each further try, where trying again may help."""

_TRANSIENT = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
_TRANSIENT_STATUS = frozenset({408, 500, 502, 503, 504})
_NO_LISTING = (TypeError, KeyError, AttributeError)
"""What an answer that is no listing leads to."""


class RenamedRepositoryWarning(UserWarning):
    """A repository answers to a name that it no longer has."""


def list_repository(repo_id: str, revision: str) -> LockedRepository:
    """Return the repository as the hub lists it, or offline as the hub's cache on this host holds it.

    Warns with RenamedRepositoryWarning where it has another name now. Raises UsageError for a repository or a revision
    that is not there, MaxbuildError when the hub cannot be asked.
    """
    if constants.is_offline_mode():
        return list_cached(repo_id, revision)
    wanted = Wanted(repo_id, revision)
    try:
        info = _ask_patiently(repo_id, revision)
        commit = info.sha or ""
        entries = _tree(repo_id, commit) if is_commit(commit) else []
    except (*EXPECTED, *_NO_LISTING) as error:
        raise explain(error, wanted) from error
    try:
        files = tuple(file for entry in entries if (file := _file(entry)))
        listed = LockedRepository(repo_id, revision, commit, files)
    except (ValueError, *_NO_LISTING) as error:
        raise MaxbuildError(
            f"the hub lists `{repo_id}` at `{revision}` in a way that cannot be used",
            causes=[str(error) if isinstance(error, ValueError) else f"an entry of the list lacks {error}"],
            hint=f"see that HF_ENDPOINT names a hub: {hub_address()}",
        ) from error
    _tell_new_name(repo_id, info)
    return listed


def newest_commit(repo_id: str, revision: str) -> str:
    """Return the commit that `revision` means on the hub now, and ask for nothing else.

    Raises UsageError for a repository or a revision that is not there, MaxbuildError when the hub cannot be asked.
    """
    wanted = Wanted(repo_id, revision)
    try:
        commit = _ask_patiently(repo_id, revision).sha
    except (*EXPECTED, *_NO_LISTING) as error:
        raise explain(error, wanted) from error
    if commit is None or not is_commit(commit):
        raise MaxbuildError(
            f"the hub names no commit for `{lock_name(repo_id, revision)}`",
            hint=f"see that HF_ENDPOINT names a hub: {hub_address()}",
        )
    return commit


def _ask_patiently(repo_id: str, revision: str) -> ModelInfo:
    for wait in WAITS:
        try:
            return _ask(repo_id, revision)
        except _TRANSIENT:
            pass
        except HfHubHTTPError as error:
            if error.response.status_code not in _TRANSIENT_STATUS:
                raise
        time.sleep(wait)
    return _ask(repo_id, revision)


def _ask(repo_id: str, revision: str) -> ModelInfo:
    # Without a timeout of ours, huggingface_hub would wait for ever here.
    return HfApi().model_info(repo_id, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)


def _tree(repo_id: str, commit: str) -> list[Mapping[str, Any]]:
    """Return all entries of a commit, page by page.

    The list in the answer of `model_info` is cut for large repositories, and `HfApi.list_repo_tree` takes whatever is
    no file for a folder; so the entries are read as they come.
    """
    path = f"{constants.ENDPOINT}/api/models/{repo_id}/tree/{quote(commit, safe='')}"
    headers = build_hf_headers()
    return list(paginate(path, {"recursive": True}, headers, timeout=constants.HF_HUB_ETAG_TIMEOUT))


def _file(entry: Mapping[str, Any]) -> LockedFile | None:
    """Return a file of the listing, None for a folder; ValueError for what is neither.

    What git names a file in large file storage is the digest of its pointer.
    """
    kind, path = entry["type"], entry["path"]
    if kind == "directory":
        return None
    if kind != "file":
        raise ValueError(f"`{path}` is neither a file nor a folder: `{kind}`")
    if (large := entry.get("lfs")) is not None:
        return LockedFile(path, large["size"], large["oid"], None)
    return LockedFile(path, entry["size"], None, entry["oid"])


def _tell_new_name(repo_id: str, info: ModelInfo) -> None:
    if isinstance(info.id, str) and info.id != repo_id:
        warnings.warn(
            f"`{repo_id}` is called `{info.id}` now: write that in the manifest, before the old name means another",
            RenamedRepositoryWarning,
            stacklevel=3,
        )

"""The lock as a file beside its manifest: one text for one lock, written whole or not at all, believed whole or not."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from maxbuild.engine import disk
from maxbuild.errors import StoreError, UsageError
from maxbuild.lock.contents import Lock, LockedAddress, LockedFile, LockedRepository

SCHEMA: Final = "maxbuild.lock.v1"


def lock_path(manifest: Path) -> Path:
    """Return where the lock of the manifest file `manifest` lies: beside it, with the suffix `.lock`."""
    return manifest.with_suffix(".lock")


def read_lock(path: Path) -> Lock | None:
    """Return the lock in the file `path`, None where there is no such file.

    Raises UsageError for a file that is no lock, or a damaged one.
    """
    hint = "restore the file from version control, or delete it to pin every repository anew"
    try:
        return parse_lock(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read the lock `{path}`", causes=[error.strerror or str(error)]) from error
    except json.JSONDecodeError as error:
        cause = f"line {error.lineno}, column {error.colno} is no JSON: {error.msg}"
        raise UsageError(f"cannot use the lock `{path}`", causes=[cause], hint=hint) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot use the lock `{path}`", causes=["it is not UTF-8 text"], hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"cannot use the lock `{path}`", causes=[str(error)], hint=hint) from error


def write_lock(path: Path, lock: Lock) -> None:
    """Write `lock` to the file `path`, whole or not at all; a file that says the same already is left alone.

    Raises StoreError when the disk refuses.
    """
    content = lock_text(lock)
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        disk.write_file(scratch, content, disk.PUBLIC_FILE)
        disk.rename(scratch, path)
        disk.sync_directory(path.parent)
    except StoreError as error:
        with suppress(StoreError):
            disk.unlink(scratch)
        raise StoreError(
            f"could not write the lock `{path}`",
            causes=error.causes,
            hint="the lock lies beside its manifest: make that folder writable and see that the disk is not full",
        ) from error


def lock_text(lock: Lock) -> bytes:
    """Return the text of the lock file: JSON, members sorted, one value a line."""
    addresses = {url: {"size": file.size, "sha256": file.sha256} for url, file in lock.addresses.items()}
    document = {
        "schema": SCHEMA,
        "repositories": {name: _repository_to_json(value) for name, value in lock.repositories.items()},
        **({"addresses": addresses} if addresses else {}),
    }
    return (json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def parse_lock(content: bytes) -> Lock:
    """Return the lock that `content` describes; ValueError, with what is wrong, where it describes none."""
    match json.loads(content, object_pairs_hook=_members):
        case {"schema": str(schema)} if schema != SCHEMA:
            raise ValueError(f"its schema is `{schema}`, and `{SCHEMA}` is wanted")
        case {"schema": str(), "repositories": dict(repositories), **rest} if rest.keys() <= {"addresses"}:
            match rest.get("addresses", {}):
                case dict(addresses):
                    return Lock.of(
                        [_parse_repository(name, value) for name, value in repositories.items()],
                        [_parse_address(url, value) for url, value in addresses.items()],
                    )
    raise ValueError(f"it is no document of schema `{SCHEMA}`")


def _repository_to_json(repository: LockedRepository) -> dict[str, object]:
    partial = {"partial": True} if repository.partial else {}
    return {"commit": repository.commit, "files": {file.path: _to_json(file) for file in repository.files}, **partial}


def _to_json(file: LockedFile) -> dict[str, object]:
    digests = {"sha256": file.sha256, "git_oid": file.git_oid}
    return {"size": file.size, **{name: digest for name, digest in digests.items() if digest is not None}}


def _parse_repository(name: str, value: object) -> LockedRepository:
    repo_id, _, revision = name.partition("@")
    match value:
        case {"commit": str(commit), "files": dict(files), **rest} if rest in ({}, {"partial": True}):
            locked = tuple(_parse_file(path, file) for path, file in files.items())
            return LockedRepository(repo_id, revision, commit, locked, partial=bool(rest))
    raise ValueError(f"`{name}` needs a `commit` and `files`, and has something else")


def _parse_file(path: str, value: object) -> LockedFile:
    match value:
        case {"size": int(size), "sha256": str(sha256), "git_oid": str(git_oid), **rest} if not rest:
            return LockedFile(path, size, sha256, git_oid)
        case {"size": int(size), "sha256": str(sha256), **rest} if not rest:
            return LockedFile(path, size, sha256, None)
        case {"size": int(size), "git_oid": str(git_oid), **rest} if not rest:
            return LockedFile(path, size, None, git_oid)
    raise ValueError(f"`{path}` needs a `size`, and `sha256` or `git_oid` or both, and has something else")


def _parse_address(url: str, value: object) -> LockedAddress:
    match value:
        case {"size": int(size), "sha256": str(sha256), **rest} if not rest:
            return LockedAddress(url, size, sha256)
    raise ValueError(f"`{url}` needs a `size` and `sha256`, and has something else")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the members of an object; ValueError for one named twice, as a careless merge leaves it."""
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names `{next(name for name in names if names.count(name) > 1)}` twice")
    return members

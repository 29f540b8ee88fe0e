"""A hub of our own on this host: as much of the protocol as huggingface_hub speaks to list and to download models.

Two listeners, since a hub keeps large files at another origin, to which a token must not go.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf")


def sha256(content: bytes) -> str:
    """Return the digest that names a large file."""
    return hashlib.sha256(content).hexdigest()


def git_oid(content: bytes) -> str:
    """Return the digest that names a small file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Request:
    """One request that came in."""

    method: str
    path: str
    authorization: str | None
    range: str | None


@dataclass(frozen=True)
class Refusal:
    """What the hub says instead of an answer."""

    status: int
    code: str | None = None
    message: str | None = None


@dataclass
class Repository:
    """Files by commit, commits by branch."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        """Return the commit that `revision` means."""
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass
class Hub:
    """What the hub holds, how it misbehaves, and who asked for what."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    """By the beginning of a path: what is answered there."""
    wrong: dict[str, bytes] = field(default_factory=dict)
    """By the name of a file: the bytes that are sent in its place, headers unchanged but for their number."""
    wrong_times: int = 1 << 30
    """How often wrong bytes are sent before the right ones."""
    drop_after: int | None = None
    """After how many bytes the connection breaks, once."""
    address: str = ""
    large_address: str = ""

    def push(self, repo_id: str, files: Mapping[str, bytes] | Path, branch: str = "main") -> str:
        """Make a commit of `files`, or of the files in a folder, the head of `branch`, and return it."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes()
                for path in sorted(files.rglob("*"))
                if path.is_file()
            }
        named = {path: sha256(content) for path, content in files.items()}
        commit = hashlib.sha1(json.dumps(named, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
        repository = self.repositories.setdefault(repo_id, Repository())
        repository.commits[commit] = dict(files)
        repository.branches[branch] = commit
        return commit

    def asked(self) -> list[Request]:
        """Return the requests about repositories; the library asks about itself as well, once a day."""
        return [request for request in self.requests if not request.path.startswith("/api/agent-harnesses")]

    def refusal(self, path: str) -> Refusal | None:
        """Return what is answered at `path` instead of what is there."""
        return next((refusal for start, refusal in self.refusals.items() if path.startswith(start)), None)

    def sent(self, path: str, content: bytes) -> bytes:
        """Return what is sent in place of the file `path`."""
        if path in self.wrong and self.wrong_times > 0:
            self.wrong_times -= 1
            return self.wrong[path]
        return content

    def __enter__(self) -> Self:
        """Start both listeners."""
        self._servers = [_Server(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server in self._servers:
            server.hub = self
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.address, self.large_address = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening; the address then refuses connections."""
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    hub: Hub
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return cast("_Server", self.server).hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        self.hub.requests.append(Request(self.command, path, headers.get("Authorization"), headers.get("Range")))
        if refusal := self.hub.refusal(path):
            self._refuse(refusal)
        elif path.startswith("/api/models/"):
            # The revision comes quoted, so that a slash in it is no separator.
            raw = urlsplit(self.path).path.removeprefix("/api/models/")
            if "/tree/" in raw:
                repo_id, _, revision = raw.partition("/tree/")
                self._tree(unquote(repo_id), unquote(revision))
            else:
                repo_id, _, revision = raw.partition("/revision/")
                self._list(unquote(repo_id), unquote(revision) or "main")
        elif path.startswith("/large/"):
            self._send_large(*path.removeprefix("/large/").split("/", 1))
        elif "/resolve/" in path:
            repo_id, _, rest = urlsplit(self.path).path.lstrip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._resolve(unquote(repo_id), unquote(revision), unquote(name))
        else:
            self._refuse(Refusal(404))

    def _find(self, repo_id: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            self._refuse(Refusal(404, "RepoNotFound", "Repository not found"))
            return None
        commit = repository.commit(revision)
        if commit is None:
            self._refuse(Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}"))
            return None
        return commit, repository.commits[commit]

    def _list(self, repo_id: str, revision: str) -> None:
        if found := self._find(repo_id, revision):
            commit, files = found
            siblings = [_sibling(path, content) for path, content in files.items()]
            answer = {"id": repo_id, "modelId": repo_id, "sha": commit, "siblings": siblings}
            self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _tree(self, repo_id: str, revision: str) -> None:
        """List as `snapshot_download` wants it."""
        if found := self._find(repo_id, revision):
            entries = [_entry(path, content) for path, content in found[1].items()]
            self._send(json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        if not (found := self._find(repo_id, revision)):
            return
        commit, files = found
        if name not in files:
            self._refuse(Refusal(404, "EntryNotFound", "Entry not found"), {"X-Repo-Commit": commit})
            return
        content = files[name]
        if name.endswith(LARGE):
            address = f"{self.hub.large_address}/large/{sha256(content)}/{name}?Signature=secret"
            headers = {
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{sha256(content)}"',
                "Location": address,
            }
            self._send(b"", headers, HTTPStatus.FOUND)
        else:
            headers = {"X-Repo-Commit": commit, "ETag": f'"{git_oid(content)}"'}
            self._send_file(name, content, headers)

    def _send_large(self, digest: str, name: str) -> None:
        files = [
            content
            for repository in self.hub.repositories.values()
            for commit in repository.commits.values()
            for content in commit.values()
        ]
        content = next(content for content in files if sha256(content) == digest)
        self._send_file(name, content, {"ETag": f'"{digest}"'})

    def _send_file(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        if self.command == "HEAD":
            self._send(content, headers)
            return
        content = self.hub.sent(name, content)
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = {**headers, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(content[start:], headers, HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)

    def _refuse(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
        named = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
        said = {name: value for name, value in named.items() if value}
        self._send(b"", {**(headers or {}), **said}, HTTPStatus(refusal.status))

    def _send(self, content: bytes, headers: Mapping[str, str], status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        drop, self.hub.drop_after = (self.hub.drop_after, None) if content else (None, self.hub.drop_after)
        self.wfile.write(content[:drop])
        self.close_connection = self.close_connection or drop is not None


def _sibling(path: str, content: bytes) -> dict[str, object]:
    sibling: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": git_oid(_in_git(path, content))}
    if path.endswith(LARGE):
        length = len(_in_git(path, content))
        sibling["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": length}
    return sibling


def _entry(path: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(content)}
    entry["oid"] = git_oid(_in_git(path, content))
    if path.endswith(LARGE):
        length = len(_in_git(path, content))
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": length}
    return entry


def _in_git(path: str, content: bytes) -> bytes:
    """Return what git keeps: the content of a small file, a pointer to that of a large one."""
    if not path.endswith(LARGE):
        return content
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content)}\nsize {len(content)}\n"
    return pointer.encode()

"""A hub of our own on this host: as much of the protocol as huggingface_hub speaks to list and to download models.

Two listeners, since a hub keeps large files at another origin, to which a token must not go.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, Self, cast
from urllib.parse import parse_qsl, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf")


def sha256(content: bytes) -> str:
    """Return the digest that names a large file."""
    return hashlib.sha256(content).hexdigest()


def content_sha256(content: bytes | Listed) -> str:
    """Return the digest of a file, whether its bytes are here or not."""
    return content.sha256 if isinstance(content, Listed) else sha256(content)


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


Fault = Callable[[BaseHTTPRequestHandler], None]
"""Answers a request in a way of its own."""


@dataclass(frozen=True)
class Refusal:
    """What the hub says instead of an answer."""

    status: int
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Listed:
    """A large file that is listed and never sent: its size and its digest."""

    size: int
    sha256: str


@dataclass
class Repository:
    """Files by commit, commits by branch or tag."""

    commits: dict[str, dict[str, bytes | Listed]] = field(default_factory=dict)
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
    renamed: dict[str, str] = field(default_factory=dict)
    """By the old name of a repository: its new one, to which the hub redirects."""
    gated: dict[str, str] = field(default_factory=dict)
    """By the name of a repository: the token without which its files are not given."""
    types: dict[str, str] = field(default_factory=dict)
    """By the name of a file: what the tree lists it as, if not as a file."""
    page: int = 1000
    """How many entries of a tree are on one page."""
    plain: dict[str, bytes] = field(default_factory=dict)
    """By path: files that any web server would give, outside of the protocol."""
    redirects: dict[str, str] = field(default_factory=dict)
    """By path: an address to go on to."""
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    """By the beginning of a path, in order: what the next requests there get in place of an answer, each once."""
    address: str = ""
    large_address: str = ""

    def push(self, repo_id: str, files: Mapping[str, bytes | Listed] | Path, branch: str = "main") -> str:
        """Make a commit of `files`, or of the files in a folder, the head of `branch`, and return it."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes()
                for path in sorted(files.rglob("*"))
                if path.is_file()
            }
        named = {path: content_sha256(content) for path, content in files.items()}
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

    def take_fault(self, path: str) -> Fault | None:
        """Return what goes wrong at `path` now, which then goes wrong no more."""
        for index, (start, fault) in enumerate(self.faults):
            if path.startswith(start):
                del self.faults[index]
                return fault
        return None

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
        if fault := self.hub.take_fault(path):
            fault(self)
        elif refusal := self.hub.refusal(path):
            self._refuse(refusal)
        elif path in self.hub.redirects:
            self._send(b"", {"Location": self.hub.redirects[path]}, HTTPStatus.FOUND)
        elif path in self.hub.plain:
            content = self.hub.plain[path]
            self._send_file(path, content, {"ETag": f'"{sha256(content)}"'})
        elif moved := self._moved():
            self._send(b"", {"Location": moved}, HTTPStatus.TEMPORARY_REDIRECT)
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

    def _moved(self) -> str | None:
        """Return where a renamed repository is, relative to this host as the hub has it."""
        for old, new in self.hub.renamed.items():
            for before in ("/api/models/", "/"):
                rest = self.path.removeprefix(f"{before}{old}")
                if rest != self.path and rest[:1] in {"", "/", "?"}:
                    return f"{before}{new}{rest}"
        return None

    def _find(self, repo_id: str, revision: str) -> tuple[str, dict[str, bytes | Listed]] | None:
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
            siblings = [{"rfilename": path} for path in files]
            answer = {"id": repo_id, "modelId": repo_id, "sha": commit, "siblings": siblings}
            self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _tree(self, repo_id: str, revision: str) -> None:
        """List files and folders, a page at a time: the next one is named in a header."""
        if found := self._find(repo_id, revision):
            folders = {str(parent) for path in found[1] for parent in PurePosixPath(path).parents} - {".", "/"}
            entries: list[dict[str, object]] = [
                {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in sorted(folders)
            ]
            entries += [_entry(path, content) for path, content in found[1].items()]
            for entry in entries:
                entry["type"] = self.hub.types.get(str(entry["path"]), entry["type"])
            parts = urlsplit(self.path)
            start = int(dict(parse_qsl(parts.query)).get("cursor", 0))
            headers = {"Content-Type": "application/json"}
            if start + self.hub.page < len(entries):
                following = f"{self.hub.address}{parts.path}?recursive=true&cursor={start + self.hub.page}"
                headers["Link"] = f'<{following}>; rel="next"'
            self._send(json.dumps(entries[start : start + self.hub.page]).encode(), headers)

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        if not (found := self._find(repo_id, revision)):
            return
        commit, files = found
        if name not in files:
            self._refuse(Refusal(404, "EntryNotFound", "Entry not found"), {"X-Repo-Commit": commit})
            return
        if (token := self.hub.gated.get(repo_id)) and self.headers.get("Authorization") != f"Bearer {token}":
            self._refuse(Refusal(401, "GatedRepo", f"Access to model {repo_id} is restricted."))
            return
        content = files[name]
        if isinstance(content, Listed) or name.endswith(LARGE):
            digest = content_sha256(content)
            address = f"{self.hub.large_address}/large/{digest}/{name}?Signature=secret"
            headers = {
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(_size(content)),
                "X-Linked-ETag": f'"{digest}"',
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
        sent = next(content for content in files if not isinstance(content, Listed) and sha256(content) == digest)
        self._send_file(name, sent, {"ETag": f'"{digest}"'})

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


def _entry(path: str, content: bytes | Listed) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": _size(content)}
    in_git = _in_git(path, content)
    entry["oid"] = git_oid(in_git)
    if isinstance(content, Listed) or path.endswith(LARGE):
        entry["lfs"] = {"oid": content_sha256(content), "size": _size(content), "pointerSize": len(in_git)}
    return entry


def _size(content: bytes | Listed) -> int:
    return content.size if isinstance(content, Listed) else len(content)


def _in_git(path: str, content: bytes | Listed) -> bytes:
    """Return what git keeps: the content of a small file, a pointer to that of a large one."""
    if not isinstance(content, Listed) and not path.endswith(LARGE):
        return content
    digest = content_sha256(content)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {_size(content)}\n"
    return pointer.encode()

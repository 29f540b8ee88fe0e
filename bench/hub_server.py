"""A hub for measuring: the files of a folder as one repository at one commit, sent from the page cache by `sendfile`.

As a process of its own, so that it takes nothing from those who are measured but the processor:
`python -m bench.hub_server FOLDER` prints its address. Files are named by their digests, as a hub names large ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

REPOSITORY = "bench/weights"
COMMIT = "b" * 40
_API = f"/api/models/{REPOSITORY}"
_RESOLVE = f"/{REPOSITORY}/resolve/{COMMIT}/"


class Server(ThreadingHTTPServer):
    """The files by name, each with its digest."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        """Hash the files of `folder`, and listen."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {path.name: (path, _digest(path)) for path in sorted(folder.iterdir())}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # status and headers in one packet
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        files = cast("Server", self.server).files
        if path.startswith(_RESOLVE):
            self._send_file(*files[path.removeprefix(_RESOLVE)])
        elif path.startswith(f"{_API}/tree/"):
            self._send_json([_entry(*file) for file in files.values()])
        elif path.startswith(_API):
            siblings = [{"rfilename": name} for name in files]
            self._send_json({"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings})
        else:
            self._answer(404, {"Content-Length": "0"})

    def _send_file(self, path: Path, digest: str) -> None:
        size = path.stat().st_size
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"', "Content-Length": str(size - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._answer(206 if start else 200, headers)
        if self.command == "GET":
            with path.open("rb") as file:
                while start < size:
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, size - start)

    def _send_json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self._answer(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        self.wfile.write(content)
        self.wfile.flush()

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()


def _entry(path: Path, digest: str) -> dict[str, object]:
    size = path.stat().st_size
    lfs = {"oid": digest, "size": size, "pointerSize": 134}
    return {"type": "file", "path": path.name, "size": size, "oid": digest[:40], "lfs": lfs}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Serve until stdin ends."""
    server = Server(Path(sys.argv[1]))
    import threading  # noqa: PLC0415

    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Addresses, instances and credentials: what is refused, in which words, and where credentials go."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from remote.samples import CONTENT, DIGEST, KEY, RESULT, Opener, files_of, hearing
from remote.servers import Server

from maxbuild.engine import TaskKey
from maxbuild.engine.remote import open_remote
from maxbuild.errors import UsageError, render

URL = "https://cache.example.com/maxbuild"
HINT = "hint: give an address such as https://cache.example.com/maxbuild or s3://bucket/maxbuild"
INSTANCE_HINT = "hint: use letters, digits, `.`, `_` and `-`, such as `main` or `pr-1234`; not `ac` or `cas`"

REFUSED: dict[str, str] = {
    "https://me:secret@cache.example.com": (
        "error: the address of the remote cache holds a name or a password\n\n"
        "hint: leave it out, and set MAXBUILD_REMOTE_USER and MAXBUILD_REMOTE_PASSWORD (or MAXBUILD_REMOTE_TOKEN)"
        " instead"
    ),
    "https://cache.example.com/?token=secret": (
        f"error: the address of the remote cache has a `?` or a `#`, and nothing can follow it\n\n{HINT}"
    ),
    "cache.example.com": (
        "error: not an address of a remote cache: `cache.example.com`\n"
        f"  Caused by: it begins with none of abfs://, file://, gs://, http://, https://, s3://\n\n{HINT}"
    ),
    "simplecache::s3://bucket": (
        "error: not an address of a remote cache: `simplecache::s3://bucket`\n"
        f"  Caused by: it begins with none of abfs://, file://, gs://, http://, https://, s3://\n\n{HINT}"
    ),
    "file:///srv/zip::s3://bucket": f"error: not an address of a remote cache: 'file:///srv/zip::s3://bucket'\n\n{HINT}",
    "https://": f"error: the address of the remote cache names no host: `https://`\n\n{HINT}",
    "s3:bucket": f"error: the address of the remote cache names no host: `s3:bucket`\n\n{HINT}",
    "https://[::1": f"error: not an address of a remote cache\n  Caused by: Invalid IPv6 URL\n\n{HINT}",
    "https://cache:port/": (
        "error: not an address of a remote cache\n"
        f"  Caused by: Port could not be cast to integer value as 'port'\n\n{HINT}"
    ),
    "https://cache.example.com/a\nb": (
        f"error: not an address of a remote cache: 'https://cache.example.com/a\\nb'\n\n{HINT}"
    ),
    "file://srv/cache": (
        "error: not the address of a folder: `file://srv/cache`\n\nhint: write three slashes: file:///srv/maxbuild"
    ),
}


@pytest.mark.parametrize("url", REFUSED)
def test_addresses_that_make_no_sense(url: str) -> None:
    """What is no address is refused before anything is opened, and no secret is repeated."""
    with pytest.raises(UsageError) as refusal:
        open_remote(url, instance="main", write=False, environ={})
    assert render(refusal.value) == REFUSED[url]
    assert "secret" not in render(refusal.value)


@pytest.mark.parametrize("instance", ["", "ac", "cas", ".", "..", "a/b", "a b", "-a", "ü", "a" * 101, "a\n"])
def test_instances_that_make_no_sense(instance: str) -> None:
    """A name that would lead elsewhere, or be taken for a part of the layout, is refused."""
    with pytest.raises(UsageError) as refusal:
        open_remote(URL, instance=instance, write=False, environ={})
    assert render(refusal.value).endswith(INSTANCE_HINT)


CREDENTIALS: list[tuple[dict[str, str], str]] = [
    (
        {},
        "error: writing to a remote cache needs a credential\n\nhint: set MAXBUILD_REMOTE_TOKEN, or"
        " MAXBUILD_REMOTE_USER and MAXBUILD_REMOTE_PASSWORD, or leave out --remote-write",
    ),
    (
        {"MAXBUILD_REMOTE_USER": "secret"},
        "error: MAXBUILD_REMOTE_USER is set, and MAXBUILD_REMOTE_PASSWORD is not\n\nhint: set both, or neither",
    ),
    (
        {"MAXBUILD_REMOTE_PASSWORD": "secret", "MAXBUILD_REMOTE_USER": ""},
        "error: MAXBUILD_REMOTE_PASSWORD is set, and MAXBUILD_REMOTE_USER is not\n\nhint: set both, or neither",
    ),
    (
        {"MAXBUILD_REMOTE_TOKEN": "secret", "MAXBUILD_REMOTE_USER": "secret", "MAXBUILD_REMOTE_PASSWORD": "secret"},
        "error: MAXBUILD_REMOTE_TOKEN is set, and MAXBUILD_REMOTE_USER or MAXBUILD_REMOTE_PASSWORD too\n\n"
        "hint: set the token, or the other two",
    ),
    (
        {"MAXBUILD_REMOTE_TOKEN": "secret\n"},
        "error: MAXBUILD_REMOTE_TOKEN is no token\n\nhint: it is one word of ASCII; look for a line break at its end",
    ),
    (
        {"MAXBUILD_REMOTE_USER": "a:b", "MAXBUILD_REMOTE_PASSWORD": "secret"},
        "error: MAXBUILD_REMOTE_USER and MAXBUILD_REMOTE_PASSWORD cannot be sent\n\n"
        "hint: no `:` in the name, no line break in either",
    ),
]


@pytest.mark.parametrize(("environ", "words"), CREDENTIALS)
def test_credentials_that_make_no_sense(environ: dict[str, str], words: str) -> None:
    """Writing needs a credential, and half a credential, or two, are refused without repeating any."""
    with pytest.raises(UsageError) as refusal:
        open_remote(URL, instance="main", write=True, environ=environ)
    assert render(refusal.value) == words
    assert "secret" not in render(refusal.value)


@pytest.mark.parametrize(
    ("environ", "header"),
    [
        ({}, None),
        ({"MAXBUILD_REMOTE_TOKEN": "t0ken"}, "Bearer t0ken"),
        (
            {"MAXBUILD_REMOTE_USER": "builder", "MAXBUILD_REMOTE_PASSWORD": "gehäim:1"},
            "Basic " + base64.b64encode("builder:gehäim:1".encode()).decode(),
        ),
    ],
)
def test_what_a_request_says(
    environ: dict[str, str], header: str | None, server: Server, tmp_path: Path, opened: Opener
) -> None:
    """The credential goes with every request, reading too; JSON and plain bytes are asked for, never an encoding."""
    remote = opened(f"{server.url}/", environ=environ, write=header is not None)
    remote.find(KEY)
    remote.has(DIGEST)
    remote.fetch(DIGEST, len(CONTENT), tmp_path / "fetched")
    remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    expected = [("GET", "ac", KEY), ("HEAD", "cas", DIGEST), ("GET", "cas", DIGEST)]
    if header is not None:
        expected += [("HEAD", "cas", DIGEST), ("PUT", "cas", DIGEST), ("PUT", "ac", KEY)]
    assert server.requests == [f"{method} /main/{holder}/{name}" for method, holder, name in expected]
    for asked, (method, holder, _) in zip(server.asked, expected, strict=True):
        media_type = "application/json" if holder == "ac" else "application/octet-stream"
        assert asked.headers.get("authorization") == header
        assert asked.headers["accept-encoding"] == "identity"
        assert asked.headers["content-type" if method == "PUT" else "accept"] == media_type
        assert "transfer-encoding" not in asked.headers


def test_a_connection_serves_many_requests(server: Server, opened: Opener) -> None:
    """Questions one after another use one connection, those that find nothing too."""
    ports: set[int] = set()
    server.lie = lambda handler, _: (ports.add(handler.client_address[1]), handler.reply(404, b"none\n"))[1]
    remote = opened(server.url)
    for digit in "0123456789":
        remote.find(TaskKey(digit * 64))
    assert len(ports) == 1


def test_no_secret_is_in_the_words_about_a_remote(server: Server, opened: Opener) -> None:
    """Neither the representation of a remote nor of its address shows a credential."""
    from maxbuild.engine.remote.address import Address

    assert "t0ken" not in repr(Address("http", server.url, "Bearer t0ken"))
    assert "t0ken" not in repr(vars(opened(server.url)))


def test_a_closed_remote_is_silent(server: Server, opened: Opener) -> None:
    """After `close` nothing is asked, and nothing raises."""
    remote = opened(server.url, write=True)
    remote.close()
    remote.close()
    assert remote.find(KEY) is None
    assert not remote.writable
    assert server.asked == []


def test_opening_a_remote_imports_no_network_library(server: Server) -> None:
    """A build that asks nothing does not pay for the libraries that would ask."""
    code = (
        "import sys; from maxbuild.engine.remote import open_remote\n"
        f"for url in ({server.url!r}, 'file:///srv/cache'):\n"
        "    open_remote(url, instance='main', write=False, environ={}).close()\n"
        "print([name for name in ('httpx2', 'httpcore2', 'fsspec', 's3fs', 'ssl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert server.asked == []


@pytest.mark.parametrize(
    ("url", "missing", "words"),
    [
        (
            "s3://bucket",
            "s3fs",
            "error: a remote cache at s3:// needs `s3fs`, which is not installed\n\nhint: pip install 'maxbuild[s3]'",
        ),
        (
            "gs://bucket",
            "gcsfs",
            "error: a remote cache at gs:// needs `gcsfs`, which is not installed\n\nhint: pip install fsspec gcsfs",
        ),
        (
            "file:///srv/cache",
            "fsspec",
            "error: a remote cache at file:// needs `fsspec`, which is not installed\n\nhint: pip install fsspec",
        ),
    ],
)
def test_a_library_that_is_missing(url: str, missing: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address whose library is not installed says what to install."""
    from importlib.util import find_spec

    def find(name: str) -> object:
        return None if name == missing else find_spec("json" if name == "s3fs" else name)

    monkeypatch.setattr("maxbuild.engine.remote.address.find_spec", find)
    with pytest.raises(UsageError) as refusal:
        open_remote(url, instance="main", write=False, environ={})
    assert render(refusal.value) == words


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTP_PROXY", "gopher://somewhere", "the environment names a proxy that is none"),
        ("HTTP_PROXY", "http://[::1", "the environment names a proxy that is none"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem", "SSL_CERT_FILE or SSL_CERT_DIR names no certificates"),
    ],
)
def test_an_environment_that_makes_no_sense_ends_no_build(
    name: str, value: str, words: str, server: Server, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy or certificates that cannot be used are one warning, like a remote that is out of reach."""
    monkeypatch.setenv(name, value)
    with hearing() as heard:
        assert opened(server.url).find(KEY) is None
    assert heard.texts == [
        f"the remote cache at {server.url}/main could not be reached: {words} (asked for ac/{KEY});"
        " the build goes on without it"
    ]


def test_a_blob_is_asked_for_once(server: Server, tmp_path: Path, opened: Opener) -> None:
    """A blob that several results share is asked about and sent with the first."""
    blobs = files_of(tmp_path, {"region.pt2": CONTENT})
    remote = opened(server.url, write=True)
    for digit in "ab":
        assert remote.publish(TaskKey(digit * 64), RESULT, blobs)
    assert [request[: len("HEAD /main/cas")] for request in server.requests] == [
        "HEAD /main/cas",
        "PUT /main/cas/",
        "PUT /main/ac/a",
        "PUT /main/ac/b",
    ]

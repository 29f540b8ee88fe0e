"""Action results: the one spelling we write, and how strictly any other is read."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from remote.samples import DIGEST, RESULT

from maxbuild.engine import Digest
from maxbuild.engine.remote import RemoteOutput, RemoteResult
from maxbuild.engine.remote.action import NotAResult, decode, encode
from maxbuild.engine.remote.transfer import EMPTY

OTHER = Digest("b" * 64)
BYTES = (
    b'{"executionMetadata":{"executionCompletedTimestamp":"1970-01-01T00:00:12.500000Z",'
    b'"executionStartTimestamp":"1970-01-01T00:00:00.000000Z","worker":"maxbuild"},"exitCode":0,'
    b'"outputFiles":[{"digest":{"hash":"' + DIGEST.encode() + b'","sizeBytes":"1600"},"path":"region.pt2"}]}'
)


def described(**changes: Any) -> dict[str, Any]:
    """Return the document of the sample, with members replaced; None leaves one out."""
    document = {**json.loads(BYTES), **changes}
    return {name: value for name, value in document.items() if value is not None}


def file(path: Any = "region.pt2", digest: Any = DIGEST, size: Any = "1600") -> dict[str, Any]:
    """Return the description of an output."""
    return {"path": path, "digest": {"hash": digest, "sizeBytes": size}}


def spanning(start: Any, completed: Any) -> dict[str, Any]:
    """Return the metadata of an execution with these ends."""
    return {"executionStartTimestamp": start, "executionCompletedTimestamp": completed}


def test_a_result_has_one_spelling() -> None:
    """Equal results are equal bytes, whatever the order of their outputs; no clock and no host is in them."""
    assert encode(RESULT) == BYTES
    outputs = {"b": RemoteOutput(OTHER, 1), "a": RemoteOutput(DIGEST, 2)}
    assert encode(RemoteResult(outputs, 0.0)) == encode(RemoteResult(dict(sorted(outputs.items())), 0.0))


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
OUTPUTS = st.dictionaries(
    NAMES, st.sampled_from([RemoteOutput(DIGEST, 1 << 40), RemoteOutput(OTHER, 1), RemoteOutput(EMPTY, 0)])
)


@settings(deadline=None)
@given(OUTPUTS, st.integers(0, 366 * 86_400 * 1_000_000))
def test_what_is_written_is_read(outputs: dict[str, RemoteOutput], microseconds: int) -> None:
    """A result is refused when it is written, or reads as it was, to the microsecond."""
    result = RemoteResult(outputs, microseconds / 1_000_000)
    try:
        content = encode(result)
    except NotAResult:
        return
    read = decode(content)
    assert read.outputs == outputs
    assert abs(read.seconds - result.seconds) < 2e-6


def test_what_bazel_remote_makes_of_it_reads_the_same() -> None:
    """bazel-remote keeps results as protobuf and spells them anew: no zeros, other blanks, shorter times."""
    document = described(
        exitCode=None,
        outputFiles=[file(), {"path": "empty", "digest": {"hash": EMPTY}}],
        executionMetadata={**spanning("1970-01-01T00:00:00Z", "1970-01-01T00:00:12.500Z"), "worker": "maxbuild"},
    )
    assert decode(json.dumps(document, indent=1).encode()) == RemoteResult(
        {**RESULT.outputs, "empty": RemoteOutput(EMPTY, 0)}, 12.5
    )


def test_fields_that_are_not_ours_are_passed_over() -> None:
    """Other members, known to the Remote Execution API or not, change nothing."""
    document = described(stdoutRaw="aGk=", outputDirectories=[], future={"a": [1.5]})
    document["outputFiles"][0] |= {"isExecutable": True}
    document["executionMetadata"] |= {"queuedTimestamp": 7}
    assert decode(json.dumps(document).encode()) == RESULT


def test_a_size_may_be_a_number_and_times_may_be_missing() -> None:
    """Numbers for 64-bit fields are read as proto3's JSON demands; without times an execution took none."""
    document = described(outputFiles=[file(size=1600)], executionMetadata=None)
    assert decode(json.dumps(document).encode()) == RemoteResult(RESULT.outputs, 0.0)


REFUSED: list[tuple[Any, str]] = [
    ([], "the document is no object"),
    ("text", "the document is no object"),
    (None, "the document is no object"),
    ({}, "no outputs"),
    ({"error": "not found"}, "no outputs"),
    (described(outputFiles=None), "no outputs"),
    (described(outputFiles={}), "outputFiles is no list"),
    (described(outputFiles=["region.pt2"]), "an output file is no object"),
    (described(outputFiles=[{"path": "region.pt2"}]), "a digest is no object"),
    (described(exitCode=1), "of an action that failed"),
    (described(exitCode="0"), "of an action that failed"),
    (described(outputFiles=[file(path=7)]), "a path is no text"),
    (described(outputFiles=[file(), file()]), "two outputs of one name"),
    *[
        (described(outputFiles=[file(path=path)]), "a path that leads elsewhere")
        for path in ("", "/etc/passwd", "..", "../up", "a/../b", "./a", "a//b", "a/", "*", "weights/*")
    ],
    *[
        (described(outputFiles=[file(path=path)]), "a path that cannot be printed")
        for path in ("a\0b", "a\nb", "\x1b[31m", "\ud800", "a\u202eb")
    ],
    (described(outputFiles=[file(digest=7)]), "a hash is no text"),
    *[
        (described(outputFiles=[file(digest=text)]), "a hash that is no sha256")
        for text in ("", DIGEST.upper(), DIGEST[:-1], DIGEST + "\n", "g" * 64)
    ],
    *[
        (described(outputFiles=[file(size=size)]), "a size that is no number")
        for size in ("", "-1", "1.0", "٣", "1" * 20, " 1", 1.5, True, [], {})
    ],
    *[
        (described(outputFiles=[file(size=size)]), "a size that cannot be")
        for size in ("0", -1, str((1 << 42) + 1), 1 << 62)
    ],
    (described(outputFiles=[file(digest=EMPTY)]), "a size that cannot be"),
    (described(outputFiles=[file(), file(path="b", size="7")]), "a size that cannot be"),
    (described(executionMetadata=[]), "executionMetadata is no object"),
    *[
        (described(executionMetadata=spanning("1970-01-01T00:00:00Z", text)), "a timestamp that is none")
        for text in ("", "1970-01-01", "1970-13-01T00:00:00Z", "1970-01-01T00:00:00", "19700101T000000Z", "now")
    ],
    (described(executionMetadata=spanning(0, 1)), "a timestamp is no text"),
    *[
        (described(executionMetadata=spanning("1970-01-02T00:00:00Z", text)), "a span of time that cannot be")
        for text in ("1970-01-01T00:00:00Z", "1999-01-01T00:00:00Z")
    ],
]


@pytest.mark.parametrize(("document", "why"), REFUSED)
def test_what_is_no_result_is_refused(document: Any, why: str) -> None:
    """Each way in which a document is no result of ours is told in a few words, which quote nothing of it."""
    with pytest.raises(NotAResult) as refusal:
        decode(json.dumps(document).encode())
    assert str(refusal.value) == why


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        BYTES[:-1],
        BYTES + b"}",
        BYTES.decode().encode("utf-16"),
        b"\xff" + BYTES,
        b"[" * 100_000,
        b"9" * 10_000,
        BYTES.replace(b'"exitCode":0', b'"outputFiles":[]'),
    ],
)
def test_what_is_no_json_is_refused(content: bytes) -> None:
    """Other encodings, deep nesting, numbers too long and members named twice are no JSON of ours."""
    with pytest.raises(NotAResult) as refusal:
        decode(content)
    assert str(refusal.value) == "not JSON"


MEMBERS = ("outputFiles", "path", "digest", "hash", "sizeBytes", "exitCode", "executionMetadata")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(MEMBERS), inner), max_leaves=20
)


@settings(deadline=None)
@given(DOCUMENTS | st.binary())
def test_any_bytes_are_a_result_or_refused(value: Any) -> None:
    """Nothing that a server could send raises anything but NotAResult."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    with suppress(NotAResult):
        decode(content)


def test_a_result_too_large_to_read_is_not_written() -> None:
    """What readers would cut off is refused before it is sent."""
    outputs = {f"{number:>0250}": RemoteOutput(DIGEST, 1) for number in range(20_000)}
    with pytest.raises(NotAResult, match="too many outputs"):
        encode(RemoteResult(outputs, 0.0))

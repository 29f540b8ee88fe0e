"""Action results: what a task left, in the JSON form of the Remote Execution API's `ActionResult`.

https://github.com/bazelbuild/remote-apis/blob/main/build/bazel/remote/execution/v2/remote_execution.proto, spelled as
https://protobuf.dev/programming-guides/json/ has it: lowerCamelCase names, 64-bit numbers as text, zeros left out.
Equal results have equal bytes. What comes from outside is read strictly, but for fields that are not ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from maxbuild.engine.canonical import JSON, canonical_json
from maxbuild.engine.digest import Digest
from maxbuild.engine.remote.transfer import EMPTY
from maxbuild.engine.task import check_output_name

LARGEST_DOCUMENT = 4 * 1024 * 1024
_LARGEST_BLOB = 1 << 42
_LONGEST = timedelta(days=366)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RemoteOutput:
    """The content of one output, and its size in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """What a task left, by the names of its outputs, and the seconds that took."""

    outputs: Mapping[str, RemoteOutput]
    seconds: float


class NotAResult(ValueError):
    """A document that is no action result this program could use; says in a few words why."""


def encode(result: RemoteResult) -> bytes:
    """Return `result` as JSON. Its seconds are kept to the microsecond, as a span that begins at the epoch.

    Raises NotAResult for one that `decode` would refuse.
    """
    _check(result)
    document: JSON = {
        "outputFiles": [
            {"path": name, "digest": {"hash": output.digest, "sizeBytes": str(output.size)}}
            for name, output in sorted(result.outputs.items())
        ],
        "exitCode": 0,
        # bazel-remote puts the uploader's network address where no worker is named.
        "executionMetadata": {
            "worker": "maxbuild",
            "executionStartTimestamp": _timestamp(timedelta()),
            "executionCompletedTimestamp": _timestamp(timedelta(seconds=result.seconds)),
        },
    }
    content = canonical_json(document)
    if len(content) > LARGEST_DOCUMENT:
        raise NotAResult("too many outputs")
    return content


def decode(content: bytes) -> RemoteResult:
    """Return the result that `content` describes; NotAResult when it describes none."""
    try:
        document = json.loads(content.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise NotAResult("not JSON") from error
    document = _mapping(document, "the document")
    if document.get("exitCode", 0) != 0:
        raise NotAResult("of an action that failed")
    outputs: dict[str, RemoteOutput] = {}
    for item in _list(document.get("outputFiles", []), "outputFiles"):
        file = _mapping(item, "an output file")
        name = _text(file.get("path"), "a path")
        if name in outputs:
            raise NotAResult("two outputs of one name")
        outputs[name] = _output(_mapping(file.get("digest"), "a digest"))
    result = RemoteResult(outputs, _seconds(_mapping(document.get("executionMetadata", {}), "executionMetadata")))
    _check(result)
    return result


def _check(result: RemoteResult) -> None:
    """Raise NotAResult for names that could not be files, sizes that cannot be, and a result of nothing.

    An empty result is refused since any JSON object without our fields would read as one.
    """
    if not result.outputs:
        raise NotAResult("no outputs")
    if not 0 <= result.seconds <= _LONGEST.total_seconds():
        raise NotAResult("a span of time that cannot be")
    sizes: dict[Digest, int] = {}
    for name, output in result.outputs.items():
        if not name.isprintable():  # also what UTF-8 cannot spell
            raise NotAResult("a path that cannot be printed")
        try:
            check_output_name(name)
        except ValueError as error:
            raise NotAResult("a path that leads elsewhere") from error
        sound = 0 <= output.size <= _LARGEST_BLOB and (output.size == 0) == (output.digest == EMPTY)
        if not sound or sizes.setdefault(output.digest, output.size) != output.size:
            raise NotAResult("a size that cannot be")


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Make an object of members that each have a name of their own, as protobuf's JSON demands."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("two members of one name")
    return members


def _output(digest: Mapping[str, object]) -> RemoteOutput:
    try:
        return RemoteOutput(Digest(_text(digest.get("hash"), "a hash")), _integer(digest.get("sizeBytes", "0")))
    except NotAResult:
        raise
    except ValueError as error:
        raise NotAResult("a hash that is no sha256") from error


def _integer(value: object) -> int:
    """Return a 64-bit number, which proto3's JSON spells as text, and which readers must take as a number too."""
    match value:
        case bool():
            pass
        case int():
            return value
        case str() if _NUMBER.fullmatch(value):
            return int(value)
    raise NotAResult("a size that is no number")


def _seconds(metadata: Mapping[str, object]) -> float:
    """Return the seconds of the execution, 0 where its ends are not told."""
    ends = [metadata.get(f"execution{end}Timestamp") for end in ("Start", "Completed")]
    if None in ends:
        return 0.0
    start, completed = (_moment(end) for end in ends)
    return (completed - start).total_seconds()


def _moment(value: object) -> datetime:
    text = _text(value, "a timestamp")
    try:
        if _TIMESTAMP.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise NotAResult("a timestamp that is none")


def _timestamp(since_epoch: timedelta) -> str:
    return f"{_EPOCH + since_epoch:%Y-%m-%dT%H:%M:%S.%f}Z"


def _mapping(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise NotAResult(f"{what} is no object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise NotAResult(f"{what} is no list")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise NotAResult(f"{what} is no text")
    return value

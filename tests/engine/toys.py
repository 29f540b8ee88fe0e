"""Toy steps: small enough to predict, and each execution leaves a line in a ledger that no process can lose."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from maxbuild.engine import Job, Kind
from maxbuild.errors import WeightsError

LEDGER = "MAXBUILD_TOY_LEDGER"


def _toy(name: str, *, isolated: bool = False) -> Kind:
    return Kind(name, f"toys:{name}", isolated=isolated)


KINDS: Mapping[str, Kind] = {
    **{
        kind.name: kind
        for kind in (
            _toy("concat"),
            _toy("parity"),
            _toy("fail_if"),
            _toy("slow"),
            _toy("multi_output"),
            _toy("pass_through"),
            _toy("disk_full"),
            _toy("spoil"),
            _toy("wrong"),
        )
    },
    "isolated": Kind("isolated", "toys:concat", isolated=True),
    "environment": _toy("environment", isolated=True),
    "crash": _toy("crash", isolated=True),
    "isolated_slow": Kind("isolated_slow", "toys:slow", isolated=True),
    "isolated_full": Kind("isolated_full", "toys:disk_full", isolated=True),
}


def _ran(job: Job) -> None:
    """Append the toy's `label` to the ledger; O_APPEND makes one short write whole, whoever else writes."""
    descriptor = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{job.local.get('label', '?')}\n".encode())
    os.close(descriptor)


def _left(job: Job, content: str, name: str = "out") -> Mapping[str, Path]:
    path = job.scratch / name
    path.write_text(content)
    return {name: path}


def concat(job: Job) -> Mapping[str, Path]:
    """Join `text` and the inputs, by role."""
    _ran(job)
    job.progress(1, 1)
    parts = [job.inputs[role].read_text() for role in sorted(job.inputs)]
    return _left(job, f"{job.params.get('text', '')}({','.join(parts)})")


def parity(job: Job) -> Mapping[str, Path]:
    """Tell only whether the inputs have an even number of characters in all, so most edits change nothing after it."""
    _ran(job)
    size = sum(len(path.read_text()) for path in job.inputs.values())
    return _left(job, "even" if size % 2 == 0 else "odd")


def fail_if(job: Job) -> Mapping[str, Path]:
    """Fail while an input says `bad`: in our own words if `own` is set, by accident otherwise."""
    _ran(job)
    if any("bad" in path.read_text() for path in job.inputs.values()):
        if job.params.get("own"):
            raise WeightsError("the input is bad", causes=["it says so"])
        raise RuntimeError("bad input")
    return _left(job, "good")


def slow(job: Job) -> Mapping[str, Path]:
    """Take `milliseconds`, in small steps that report progress unless `quiet`."""
    _ran(job)
    steps = int(str(job.params.get("milliseconds", 0))) // 10
    for step in range(steps):
        time.sleep(0.01)
        if not job.params.get("quiet"):
            job.progress(step, steps)
    return _left(job, "slow")


def multi_output(job: Job) -> Mapping[str, Path]:
    """Leave one part per word of the input, and a list of them."""
    _ran(job)
    words = job.inputs["words"].read_text().split()
    (job.scratch / "parts").mkdir()
    outputs = _left(job, " ".join(words), "list")
    for word in words:
        path = job.scratch / "parts" / word
        path.write_text(word)
        outputs = {**outputs, f"parts/{word}": path}
    return outputs


def pass_through(job: Job) -> Mapping[str, Path]:
    """Leave the input itself, where it lies."""
    _ran(job)
    return {"out": job.inputs["from"]}


def environment(job: Job) -> Mapping[str, Path]:
    """Tell what a process of its own sees, and print something for the log."""
    _ran(job)
    print("hello from the child")
    facts = [os.environ["PYTHONHASHSEED"], str(Path.cwd() == job.scratch), str(os.getpid())]
    return _left(job, " ".join(facts))


def crash(job: Job) -> Mapping[str, Path]:
    """Die without a word."""
    _ran(job)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def disk_full(job: Job) -> Mapping[str, Path]:
    """Meet a full disk."""
    _ran(job)
    raise OSError(errno.ENOSPC, "No space left on device")


def spoil(job: Job) -> Mapping[str, Path]:
    """Write into a source file while it is being used."""
    _ran(job)
    Path(str(job.local["victim"])).write_text("changed behind the back")
    return _left(job, job.inputs["from"].read_text())


def wrong(job: Job) -> Mapping[str, Path]:
    """Leave something else than what is declared."""
    _ran(job)
    return _left(job, "?", str(job.params["leaves"]))

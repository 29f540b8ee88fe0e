"""Toy steps: small enough to predict, and each execution leaves a line in a ledger that no process can lose."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import random
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from maxbuild.engine import JSON, Job, Kind
from maxbuild.errors import WeightsError

LEDGER = "MAXBUILD_TOY_LEDGER"
FLAVOUR = "MAXBUILD_TOY_FLAVOUR"


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
            _toy("held"),
            _toy("elsewhere"),
            _toy("orphans"),
            _toy("nondeterministic"),
            _toy("env_reader"),
            _toy("meddle"),
            _toy("probe"),
        )
    },
    "isolated": Kind("isolated", "toys:concat", isolated=True),
    "environment": _toy("environment", isolated=True),
    "crash": _toy("crash", isolated=True),
    "isolated_slow": Kind("isolated_slow", "toys:slow", isolated=True),
    "isolated_full": Kind("isolated_full", "toys:disk_full", isolated=True),
    "isolated_probe": Kind("isolated_probe", "toys:probe", isolated=True),
    **{
        f"nursed_{name}": Kind(f"nursed_{name}", f"toys:{name}", isolated=True, preload="toys:preload")
        for name in (
            "concat",
            "surroundings",
            "change_library",
            "slow",
            "hold",
            "leave_running",
            "kill_nursery",
            "meet",
            "stop",
            "stray",
        )
    },
    **{
        f"far_{name}": Kind(f"far_{name}", f"toys:{name}", isolated=True, toolchain="toys:toolchain_of")
        for name in (
            "concat",
            "fail_if",
            "multi_output",
            "pass_through",
            "disk_full",
            "wrong",
            "environment",
            "crash",
            "hold",
            "meet",
            "chatter",
            "end_host",
            "tell_local",
        )
    },
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


def nondeterministic(job: Job) -> Mapping[str, Path]:
    """Leave other bytes at every run, as no real step should: what is recorded must then hold."""
    _ran(job)
    return _left(job, f"{job.params.get('text', '')}?{secrets.token_hex(8)}")


def env_reader(job: Job) -> Mapping[str, Path]:
    """Join the inputs to what a variable of the environment says; a plan owes that value to the task's key."""
    _ran(job)
    parts = [job.inputs[role].read_text() for role in sorted(job.inputs)]
    return _left(job, f"{os.environ.get(FLAVOUR, '')}({','.join(parts)})")


def held(job: Job) -> Mapping[str, Path]:
    """Take until the file `until` is there."""
    _ran(job)
    while not Path(str(job.local["until"])).exists():
        time.sleep(0.005)
    return _left(job, "held")


def elsewhere(job: Job) -> Mapping[str, Path]:
    """Leave a file at `place`, outside of scratch, whatever lies there: a download into a cache, say."""
    _ran(job)
    place = Path(str(job.local["place"]))
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.write_text(str(job.params["text"]))
    return {"out": place}


def orphans(job: Job) -> Mapping[str, Path]:
    """Start a child by fork alone and one by exec, both deaf to the builder's end, and hang; the second run is done."""
    _ran(job)
    pids = Path(str(job.local["pids"]))
    if not pids.exists():
        command = subprocess.Popen(["sleep", "60"], start_new_session=True)
        fork = os.fork()
        if fork == 0:
            time.sleep(60)
            os._exit(0)
        pids.with_suffix(".new").write_text(f"{command.pid} {fork}")
        pids.with_suffix(".new").rename(pids)
        time.sleep(60)
    return _left(job, "done")


def meddle(job: Job) -> Mapping[str, Path]:
    """Read the input, then do to a source file what somebody else may do to it: `how` says what."""
    _ran(job)
    outputs = _left(job, job.inputs["from"].read_text())
    victim, other, content = Path(str(job.local["victim"])), job.scratch / "other", str(job.local["content"])
    before = victim.stat()
    match job.local["how"]:
        case "write":
            victim.write_text(content)
        case "replace":
            other.write_text(content)
            other.replace(victim)
        case "restore":
            victim.write_text(content)
            os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "remove":
            victim.unlink()
    return outputs


def toolchain_of(kind: str, params: Mapping[str, JSON] | None = None) -> Mapping[str, str]:
    """Return the toolchain that shapes what kinds leave that may be carried out elsewhere."""
    return {"toys": "1"}


def hold(job: Job) -> Mapping[str, Path]:
    """Tell the process's number in the file `pid`, and take for ever."""
    note = Path(str(job.params["pid"]))
    note.with_suffix(".new").write_text(str(os.getpid()))
    note.with_suffix(".new").rename(note)
    while True:
        time.sleep(1)


def stop(job: Job) -> Mapping[str, Path]:
    """Do as `hold`, as a process that was sent SIGSTOP."""
    Path(str(job.params["pid"])).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)
    return _left(job, "went on")


def stray(job: Job) -> Mapping[str, Path]:
    """Do as `hold`, in a fork that has left for a session of its own; this process waits for it if `wait` is set."""
    fork = os.fork()
    if fork == 0:
        os.setsid()
        hold(job)
    if job.params["wait"]:
        os.waitpid(fork, 0)
    while not Path(str(job.params["pid"])).exists():
        time.sleep(0.005)
    return _left(job, "done")


def meet(job: Job) -> Mapping[str, Path]:
    """Touch the file `mine` and take until the file `theirs` is there."""
    Path(str(job.params["mine"])).touch()
    while not Path(str(job.params["theirs"])).exists():
        time.sleep(0.005)
    return _left(job, "met")


def chatter(job: Job) -> Mapping[str, Path]:
    """Print `lines` lines."""
    for line in range(int(str(job.params["lines"]))):
        print("line", line)
    return _left(job, "said")


def end_host(job: Job) -> Mapping[str, Path]:
    """Kill the process that started this one, as often as `times` says; the file `deaths` has a byte for each."""
    deaths = Path(str(job.params["deaths"]))
    if not deaths.exists() or deaths.stat().st_size < int(str(job.params["times"])):
        with deaths.open("ab") as file:
            file.write(b"x")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return _left(job, "survived")


PRELOADS = "MAXBUILD_TOY_PRELOADS"
"""Names a file in which each nursery leaves a line, and what befalls it."""

_library = {"changed": 0}


def preload() -> Callable[[], None]:
    """Note that a nursery imports, and let befall it what the tests want."""
    with Path(os.environ[PRELOADS]).open("a+") as notes:
        notes.seek(0)
        fate = notes.readline().strip()
        notes.write(f"{os.getpid()}\n")
    print("heard while importing")
    random.seed(4)
    tempfile.gettempdir()
    match fate:
        case "raise":
            raise ImportError("no such library")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "thread":
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        case "hang":
            time.sleep(60)
    return _settle


def other_preload() -> Callable[[], None]:
    """Be another nursery's."""
    return preload()


def _settle() -> None:
    _library["settled in"] = os.environ["TMPDIR"]


def surroundings(job: Job) -> Mapping[str, Path]:
    """Tell what a process can know of itself and does not owe to chance, as far as it may shape what a step does."""
    facts = {
        "environment": dict(os.environ),
        "temporary": tempfile.gettempdir(),
        "folder": str(Path.cwd()),
        "umask": os.umask(0o077),
        "hash": hash("one of many"),
        "flags": repr(sys.flags),
        "path": sys.path,
        "leader": os.getpgid(0) == os.getpid(),
        "session": os.getsid(0),
        "nice": os.nice(0),
        "cores": sorted(os.sched_getaffinity(0)),
        "limits": [resource.getrlimit(limit) for limit in range(16)],  # as many as Linux has
        "signals": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": [thread.daemon for thread in threading.enumerate()],
        "main": threading.current_thread() is threading.main_thread(),
        "open": sorted(path.readlink().name.partition(":")[0] for path in _open_files()),
        "streams": [(stream.encoding, stream.errors, stream.line_buffering) for stream in (sys.stdout, sys.stderr)],
        "input": sys.stdin.read(),
        "garbage": [gc.isenabled(), gc.get_threshold()],
        "local": job.local,
    }
    print("said by the step")
    return {**_left(job, json.dumps(facts)), **_left(job, f"{random.random()} {os.getppid()}", "chance")}


def _open_files() -> list[Path]:
    return [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


def change_library(job: Job) -> Mapping[str, Path]:
    """Change what was imported, and tell what it was before."""
    before = json.dumps(_library)
    _library["changed"] += 1
    return _left(job, before)


def leave_running(job: Job) -> Mapping[str, Path]:
    """Leave two processes running, one by fork alone and one by exec, and tell their numbers."""
    command, fork = subprocess.Popen(["sleep", "60"]), os.fork()
    if fork == 0:
        time.sleep(60)
        os._exit(0)
    return _left(job, f"{command.pid} {fork}")


def kill_nursery(job: Job) -> Mapping[str, Path]:
    """Kill the nursery that this process came from, if it did, and go on until that is noticed."""
    _ran(job)
    (job.scratch / "half").mkdir()
    nursery = Path(os.environ[PRELOADS])
    if str(os.getppid()) in nursery.read_text().splitlines():
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return _left(job, "done")


def probe(job: Job) -> Mapping[str, Path]:
    """Do something to the file `path`, which no input names: `action` says what."""
    _ran(job)
    PROBES[str(job.local["action"])](job, Path(str(job.local["path"])))
    return _left(job, "done")


def _read_slowly(_job: Job, path: Path) -> None:
    time.sleep(0.05)
    path.read_text()
    time.sleep(0.05)


def _read_in_thread(_job: Job, path: Path) -> None:
    thread = threading.Thread(target=path.read_text)
    thread.start()
    thread.join()


def _read_by_link(job: Job, path: Path) -> None:
    (job.scratch / "link").symlink_to(path)
    (job.scratch / "link").read_text()


def _read_by_c(_job: Job, path: Path) -> None:
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    assert library.fopen(os.fsencode(path), b"r")


def _read_and_raise(_job: Job, path: Path) -> None:
    raise WeightsError(path.read_text())


def _read_and_die(_job: Job, path: Path) -> None:
    path.read_text()
    os.kill(os.getpid(), signal.SIGKILL)


def _work(job: Job, _path: Path) -> None:
    (job.scratch / "inside").write_text(job.inputs["from"].read_text())
    with tempfile.TemporaryFile(dir=job.scratch) as file:
        file.write(b"x")
    list(job.scratch.iterdir())
    with tempfile.TemporaryDirectory(dir=job.scratch) as folder:  # whose removal names files by their folder's number
        (Path(folder) / "sub").mkdir()
        (Path(folder) / "sub" / "file").touch()


def _try(_job: Job, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.read_text()


PROBES: Mapping[str, Callable[[Job, Path], object]] = {
    "read": lambda _, path: path.read_text(),
    "read_slowly": _read_slowly,
    "read_in_thread": _read_in_thread,
    "read_by_link": _read_by_link,
    "read_by_c": _read_by_c,
    "read_and_raise": _read_and_raise,
    "read_and_die": _read_and_die,
    "work": _work,
    "list": lambda _, path: list(path.iterdir()),
    "write": lambda _, path: path.write_text("left"),
    "remove": lambda _, path: path.unlink(missing_ok=True),
    "try": _try,
    "cat": lambda _, path: subprocess.run(["cat", path], check=True),
    "start": lambda _, path: subprocess.run([path], check=True),
    "leave_running": lambda _, path: path.write_text(str(subprocess.Popen(["sleep", "600"]).pid)),
}


def tell_local(job: Job) -> Mapping[str, Path]:
    """Tell what of the job is local."""
    return _left(job, " ".join(sorted(job.local)))

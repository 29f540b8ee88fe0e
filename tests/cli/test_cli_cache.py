"""`maxbuild cache`, the real command over the store of a toy plan: what it tells, what it does, how it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import Maxbuild, World
from syrupy.assertion import SnapshotAssertion

from maxbuild.cli.amounts import parse_age, parse_size
from maxbuild.engine import State, Store, journal
from maxbuild.errors import UsageError


@pytest.fixture
def warm(world: World) -> World:
    """Return a world in which everything was built and nobody is at work."""
    assert world.warm()[0] == 0
    world.store.close()
    return world


@pytest.fixture
def steady(steady: Callable[[str], str]) -> Callable[[str], str]:
    """Return a filter that takes out sizes of databases too."""

    def filtered(text: str) -> str:
        return re.sub(r"(index +)[0-9.]+ kB", r"\1# kB", steady(text))

    return filtered


def would_run(world: World) -> set[str]:
    """Return the kinds of what a build would run."""
    kinds = {task.kind for task in world.survey().in_state(State.WOULD_RUN, State.WAITING)}
    world.store.close()
    return kinds


def test_help_lists_what_there_is(maxbuild: Maxbuild, snapshot: SnapshotAssertion) -> None:
    """Every command has its line, none is cut."""
    assert maxbuild("cache", "--help").stdout == snapshot


def test_info_tells_each_kind_and_what_keeps_it(
    warm: World, maxbuild: Maxbuild, steady: Callable[[str], str], snapshot: SnapshotAssertion
) -> None:
    """`info` shows results and bytes of every kind, who is at work, and what is kept for whom."""
    assert steady(maxbuild("cache", "info").stdout) == snapshot
    document = json.loads(maxbuild("cache", "info", "--json").stdout)
    assert {kind["kind"]: kind["results"] for kind in document["kinds"]} == {
        "trace": 1,
        "load": 1,
        "compile": 2,
        "package": 1,
    }
    assert (document["sessions"], document["packages"], document["pinned_runs"]) == (0, [], [])


def test_gc_says_before_what_it_does(
    warm: World, maxbuild: Maxbuild, steady: Callable[[str], str], snapshot: SnapshotAssertion
) -> None:
    """A dry run changes nothing and tells the same as the run; weights and packages go before compiles."""
    (warm.store.base / "quarantine" / "damaged").write_bytes(b"?" * 2000)
    limit = f"{sum(path.stat().st_size for path in warm.store.base.glob('cas/sha256/*/*')) - 45} B"
    told = maxbuild("cache", "gc", "--max-size", limit, "--dry-run")
    assert (told.returncode, told.stderr) == (0, "")
    assert warm.survey().complete
    warm.store.close()
    assert steady(told.stdout) == snapshot
    done = maxbuild("cache", "gc", "--max-size", limit)
    assert done.stdout == told.stdout.replace("would free", "freed")
    assert would_run(warm) == {"load", "package"}
    assert maxbuild("cache", "gc").stdout.startswith("nothing to let go of")


def test_gc_tells_every_single_thing(warm: World, maxbuild: Maxbuild) -> None:
    """`--verbose` has a line for each thing, `--json` its key, its bytes and why it goes."""
    verbose = maxbuild("cache", "gc", "--max-size", "0", "--verbose", "--dry-run").stdout
    assert len(re.findall(r"^(trace|load|compile|package) [0-9a-f]{12} ", verbose, re.MULTILINE)) == 5
    document = json.loads(maxbuild("cache", "gc", "--max-size", "0", "--json").stdout)
    assert (document["schema"], document["dry_run"]) == ("maxbuild.cache-gc.v1", False)
    assert [piece["kind"] for piece in document["results"]][:2] == ["load", "package"]
    assert {piece["cause"] for piece in document["results"]} == {"size"}
    assert document["freed"] == document["size"] == sum(piece["size"] for piece in document["results"])
    assert document["kept"] == 0


def test_prune_for_ci_leaves_a_store_in_which_nothing_is_compiled_again(
    warm: World, maxbuild: Maxbuild, steady: Callable[[str], str], snapshot: SnapshotAssertion
) -> None:
    """Weights and packages go, compiles and traces stay: what is left to do is to load and to package."""
    assert maxbuild("cache", "prune").stdout.startswith("nothing to let go of")
    assert steady(maxbuild("cache", "prune", "--ci", "--dry-run").stdout) == snapshot
    assert would_run(warm) == set()
    assert maxbuild("cache", "prune", "--ci").returncode == 0
    assert would_run(warm) == {"load", "package"}


def test_verify_finds_what_no_build_sees(
    warm: World, maxbuild: Maxbuild, steady: Callable[[str], str], snapshot: SnapshotAssertion
) -> None:
    """Rot that a stat tuple hides is told with exit code 1, set aside, and made again by the next build."""
    assert maxbuild("cache", "verify").returncode == 0
    victim = max(warm.store.base.glob("cas/sha256/*/*"), key=lambda path: path.stat().st_size)
    before = victim.stat()
    victim.chmod(0o600)
    victim.write_bytes(b"?" * before.st_size)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert would_run(warm) == set()
    done = maxbuild("cache", "verify")
    assert (done.returncode, done.stderr) == (1, "")
    told = re.sub(r"[0-9a-f]{2}/<digest>", "<digest>", steady(done.stdout))
    assert re.sub("  +", "  ", told) == snapshot
    again = json.loads(maxbuild("cache", "verify", "--json").stdout)
    assert [finding["damage"] for finding in again["findings"]] == ["incomplete result"]
    assert would_run(warm) >= {"compile"}
    assert warm.warm()[0] == 0
    warm.store.close()
    assert maxbuild("cache", "verify").returncode == 0


def test_a_cache_moves_through_a_file(warm: World, maxbuild: Maxbuild, tmp_path: Path) -> None:
    """What was exported is imported at another place, and a build there runs nothing."""
    done = maxbuild("cache", "export", "cache.tar")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("exported 5 results with ")
    warm.store.root.rename(tmp_path / "gone")
    done = maxbuild("cache", "import", "cache.tar", "--json")
    assert json.loads(done.stdout)["new_results"] == 5
    assert done.stderr == "imported 5 results from `cache.tar`\n"
    assert would_run(World(warm.toy, Store(warm.store.root))) == set()
    assert maxbuild("cache", "import", "cache.tar").stderr.endswith("0 results from `cache.tar`, 5 were here before\n")


def test_a_cache_moves_through_a_pipe(warm: World, maxbuild: Maxbuild, tmp_path: Path) -> None:
    """`-` is stdout and stdin, and nothing but the archive goes through; --ci leaves weights at home."""
    other = tmp_path / "other"
    command = f"{sys.executable} -m maxbuild cache"
    pipe = f"{command} export --ci - | MAXBUILD_STORE={other} {command} import -"
    maxbuild("cache", "info")  # sets the environment
    done = subprocess.run(pipe, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert "imported 3 results from stdin" in done.stderr
    assert would_run(World(warm.toy, Store(other))) == {"load", "package"}


def test_a_bad_archive_is_refused(warm: World, maxbuild: Maxbuild, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """What is no archive, or not all of one, is a store error that says what to do; so is one that is not there."""
    maxbuild("cache", "export", "cache.tar")
    content = (tmp_path / "cache.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[:-2000])
    (tmp_path / "text.tar").write_text("no archive " * 100)
    answers = [maxbuild("cache", "import", name) for name in ("cut.tar", "text.tar", "none.tar")]
    answers.append(maxbuild("cache", "export", "no/such/folder/cache.tar"))
    assert [done.returncode for done in answers] == [4, 4, 4, 4]
    assert [done.stderr for done in answers] == snapshot


def test_a_pinned_run_outlives_every_limit(world: World, maxbuild: Maxbuild) -> None:
    """`pin` keeps what a run used, `unpin` gives it free, and a run that is none is refused."""
    with journal.Journal.begin(world.store, "toy", ["warm"]) as written:
        from toyplans import KINDS

        from maxbuild.engine import execute

        written.end(execute(world.toy, world.store, KINDS, scope="toy", jobs=1, on_event=written))
    world.store.close()
    (run,) = journal.run_ids(world.store)
    assert maxbuild("cache", "pin", "never").returncode == 2
    assert maxbuild("cache", "pin", run).stderr == f"pinned {run}: `gc` keeps what it used\n"
    assert maxbuild("cache", "gc", "--max-size", "0", "--max-age", "0").stdout.startswith("nothing to let go of")
    assert json.loads(maxbuild("cache", "info", "--json").stdout)["pinned_runs"] == [run]
    maxbuild("cache", "unpin", run)
    assert would_run(world) == set()
    maxbuild("cache", "gc", "--max-size", "0")
    assert "trace" in would_run(world)


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GiB", 20 << 30), ("500 MB", 500_000_000), ("1.5kB", 1500), ("7B", 7), ("0", 0), ("1gib", 1 << 30)],
)
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    """Decimal and binary units mean what they say."""
    assert parse_size("--max-size", text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * 86400), ("12 h", 43200), ("90min", 5400), ("2w", 1209600), ("0", 0), ("1.5s", 1.5)],
)
def test_spans_of_time_are_read_with_their_unit(text: str, seconds: float) -> None:
    """Days are of 24 hours; months and years, which are not all alike, are none."""
    assert parse_age("--max-age", text) == seconds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("20", "`--max-size`: `20` lacks its unit"),
        ("20 giga", "`--max-size`: `20 giga` has the unknown unit `giga`"),
        ("-1GB", "`--max-size`: `-1GB` is no size"),
        ("1e3GB", "`--max-size`: `1e3GB` is no size"),
        ("", "`--max-size`: `` is no size"),
        ("∞", "`--max-size`: `∞` is no size"),
    ],
)
def test_a_size_that_says_none_is_refused(text: str, told: str) -> None:
    """A size needs a number and a unit that exists, and the message shows how it is written."""
    with pytest.raises(UsageError) as caught:
        parse_size("--max-size", text)
    assert caught.value.message == told
    assert caught.value.hint == "write it as in `20GiB`; units: B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB, PiB"

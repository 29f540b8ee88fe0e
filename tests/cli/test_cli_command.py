"""The real command, in a process of its own: what it prints, what it imports, what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import ROOT, Maxbuild
from syrupy.assertion import SnapshotAssertion

from maxbuild.cli.commands import COMMANDS
from maxbuild.manifest import json_schema

HEAVY = {"torch", "transformers", "triton", "rich", "huggingface_hub", "safetensors", "numpy"}


def imports_of(*arguments: str) -> set[str]:
    """Return the top-level modules that a process has imported when `arguments` are carried out."""
    script = (
        "import sys; sys.stdout = sys.stderr; from maxbuild.cli import main; main(sys.argv[1:]); "
        "sys.__stdout__.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    return set(done.stdout.split())


def test_help_lists_commands_without_importing_them(snapshot: SnapshotAssertion, maxbuild: Maxbuild) -> None:
    """--help shows every command with its line, on stdout."""
    done = maxbuild("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == snapshot
    assert not imports_of("--help") & {"networkx", "yaml", "diskcache", *HEAVY}


def test_version_reads_metadata_only(maxbuild: Maxbuild) -> None:
    """--version names the packages that shape artifacts."""
    names = [line.split()[0] for line in maxbuild("--version").stdout.splitlines()]
    assert names == ["maxbuild", "torch", "triton", "transformers", "python"]
    assert not imports_of("--version") & HEAVY


def test_schema_on_stdout_or_in_a_file(maxbuild: Maxbuild, tmp_path: Path) -> None:
    """The schema is that of the manifest room, and costs no graph library."""
    assert json.loads(maxbuild("schema").stdout) == json_schema()
    assert maxbuild("schema", "--output", "out.json").stdout == ""
    assert json.loads((tmp_path / "out.json").read_text()) == json_schema()
    assert not imports_of("schema", "--help") & {"networkx", "diskcache", *HEAVY}


def test_cache_info(maxbuild: Maxbuild, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """`cache info` says where the store is and what it holds, also as a document."""
    out = maxbuild("cache", "info").stdout
    lines = [line for line in out.replace(str(tmp_path), "TMP").splitlines() if not line.startswith("index")]
    assert lines == snapshot
    document = json.loads(maxbuild("cache", "info", "--json").stdout)
    assert (document["schema"], document["store"]) == ("maxbuild.cache-info.v1", str(tmp_path / "store"))


def test_unusable_store_ends_with_4(maxbuild: Maxbuild, tmp_path: Path) -> None:
    """A store that cannot be opened is a store error."""
    (tmp_path / "store").write_text("a file")
    done = maxbuild("cache", "info")
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_every_command_is_where_the_table_says() -> None:
    """Each entry of the table names a module and a command that exist."""
    for entry in COMMANDS:
        module = pytest.importorskip(entry.module)
        assert hasattr(module, entry.name)


def test_commands_over_a_manifest_import_nothing_heavy() -> None:
    """What a null build goes through imports no framework and no display."""
    for command in ("plan", "warm"):
        modules = imports_of(command, "does-not-exist.yaml")
        assert not modules & HEAVY


def test_plan_of_a_real_manifest_imports_nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a null build goes through, store and look-ups included, imports no framework and no display."""
    monkeypatch.setenv("MAXBUILD_STORE", str(tmp_path / "store"))
    manifest = write_manifest(tmp_path)
    assert not imports_of("plan", str(manifest)) & HEAVY


def test_plan_why_and_graph_of_a_real_manifest(maxbuild: Maxbuild, tmp_path: Path) -> None:
    """The commands over a manifest work from end to end, and leave data alone on stdout."""
    write_manifest(tmp_path)
    plan, why, graph = (maxbuild(command, "small.yaml") for command in ("plan", "why", "graph"))
    assert [done.returncode for done in (plan, why, graph)] == [0, 0, 0]
    assert plan.stdout.splitlines()[1].split() == ["trace", "main", "would", "build", "new"]
    assert why.stdout.startswith("trace main: would build\n")
    assert graph.stdout.startswith("<svg ")
    assert {plan.stderr, why.stderr, graph.stderr} == {""}


def write_manifest(folder: Path) -> Path:
    """Write a manifest of a model that has the files of one, and return its path."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}')
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    manifest = folder / "small.yaml"
    manifest.write_text("version: 1\nname: small\ntargets: ['cpu:x86-64-v3']\nmodels: {main: {model_path: ./model}}\n")
    return manifest


def test_graph_writes_json_by_either_option() -> None:
    """`--json` is the same as `--format json`, as on every other command."""
    manifest = Path(__file__).parents[2] / "manifests" / "demo.yaml"
    texts = [run_graph(manifest, *options) for options in (("--json",), ("--format", "json"))]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["schema"] == "maxbuild.graph.v1"


def run_graph(manifest: Path, *options: str) -> str:
    """Return what `maxbuild graph` prints."""
    command = [sys.executable, "-m", "maxbuild", "graph", str(manifest), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

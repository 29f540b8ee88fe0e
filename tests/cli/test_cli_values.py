"""The values of a manifest on the command line: flags in place of a file and over one, and `maxbuild manifest`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from cli_world import ROOT, Maxbuild
from typer.main import get_command

from maxbuild.cli.commands import new_app
from maxbuild.cli.values import ValuesCommand
from maxbuild.manifest.flags import Flag

MODEL = ROOT / "examples" / "models" / "tiny-gemma3"
DRAFT = ROOT / "examples" / "models" / "tiny-gemma3-draft"
FLAGS = ("--model", str(MODEL), "--target", "cuda:sm_90", "--draft-model-path", str(DRAFT), "--no-draft-use-subgraphs")
LINE = (*FLAGS, "--model-override", "main.max_length=128", "--max-batch-size", "4")

pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="the examples' models are not made")


def planned(maxbuild: Maxbuild, *words: str) -> Any:
    """Return the document of `plan` for this command line."""
    done = maxbuild("plan", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_command_line_of_the_ancestor_plans_what_its_manifest_plans(maxbuild: Maxbuild, tmp_path: Path) -> None:
    """Flags alone, the manifest that `manifest` prints, and one with half of it in flags: the same tasks and keys.

    The ancestor's line is that of its documentation, with a target, a draft and an override.
    """
    by_flags = planned(maxbuild, *LINE)
    printed = maxbuild("manifest", *LINE)
    assert printed.returncode == 0
    (tmp_path / "printed.yaml").write_text(printed.stdout)
    by_manifest = planned(maxbuild, "printed.yaml")
    text = printed.stdout.replace("max_length: 128", "max_length: 5").replace("runtime:\n  max_batch_size: 4\n", "")
    (tmp_path / "half.yaml").write_text(text)
    by_half = planned(maxbuild, "half.yaml", "--max-length", "128", "--max-batch-size=4")
    assert by_flags["manifest"] == "tiny-gemma3"
    assert by_flags["tasks"] == by_manifest["tasks"] == by_half["tasks"]
    assert by_flags["deferred"] == by_manifest["deferred"]
    assert len({task["key"] for task in by_flags["tasks"] if task.get("key")}) > 2
    assert planned(maxbuild, *LINE, "--draft-max-length", "64")["tasks"] != by_flags["tasks"]


def test_printed_manifest_lies_where_it_is_asked_for(maxbuild: Maxbuild, tmp_path: Path) -> None:
    """With --output, relative paths in the text lead from the file's folder."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "model").symlink_to(MODEL)
    done = maxbuild("manifest", "--model", "./model", "--target", "cuda:sm_90", "--output", "deep/m.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert "model_path: ../model" in (tmp_path / "deep" / "m.yaml").read_text()
    assert planned(maxbuild, "deep/m.yaml")["manifest"] == "model"


def test_manifest_with_a_matrix_is_printed_one_variant_at_a_time(maxbuild: Maxbuild, tmp_path: Path) -> None:
    """All at once they are no manifest; the hint lists them."""
    maxbuild("manifest", *FLAGS, "--name", "m", "-o", "m.yaml")
    with (tmp_path / "m.yaml").open("a") as stream:
        stream.write("matrix: {main.max_length: [64, 128]}\n")
    done = maxbuild("manifest", "m.yaml")
    assert done.returncode == 2
    assert "name one with `--variant`: `64`, `128`" in done.stderr
    one = maxbuild("manifest", "m.yaml", "--variant", "128")
    assert "name: m-128\n" in one.stdout
    names = [task["name"] for task in planned(maxbuild, "m.yaml")["tasks"]]
    assert {"trace main [64]", "trace main [128]", "load main"} <= set(names)


def test_values_tell_variants_apart(maxbuild: Maxbuild, tmp_path: Path) -> None:
    """`plan --values` has one row for what all variants say, and one for each where they differ."""
    maxbuild("manifest", *FLAGS, "--name", "m", "-o", "m.yaml")
    with (tmp_path / "m.yaml").open("a") as stream:
        stream.write("matrix: {main.max_length: [64, 128]}\n")
    values = planned(maxbuild, "m.yaml", "--values", "--draft-max-length", "64")["values"]
    assert [row for row in values if row["name"] == "main.max_length"] == [
        {"name": "main.max_length", "value": 64, "origin": "matrix", "variant": "64"},
        {"name": "main.max_length", "value": 128, "origin": "matrix", "variant": "128"},
    ]
    assert {"name": "draft.max_length", "value": 64, "origin": "flag"} in values


def test_why_takes_all_words_for_the_task_where_flags_name_the_model(maxbuild: Maxbuild) -> None:
    """`why trace main --model …` asks about `trace main`, and names no file."""
    done = maxbuild("why", "trace", "main", *FLAGS)
    assert done.returncode == 0
    assert done.stdout.startswith("trace main")


def test_without_manifest_and_model_there_is_nothing_to_plan(maxbuild: Maxbuild) -> None:
    """The message says what could be given."""
    done = maxbuild("plan")
    assert done.returncode == 2
    assert done.stderr == (
        "error: neither a manifest nor a model is named\n\n"
        "hint: for example `maxbuild plan demo.yaml`, or `maxbuild plan --model organization/name`\n"
    )


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--max-lenght", "5"], "no option is called `--max-lenght`", "did you mean `--max-length`?"),
        (["--max-length"], "`--max-length` needs a value", "`maxbuild options` says which"),
        (
            ["--use-subgraphs=yes"],
            "`--use-subgraphs` takes no value",
            "write `--use-subgraphs`, or `--no-use-subgraphs`",
        ),
        (["--enable-lora"], "--enable-lora: option `enable_lora` is refused", ""),
    ],
)
def test_mistake_in_a_flag_is_told_with_the_way_out(
    maxbuild: Maxbuild, words: list[str], message: str, hint: str
) -> None:
    """Flags of values are as well guarded as a command's own options."""
    done = maxbuild("plan", "--model", "a/b", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert hint in done.stderr


@pytest.mark.parametrize("command", ["warm", "plan", "why", "graph", "manifest"])
def test_help_stays_short(maxbuild: Maxbuild, command: str) -> None:
    """The help has the command's own options and the most used of the values, and says where the others are."""
    done = maxbuild(command, "--help")
    assert done.returncode == 0
    assert "--draft-model-path" in done.stdout
    assert "`maxbuild options` lists them all." in done.stdout
    assert done.stdout.count("\n") < 120


def test_own_options_and_their_values_are_no_flags_of_values() -> None:
    """A word that is the value of an option is never taken for a flag, and nothing after `--` is."""

    def command(first: str, *, rerun: Annotated[str, typer.Option()] = "", quiet: bool = False) -> None:
        raise NotImplementedError

    app = new_app()
    app.command("x", cls=ValuesCommand)(command)
    built = get_command(app)
    assert isinstance(built, ValuesCommand)
    words = [
        "--rerun",
        "--max-length",
        "--max-length=7",
        "--quiet",
        "--no-use-subgraphs",
        "f",
        "--rerun=a",
        "--",
        "--max-length",
    ]
    flags, rest = built._part(words)
    assert flags == [Flag("--max-length", "7"), Flag("--no-use-subgraphs")]
    assert rest == ["--rerun", "--max-length", "--quiet", "f", "--rerun=a", "--", "--max-length"]


def test_plain_manifest_imports_nothing_of_what_it_does_not_use(tmp_path: Path) -> None:
    """A manifest without reuse, variables, matrix and flags is read by the modules that it needs."""
    path = tmp_path / "m.yaml"
    path.write_text(f"version: 1\nname: m\ntargets: ['cpu:x86-64-v3']\nmodels: {{main: {{model_path: {MODEL}}}}}\n")
    program = (
        "import sys; from maxbuild.cli.entry import main; code = main(['plan', sys.argv[1]]);"
        "print(code, *[m for m in sys.modules if m.startswith('maxbuild.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={"MAXBUILD_STORE": str(tmp_path / "store"), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    code, *modules = done.stdout.splitlines()[-1].split()
    assert code == "0"
    unused = ("extends", "layers", "environment", "config_file", "matrix", "flags", "write")
    assert not {f"maxbuild.manifest.{name}" for name in unused} & set(modules)
    assert "maxbuild.plan.matrix" not in modules

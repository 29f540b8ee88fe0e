"""Every message about a manifest, as a person reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from maxbuild.errors import ManifestError, MaxbuildError, render
from maxbuild.manifest import load_manifest

BROKEN = Path(__file__).parent.parent / "samples" / "broken"
SAMPLES = sorted(path.name for path in BROKEN.glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the samples as a person would who stands beside them."""
    monkeypatch.chdir(BROKEN)


def message_of(path: Path, **words: list[str]) -> str:
    """Return the text for stderr, without the place of this checkout in it."""
    with pytest.raises(MaxbuildError) as caught:
        load_manifest(path, **words)
    assert caught.value.exit_code == 2
    return render(caught.value).replace(str(BROKEN.parent.resolve()), "[SAMPLES]") + "\n"


@pytest.mark.parametrize("name", SAMPLES)
def test_broken_manifest_is_told_with_every_problem_in_it(name: str, snapshot: SnapshotAssertion) -> None:
    """Each broken sample gives exactly the message that is kept beside the tests."""
    assert message_of(Path(name)) == snapshot


def test_unknown_key_is_told_with_its_line_a_caret_and_the_nearest_name(tmp_path: Path) -> None:
    """The whole message, in the house's form: place, line, caret under the key, way out."""
    manifest = tmp_path / "demo.yaml"
    manifest.write_text(
        "version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\nmodels:\n  main: {model_path: a/b, max_lenght: 512}\n",
        encoding="utf-8",
    )
    assert message_of(manifest) == (
        f"error: {manifest}:5:27: unknown key `max_lenght`\n"
        "  5 |   main: {model_path: a/b, max_lenght: 512}\n"
        "    |                           ^\n"
        "\n"
        "hint: did you mean `max_length`?\n"
    )


def test_missing_file_is_told() -> None:
    """A manifest that is not there is a usage error that names it."""
    assert message_of(Path("no_such.yaml")) == "error: no_such.yaml: no such manifest\n"


def test_folder_is_told() -> None:
    """A folder given as manifest is named as one, with what to give instead."""
    assert message_of(Path("../models")) == (
        "error: ../models: this is a folder, not a manifest\n"
        "\n"
        "hint: name the manifest in it, for example ../models/manifest.yaml\n"
    )


def test_oversized_file_is_told(tmp_path: Path) -> None:
    """A file that is too large to be a manifest is not read to its end."""
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    assert message_of(path) == f"error: {path}: larger than 1048576 bytes, so this is no manifest\n"


def test_unreadable_file_is_told_with_the_reason(tmp_path: Path) -> None:
    """What the system says is the cause."""
    path = tmp_path / "loop.yaml"
    path.symlink_to(path)
    assert message_of(path) == (
        f"error: {path}: cannot read the manifest\n  Caused by: Too many levels of symbolic links\n"
    )


def test_wrong_override_of_the_command_line_is_told_as_such() -> None:
    """A flag's override has no line; its own words are its place, after every place in the file."""
    text = message_of(Path("../minimal.yaml"), overrides=["main.max_lenght=5", "main.max_length=x"])
    assert text == (
        "error: --override main.max_lenght=5: unknown field `max_lenght`\n"
        "\n"
        "hint: did you mean `max_length`?\n"
        "\n"
        "error: --override main.max_length=x: `max_length` must be a whole number, not the text `x`\n"
    )


def test_wrong_target_is_told_at_its_place() -> None:
    """A target's own message is shown at the item of the list, or at the flag that gave it."""
    with pytest.raises(ManifestError) as caught:
        load_manifest(Path("../minimal.yaml"), targets=["cpu:x86-64-v2", "toaster:9000"])
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("--target toaster:9000", 0)
    assert problem.message

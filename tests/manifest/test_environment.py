"""`${env:NAME}`: what stands for it, and that nothing is read that is not declared."""

from __future__ import annotations

from pathlib import Path

import pytest
from manifest_files import HEAD, problems_of, write

from maxbuild.manifest import Manifest, load_manifest


def load(folder: Path, fields: str, declared: str, more: str = "") -> Manifest:
    """Load a manifest of these fields with these declarations."""
    text = f"{HEAD}environment: {declared}\nmodels:\n  main:\n    model_path: organization/name\n    {fields}\n{more}"
    return load_manifest(write(folder, {"top.yaml": text}))


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENGTH", "512")
    monkeypatch.setenv("PART", "tiny")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)


@pytest.mark.parametrize("declared", ["[LENGTH]", "{LENGTH: }", "[{LENGTH: 64}]", "{LENGTH: 64}"])
@pytest.mark.parametrize("text", ["${env:LENGTH}", '"${env:LENGTH}"'])
def test_value_is_that_of_the_variable_typed_by_its_field(tmp_path: Path, text: str, declared: str) -> None:
    """A reference alone is a number where a number is wanted, in quotes too; the variable comes before its default."""
    manifest = load(tmp_path, f"max_length: {text}", declared)
    assert manifest.models["main"].max_length == 512
    assert manifest.origins["main.max_length"] == "environment LENGTH"


def test_reference_is_part_of_a_text(tmp_path: Path) -> None:
    """Several references and what is around them make one text."""
    main = load(tmp_path, "served_model_name: a-${env:PART}-${env:LENGTH}", "[PART, LENGTH]").models["main"]
    assert main.served_model_name == "a-tiny-512"


@pytest.mark.parametrize("name", ["UNSET", "EMPTY"])
def test_default_stands_for_a_variable_that_says_nothing(tmp_path: Path, name: str) -> None:
    """Empty is as good as unset; without a default both are a mistake at the reference."""
    manifest = load(tmp_path, f"max_length: ${{env:{name}}}", f"[{{{name}: 64}}]")
    assert manifest.models["main"].max_length == 64
    assert manifest.origins["main.max_length"] == f"environment {name} (its default)"
    (problem,) = problems_of(lambda: load(tmp_path, f"max_length: ${{env:{name}}}", f"[{name}]"))
    assert (problem.line, problem.column) == (8, 17)
    assert problem.message == f"the environment variable `{name}` is {'not set' if name == 'UNSET' else 'empty'}"


def test_what_is_not_declared_is_not_read(tmp_path: Path) -> None:
    """A variable that is set and not declared is a mistake at its place, with the way to declare it."""
    (problem,) = problems_of(lambda: load(tmp_path, "max_length: ${env:LENGTH}", "[PART]"))
    assert (problem.line, problem.column) == (8, 17)
    assert problem.message == "the environment variable `LENGTH` is not declared"
    assert problem.hint == "declare it at the top of this file: `environment: [LENGTH]`"


def test_each_file_declares_for_itself(tmp_path: Path) -> None:
    """What a manifest declares holds for no file that it extends, nor the other way round."""
    files = {
        "top.yaml": f"{HEAD}environment: [PART]\nextends: base.yaml\n",
        "base.yaml": "models: {main: {model_path: 'a/${env:PART}'}}\n",
    }
    (problem,) = problems_of(lambda: load_manifest(write(tmp_path, files)))
    assert (Path(problem.file).name, problem.line) == ("base.yaml", 1)
    files["base.yaml"] = "environment: [PART]\n" + files["base.yaml"]
    assert load_manifest(write(tmp_path, files)).models["main"].model_path == "a/tiny"


def test_path_in_a_variable_is_relative_to_the_file_that_refers_to_it(tmp_path: Path) -> None:
    """A reference moves no path."""
    (tmp_path / "deep" / "tiny").mkdir(parents=True)
    path = write(
        tmp_path,
        {
            "top.yaml": f"{HEAD}extends: deep/base.yaml\n",
            "deep/base.yaml": "environment: [PART]\nmodels: {main: {model_path: './${env:PART}'}}\n",
        },
    )
    assert load_manifest(path).models["main"].model_path == "./tiny"


def test_variable_stands_in_extends_overrides_matrix_and_config_file(tmp_path: Path) -> None:
    """Every value may refer to one, also those that say values in another way."""
    path = write(
        tmp_path,
        {
            "top.yaml": "version: 1\nenvironment: [PART, LENGTH]\nextends: ${env:PART}.yaml\n"
            "overrides: ['main.max_length=${env:LENGTH}']\nmatrix: {main.served_model_name: ['${env:PART}', b]}\n",
            "tiny.yaml": f"{HEAD}models: {{main: {{model_path: a/b, config_file: config.yaml}}}}\n",
            "config.yaml": "subfolder: ${env:PART}\n",
        },
    )
    first, second = load_manifest(path).variants
    assert (first.models["main"].max_length, first.models["main"].subfolder) == (512, "tiny")
    assert [v.models["main"].served_model_name for v in (first, second)] == ["tiny", "b"]
    assert first.origins["main.subfolder"] == "environment PART"


def test_key_is_never_a_reference(tmp_path: Path) -> None:
    """A variable names no field."""
    (problem,) = problems_of(lambda: load(tmp_path, "${env:PART}: 5", "[PART]"))
    assert problem.message == "a variable of the environment stands for a value, never for a key"


def test_what_a_variable_holds_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are replaced once; a doubled sign stands for itself."""
    monkeypatch.setenv("PART", "${env:LENGTH}")
    main = load(tmp_path, "served_model_name: ${env:PART} and $${env:LENGTH}", "[PART, LENGTH]").models["main"]
    assert main.served_model_name == "${env:LENGTH} and ${env:LENGTH}"


def test_without_a_declaration_the_environment_is_not_looked_at(tmp_path: Path) -> None:
    """The doubled sign needs no declaration, and another `$` is a sign like others."""
    text = f"{HEAD}models: {{main: {{model_path: a/b, served_model_name: '$HOME $${{env:HOME}}'}}}}\n"
    assert load_manifest(write(tmp_path, {"top.yaml": text})).models["main"].served_model_name == "$HOME ${env:HOME}"


def test_token_in_a_variable_is_refused_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that gets into a field is a mistake, and no message holds it."""
    token = "hf_" + "aB3" * 10
    monkeypatch.setenv("PART", token)
    (problem,) = problems_of(lambda: load(tmp_path, "huggingface_model_revision: ${env:PART}", "[PART]"))
    assert "a token of the hub" in problem.message
    assert token not in problem.block()
    spoken = problems_of(
        lambda: load_manifest(tmp_path / "top.yaml", overrides=[f"main.huggingface_model_revision={token}"])
    )
    assert spoken
    assert not any(token in problem.block() for problem in spoken)


def test_variable_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not UTF-8 are told as such; a value without bound is not made."""
    monkeypatch.setenv("PART", "\udcff")
    (problem,) = problems_of(lambda: load(tmp_path, "served_model_name: ${env:PART}", "[PART]"))
    assert problem.message == "the environment variable `PART` is not UTF-8"
    monkeypatch.setenv("PART", "x" * 1000)
    (problem,) = problems_of(lambda: load(tmp_path, f"served_model_name: {'${env:PART}' * 100}", "[PART]"))
    assert problem.message == "longer than 65536 characters with its variables replaced"

"""`config_file` and `section_name`: further values of one role, under all that is said elsewhere."""

from __future__ import annotations

from pathlib import Path

from manifest_files import HEAD, problems_of, write

from maxbuild.manifest import Manifest, load_manifest

CONFIG = "small: {max_length: 64, served_model_name: small}\nlarge: {max_length: 4096}\nother: [what, ever]\n"


def load(folder: Path, main: str, config: str = CONFIG, **words: list[str]) -> Manifest:
    """Load a manifest whose role `main` has these fields beside the path of its model."""
    files = {"top.yaml": f"{HEAD}models: {{main: {{{main}}}}}\n", "deep/config.yaml": config}
    return load_manifest(write(folder, files), **words)


def test_section_fills_what_nothing_else_says(tmp_path: Path) -> None:
    """The role's own word counts; what other sections hold says nothing, whatever it is."""
    manifest = load(tmp_path, "model_path: a/b, max_length: 5, config_file: deep/config.yaml, section_name: small")
    main = manifest.models["main"]
    assert (main.max_length, main.served_model_name) == (5, "small")
    assert manifest.origins["main.served_model_name"] == f"section small {tmp_path / 'deep/config.yaml'}:1"


def test_without_a_section_the_whole_file_is_the_role(tmp_path: Path) -> None:
    """Fields stand at the top of the file, the model's path among them; its paths lead from there."""
    (tmp_path / "deep" / "model").mkdir(parents=True)
    manifest = load(tmp_path, "config_file: deep/config.yaml", "model_path: ./model\nmax_length: 7\n")
    assert manifest.models["main"].max_length == 7
    assert manifest.origins["main.max_length"] == f"config_file {tmp_path / 'deep/config.yaml'}:2"


def test_field_left_empty_is_said(tmp_path: Path) -> None:
    """A key with nothing after it asks for the default, also against the file."""
    main = load(tmp_path, "model_path: a/b, max_length: , config_file: deep/config.yaml, section_name: small").models[
        "main"
    ]
    assert (main.max_length, main.served_model_name) == (None, "small")


def test_mappings_are_laid_together(tmp_path: Path) -> None:
    """A field that is a mapping takes from the file the keys that it lacks."""
    main = load(
        tmp_path,
        "model_path: a/b, config_file: deep/config.yaml, vision_config_overrides: {a: 1}",
        "vision_config_overrides: {a: 2, b: 3}\n",
    ).models["main"]
    assert dict(main.vision_config_overrides or {}) == {"a": 1, "b": 3}


def test_file_and_section_may_be_chosen_by_overrides(tmp_path: Path) -> None:
    """What names the file is a field like others: the last word counts. Said in a command, it lies beside that."""
    fields = "model_path: a/b, config_file: deep/config.yaml, section_name: small"
    assert load(tmp_path, fields, overrides=["main.section_name=large"]).models["main"].max_length == 4096


def test_config_file_names_no_other(tmp_path: Path) -> None:
    """A chain of files is what `extends` is for."""
    (problem,) = problems_of(
        lambda: load(tmp_path, "model_path: a/b, config_file: deep/config.yaml", "config_file: config.yaml\n")
    )
    assert (Path(problem.file).name, problem.line, problem.message) == (
        "config.yaml",
        1,
        "a config file names no other",
    )


def test_missing_file_is_told_where_it_is_named(tmp_path: Path) -> None:
    """The place is the word that names it, and the cause where it was looked for."""
    problems = problems_of(lambda: load(tmp_path, "model_path: a/b, config_file: no.yaml"))
    assert [(problem.line, problem.column, problem.message) for problem in problems] == [
        (4, 47, "no such config file: `no.yaml`")
    ]
    assert problems[0].causes == (f"looked for {tmp_path / 'no.yaml'}",)


def test_file_is_read_as_strictly_as_a_manifest(tmp_path: Path) -> None:
    """A key given twice is a mistake in its own line there."""
    fields = "model_path: a/b, config_file: deep/config.yaml"
    (problem,) = problems_of(lambda: load(tmp_path, fields, "max_length: 4\nmax_length: 5\n"))
    assert (Path(problem.file).name, problem.line) == ("config.yaml", 2)
    assert problem.message == "key `max_length` is given twice"

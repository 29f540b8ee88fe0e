"""`extends`: whose word counts, where paths lead, and that no chain of files goes on for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from manifest_files import HEAD, MODELS, problems_of, write

from maxbuild.manifest import HubRepository, LocalFolder, Manifest, load_manifest

DRAFT = "  draft: {model_path: organization/small}\n"
SPECULATIVE = "speculative: {speculative_method: standalone, num_speculative_tokens: 4}\n"


def load(folder: Path, **files: str) -> Manifest:
    """Load `top`, a manifest beside the other files; `__` in a name is a folder."""
    return load_manifest(write(folder, {f"{name.replace('__', '/')}.yaml": text for name, text in files.items()}))


def test_what_a_manifest_does_not_say_is_taken_from_what_it_extends(tmp_path: Path) -> None:
    """Mappings are laid together at every depth, and what stands above counts."""
    manifest = load(
        tmp_path,
        top="version: 1\nname: top\nextends: base.yaml\nmodels: {main: {max_length: 512}}\n"
        "runtime: {max_num_steps: 2}\n",
        base=HEAD + "models: {main: {model_path: a/b, max_length: 64, use_subgraphs: false}}\n"
        "runtime: {max_batch_size: 8, max_num_steps: 4}\n",
    )
    main = manifest.models["main"]
    assert (manifest.name, manifest.targets) == ("top", ("cpu:x86-64-v2",))
    assert (main.model_path, main.max_length, main.use_subgraphs) == ("a/b", 512, False)
    assert (manifest.runtime.max_batch_size, manifest.runtime.max_num_steps) == (8, 2)


def test_list_replaces_the_list_under_it(tmp_path: Path) -> None:
    """A list is one value: targets are not added up."""
    manifest = load(tmp_path, top="version: 1\nextends: base.yaml\ntargets: [cpu:x86-64-v3]\n", base=f"{HEAD}{MODELS}")
    assert manifest.targets == ("cpu:x86-64-v3",)


def test_later_base_lies_over_earlier_ones(tmp_path: Path) -> None:
    """Of several bases the later counts, and the manifest over all."""
    manifest = load(
        tmp_path,
        top="version: 1\nextends: [one.yaml, two.yaml]\nmodels: {main: {served_model_name: top}}\n",
        one=HEAD + "models: {main: {model_path: a/one, max_length: 11, served_model_name: one}}\n",
        two="models: {main: {max_length: 22, served_model_name: two}}\n",
    )
    main = manifest.models["main"]
    assert (main.model_path, main.max_length, main.served_model_name) == ("a/one", 22, "top")


def test_paths_lead_from_the_file_that_says_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`model_path`, `chat_template`, `config_file`, a further `extends` and an override, each beside its own file."""
    for place in ("deep/shared/model", "deep/model", "model"):
        (tmp_path / place).mkdir(parents=True)
    write(
        tmp_path, {"deep/shared/chat.jinja": "{{ shared }}", "deep/chat.jinja": "{{ deep }}", "chat.jinja": "{{ a }}"}
    )
    monkeypatch.chdir("/")
    manifest = load(
        tmp_path,
        top="version: 1\nname: top\nextends: deep/base.yaml\n" + SPECULATIVE,
        deep__base="extends: shared/base.yaml\nmodels: {draft: {chat_template: chat.jinja}}\n"
        "overrides: [draft.model_path=./model]\n",
        deep__shared__base=HEAD + "models:\n"
        "  main: {model_path: ./model, chat_template: chat.jinja, config_file: more.yaml}\n"
        "  draft: {model_path: ./model, chat_template: chat.jinja}\n",
        deep__shared__more="max_length: 77\n",
        more="max_length: 88\n",
    )
    main, draft = manifest.models["main"], manifest.models["draft"]
    assert main.source == LocalFolder(tmp_path / "deep" / "shared" / "model")
    assert (main.chat_template, main.max_length) == ("{{ shared }}", 77)
    assert draft.source == LocalFolder(tmp_path / "deep" / "model")
    assert draft.chat_template == "{{ deep }}"
    assert manifest.path == tmp_path / "top.yaml"


def test_repository_of_a_base_is_none_of_the_folders_beside_the_manifest(tmp_path: Path) -> None:
    """What is no folder beside the base is a repository, also where the manifest has a folder of that name."""
    (tmp_path / "organization" / "name").mkdir(parents=True)
    manifest = load(tmp_path, top="version: 1\nextends: deep/base.yaml\n", deep__base=f"{HEAD}{MODELS}")
    assert manifest.models["main"].source == HubRepository("organization/name")


def test_key_with_nothing_after_it_takes_away_what_lies_under_it(tmp_path: Path) -> None:
    """A field falls back to its default; a section or a role goes as a whole."""
    manifest = load(
        tmp_path,
        top="version: 1\nextends: [base.yaml, more.yaml]\nmodels: {main: {max_length: }, draft: }\nspeculative:\n",
        base=HEAD + "models:\n  main: {model_path: a/b, max_length: 64}\n" + DRAFT + SPECULATIVE,
        more="models: {draft: {max_length: 64}}\n",
    )
    assert manifest.models.keys() == {"main"}
    assert manifest.speculative is None
    assert (manifest.models["main"].max_length, manifest.origins["main.max_length"]) == (None, "default")


def test_base_is_taken_with_its_own_overrides(tmp_path: Path) -> None:
    """An override counts in its own file; over it the manifest has its say, and lists overrides of its own."""
    manifest = load(
        tmp_path,
        top="version: 1\nextends: base.yaml\nmodels: {main: {max_length: 3}}\noverrides: [main.use_subgraphs=true]\n",
        base=HEAD + MODELS + "overrides: [main.max_length=2, main.use_subgraphs=false, main.served_model_name=base]\n",
    )
    main = manifest.models["main"]
    assert (main.max_length, main.use_subgraphs, main.served_model_name) == (3, True, "base")
    assert manifest.overrides == ("main.use_subgraphs=true",)
    assert manifest.origins["main.served_model_name"].endswith("base.yaml:6")


def test_origin_of_an_extended_value_is_its_file_and_line(tmp_path: Path) -> None:
    """Who looks for a value finds the line that says it, also through two files."""
    manifest = load(
        tmp_path, top="version: 1\nextends: base.yaml\n", base="extends: last.yaml\n", last=f"{HEAD}{MODELS}"
    )
    assert manifest.origins["main.model_path"] == f"extends {tmp_path / 'last.yaml'}:5"
    assert manifest.origins["version"] == "manifest"


def test_one_file_may_be_extended_by_several(tmp_path: Path) -> None:
    """A diamond is no circle."""
    manifest = load(
        tmp_path,
        top="version: 1\nextends: [left.yaml, right.yaml]\n",
        left="extends: base.yaml\nmodels: {main: {max_length: 5}}\n",
        right="extends: base.yaml\nname: right\n",
        base=f"{HEAD}{MODELS}",
    )
    # `right` lies over `left`, and with it the base's values; that says nothing of the length.
    assert (manifest.name, manifest.models["main"].max_length) == ("right", 5)


def test_circle_is_refused_with_every_file_on_it(tmp_path: Path) -> None:
    """The whole circle is named, and nothing that only leads to it."""
    path = write(
        tmp_path,
        {
            "top.yaml": "extends: a.yaml",
            "a.yaml": "extends: b.yaml",
            "b.yaml": "extends: c.yaml",
            "c.yaml": "extends: a.yaml",
        },
    )
    (problem,) = problems_of(lambda: load_manifest(path))
    assert (problem.file, problem.line, problem.column) == (str(tmp_path / "c.yaml"), 1, 10)
    assert problem.message == "`extends` goes in a circle"
    names = ["a.yaml", "b.yaml", "c.yaml", "a.yaml"]
    assert problem.causes == (" → ".join(str(tmp_path / name) for name in names),)


def test_circle_is_known_through_links(tmp_path: Path) -> None:
    """A file by another name is the same file."""
    path = write(tmp_path, {"top.yaml": "extends: other.yaml"})
    (tmp_path / "other.yaml").symlink_to(path)
    (problem,) = problems_of(lambda: load_manifest(path))
    assert problem.message == "`extends` goes in a circle"


def test_chain_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Sixteen files may extend one another, and not one more; the chain is named."""
    files = {f"{index}.yaml": f"version: 1\nextends: {index + 1}.yaml\n" for index in range(15)}
    path = write(tmp_path, {**files, "15.yaml": f"{HEAD}{MODELS}"})
    assert load_manifest(path).name == "demo"
    write(tmp_path, {"15.yaml": f"extends: 16.yaml\n{HEAD}{MODELS}", "16.yaml": "name: x"})
    (problem,) = problems_of(lambda: load_manifest(path))
    assert problem.message == "more than 16 manifests extend one another"
    assert problem.causes[0].count("→") == 16


def test_wide_bombs_are_refused(tmp_path: Path) -> None:
    """Neither a great many files, nor a great many values in few of them, are gone through."""
    names = [f"{index}.yaml" for index in range(70)]
    path = write(tmp_path, {"top.yaml": f"extends: [{', '.join(names)}]\n", **dict.fromkeys(names, "name: x\n")})
    assert problems_of(lambda: load_manifest(path))[0].message == "more than 64 manifests are extended in all"
    large = {f"{name}.yaml": "".join(f"{name}{index}: 1\n" for index in range(4000)) for name in "abc"}
    path = write(tmp_path, {"top.yaml": f"extends: [{', '.join(large)}]\n", **large})
    (problem,) = problems_of(lambda: load_manifest(path))
    assert problem.message == "more than 10000 values with all that is extended"


@pytest.mark.parametrize("text", ["extends: [[base.yaml]]", "extends: {base: x}", 'extends: ""', 'extends: "a\\0b"'])
def test_what_names_no_file_is_refused(tmp_path: Path, text: str) -> None:
    """`extends` takes paths."""
    path = write(tmp_path, {"top.yaml": f"{text}\n{HEAD}{MODELS}"})
    assert problems_of(lambda: load_manifest(path))[0].message.startswith("`extends` takes a manifest's path")


def test_duplicate_keys_and_bombs_in_a_base_are_refused_in_its_own_lines(tmp_path: Path) -> None:
    """What is refused in a manifest is refused in what it extends, at its place there."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcd", "bcde", strict=True)
    )
    path = write(
        tmp_path,
        {"top.yaml": "extends: [twice.yaml, bomb.yaml]\n", "twice.yaml": "name: a\nname: b\n", "bomb.yaml": bomb},
    )
    bombs, twice = problems_of(lambda: load_manifest(path))
    assert (Path(twice.file).name, twice.line, twice.message) == ("twice.yaml", 2, "key `name` is given twice")
    assert Path(bombs.file).name == "bomb.yaml"
    assert "more than 10000 values" in bombs.message


def test_anchor_ends_with_its_file(tmp_path: Path) -> None:
    """An alias names what stands in the same file, as YAML has it."""
    path = write(tmp_path, {"top.yaml": "extends: base.yaml\nmodels: {main: *model}\n", "base.yaml": "x: &model {}\n"})
    assert "no anchor `&model`" in problems_of(lambda: load_manifest(path))[0].message

"""`matrix`: which variants a manifest has, what they are called, and what each of them says."""

from __future__ import annotations

from pathlib import Path

import pytest
from manifest_files import HEAD, problems_of, write

from maxbuild.manifest import Encoding, LocalFolder, Manifest, load_manifest

DOCUMENTED = Path(__file__).parents[2] / "docs" / "manifest.md"
BASE = "version: 1\nname: demo\nmodels:\n  main: {model_path: organization/name}\n"
DRAFT = (
    "  draft: {model_path: organization/small}\n"
    "speculative: {speculative_method: standalone, num_speculative_tokens: 4}\n"
)
ENCODINGS = "quantization_encoding: [float32, bfloat16]"
CPUS = "target: [cpu:x86-64-v2, cpu:x86-64-v3]"


def load(folder: Path, *axes: str, base: str = f"{BASE}targets: [cpu:x86-64-v2]\n", **words: list[str]) -> Manifest:
    """Load the small manifest with a matrix of these lines."""
    text = base + "matrix:\n" + "".join(f"  {axis}\n" for axis in axes)
    return load_manifest(write(folder, {"top.yaml": text}), **words)


def shapes(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Return the targets of each variant."""
    return {variant.variant: variant.targets for variant in manifest.variants}


def test_axes_are_crossed_the_first_varying_slowest(tmp_path: Path) -> None:
    """Each combination is one variant, called by its values, with a name of its own for its packages."""
    manifest = load(tmp_path, ENCODINGS, "main.max_length: [64, 128]")
    assert [variant.variant for variant in manifest.variants] == [
        "float32,64",
        "float32,128",
        "bfloat16,64",
        "bfloat16,128",
    ]
    assert [variant.name for variant in manifest.variants][:2] == ["demo-float32-64", "demo-float32-128"]
    assert manifest.name == "demo"
    last = manifest.variants[-1].models["main"]
    assert (last.quantization_encoding, last.max_length) == (Encoding.BFLOAT16, 128)
    assert manifest.variants[-1].origins["main.max_length"] == "matrix"


def test_field_without_a_role_is_that_of_every_role(tmp_path: Path) -> None:
    """`quantization_encoding` goes to the main model and to its draft, `draft.max_length` to one of them."""
    manifest = load(tmp_path, ENCODINGS, "draft.max_length: [64]", base=f"{BASE}{DRAFT}targets: [cpu:x86-64-v2]\n")
    second = manifest.variants[1].models
    assert {second[role].quantization_encoding for role in ("main", "draft")} == {Encoding.BFLOAT16}
    assert (second["main"].max_length, second["draft"].max_length) == (None, 64)


def test_targets_of_one_variant_are_built_together(tmp_path: Path) -> None:
    """Combinations that differ in their target alone are one variant, for packages have a folder for each target."""
    manifest = load(
        tmp_path, CPUS, ENCODINGS, "exclude: [{target: cpu:x86-64-v2, quantization_encoding: bfloat16}]", base=BASE
    )
    assert shapes(manifest) == {"float32": ("cpu:x86-64-v2", "cpu:x86-64-v3"), "bfloat16": ("cpu:x86-64-v3",)}
    assert manifest.targets == ("cpu:x86-64-v2", "cpu:x86-64-v3")


def test_matrix_of_targets_alone_is_a_list_of_targets(tmp_path: Path) -> None:
    """Then there is one manifest, under its own name."""
    manifest = load(tmp_path, CPUS, base=BASE)
    assert (manifest.name, manifest.variants) == ("demo", ())
    assert manifest.targets == ("cpu:x86-64-v2", "cpu:x86-64-v3")


def test_include_is_that_of_workflows(tmp_path: Path) -> None:
    """The documentation's own example: what fits is extended, values of the matrix are never replaced, the rest is new.

    https://docs.github.com/actions/how-tos/write-workflows/choose-what-workflows-do/run-job-variations
    """
    manifest = load(
        tmp_path,
        "main.served_model_name: [apple, pear]",
        "main.subfolder: [cat, dog]",
        "include:",
        "  - {main.chat_template: '{green}'}",
        "  - {main.chat_template: '{pink}', main.subfolder: cat}",
        "  - {main.served_model_name: apple, main.max_length: 77}",
        "  - {main.served_model_name: banana}",
        "  - {main.served_model_name: banana, main.subfolder: cat}",
    )
    found = [
        (main.served_model_name, main.subfolder, main.chat_template, main.max_length)
        for main in (variant.models["main"] for variant in manifest.variants)
    ]
    assert found == [
        ("apple", "cat", "{pink}", 77),
        ("apple", "dog", "{green}", 77),
        ("pear", "cat", "{pink}", None),
        ("pear", "dog", "{green}", None),
        ("banana", None, None, None),
        ("banana", "cat", None, None),
    ]


def test_variant_may_be_made_of_include_alone(tmp_path: Path) -> None:
    """A list of variants, written one by one."""
    manifest = load(tmp_path, "include: [{main.max_length: 5}, {main.use_subgraphs: false, main.max_length: 6}]")
    assert [variant.variant for variant in manifest.variants] == ["5", "no_use_subgraphs,6"]


def test_labels_that_would_be_alike_name_their_axes(tmp_path: Path) -> None:
    """Values that are told apart by their axis alone are called by it."""
    manifest = load(
        tmp_path,
        "include: [{main.max_length: 5}, {draft.max_length: 5}]",
        base=f"{BASE}{DRAFT}targets: [cpu:x86-64-v2]\n",
    )
    assert [variant.variant for variant in manifest.variants] == ["main.max_length=5", "draft.max_length=5"]


def test_two_names_that_would_be_one_are_refused(tmp_path: Path) -> None:
    """Two variants never share a folder."""
    (problem,) = problems_of(lambda: load(tmp_path, "main.served_model_name: [a/b, 'a b']"))
    assert problem.message == "the variants `a/b` and `a b` would have one name, `…-a-b`"


def test_path_of_an_axis_leads_from_its_file(tmp_path: Path) -> None:
    """A matrix that is extended keeps its paths where they are; one axis of it can be replaced."""
    for name in ("deep/one", "deep/two"):
        (tmp_path / name).mkdir(parents=True)
    path = write(
        tmp_path,
        {
            "top.yaml": "version: 1\nextends: deep/base.yaml\nmatrix: {main.max_length: [8]}\n",
            "deep/base.yaml": HEAD
            + "models: {main: }\nmatrix: {main.model_path: [./one, ./two], main.max_length: [4, 5]}\n",
        },
    )
    path.write_text(path.read_text() + "models: {main: {use_subgraphs: true}}\n")
    manifest = load_manifest(path)
    assert [variant.variant for variant in manifest.variants] == ["8,./one", "8,./two"]
    assert [variant.name for variant in manifest.variants] == ["demo-8-one", "demo-8-two"]
    assert manifest.variants[1].models["main"].source == LocalFolder(tmp_path / "deep" / "two")


def test_section_of_a_config_file_may_be_an_axis(tmp_path: Path) -> None:
    """Variants of many values each are sections of one file."""
    write(tmp_path, {"config.yaml": "small: {max_length: 4}\nlarge: {max_length: 5}\n"})
    base = f"{HEAD}models: {{main: {{model_path: a/b, config_file: config.yaml}}}}\n"
    manifest = load(tmp_path, "section_name: [small, large]", base=base)
    assert {v.variant: v.models["main"].max_length for v in manifest.variants} == {"small": 4, "large": 5}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["bfloat16,64"], ["bfloat16,64"]),
        (["64"], ["float32,64", "bfloat16,64"]),
        (["bfloat16", "float32,128"], ["float32,128", "bfloat16,64", "bfloat16,128"]),
    ],
)
def test_some_of_the_variants_can_be_chosen(tmp_path: Path, wanted: list[str], found: list[str]) -> None:
    """By a whole label or by some of its values, in the matrix's order."""
    manifest = load(tmp_path, ENCODINGS, "main.max_length: [64, 128]", variants=wanted)
    assert [variant.variant for variant in manifest.variants] == found
    assert manifest.name == "demo"


def test_unknown_variant_is_told_with_those_there_are(tmp_path: Path) -> None:
    """A variant that is none gives the nearest, or all; a manifest without a matrix has none."""
    (problem,) = problems_of(lambda: load(tmp_path, ENCODINGS, variants=["bfloat61"]))
    assert (problem.place, problem.hint) == ("--variant bfloat61", "did you mean `bfloat16`?")
    path = write(tmp_path, {"plain.yaml": f"{BASE}targets: [cpu:x86-64-v2]\n"})
    (problem,) = problems_of(lambda: load_manifest(path, variants=["x"]))
    assert problem.hint == "variants: none"


def test_combination_without_a_target_is_refused_where_targets_are_an_axis(tmp_path: Path) -> None:
    """An entry that fits no combination makes one of its own, and has to say all that this needs."""
    (problem,) = problems_of(
        lambda: load(tmp_path, CPUS, ENCODINGS, "include: [{main.max_length: 5, quantization_encoding: q}]")
    )
    assert problem.line == 9
    assert problem.message == "this makes a combination without a `target`, which is an axis of this matrix"


def test_example_of_the_documentation_makes_the_variants_that_it_names(tmp_path: Path) -> None:
    """What docs/manifest.md says of its matrix is so."""
    section = DOCUMENTED.read_text(encoding="utf-8").split("## A matrix of variants")[1].split("\n## ")[0]
    manifest = load_manifest(write(tmp_path, {"gemma.yaml": section.split("```yaml\n")[1].split("```")[0]}))
    assert shapes(manifest) == {
        "float32,4096": ("cpu:x86-64-v3",),
        "float32,8192": ("cpu:x86-64-v3",),
        "bfloat16,4096": ("cpu:x86-64-v3", "cuda:sm_90"),
        "bfloat16,8192": ("cpu:x86-64-v3", "cuda:sm_90"),
        "bfloat16,32768": ("cuda:sm_90",),
    }
    assert all(f"`{label}`" in section for label in shapes(manifest))


def test_too_many_combinations_are_refused_before_they_are_made(tmp_path: Path) -> None:
    """A matrix has at most 256 combinations, as a workflow's has."""
    numbers = ", ".join(map(str, range(2, 1002)))
    axes = [f"main.max_length: [{numbers}]", f"main.served_model_name: [{numbers}]", f"main.subfolder: [{numbers}]"]
    (problem,) = problems_of(lambda: load(tmp_path, *axes))
    assert problem.message == "`matrix` makes more than 256 combinations"


def test_excluding_all_is_a_mistake(tmp_path: Path) -> None:
    """A matrix that leaves nothing builds nothing, and says so."""
    (problem,) = problems_of(lambda: load(tmp_path, "main.max_length: [5]", "exclude: [{main.max_length: 5}]"))
    assert problem.message == "`matrix` leaves no combination"


def test_matrix_that_says_nothing_makes_no_variants(tmp_path: Path) -> None:
    """A key with nothing after it is as if it were not there, also over one that is extended."""
    path = write(
        tmp_path,
        {
            "top.yaml": "version: 1\nextends: base.yaml\nmatrix:\n",
            "base.yaml": f"{BASE}targets: [cpu:x86-64-v2]\nmatrix: {{{ENCODINGS}}}\n",
        },
    )
    assert load_manifest(path).variants == ()


def test_mistake_in_every_variant_is_told_once(tmp_path: Path) -> None:
    """What all variants have in common is one problem."""
    problems = problems_of(
        lambda: load(tmp_path, ENCODINGS, "main.max_length: [1, 5]", base=f"{BASE}targets: [toaster]\n")
    )
    assert [problem.line for problem in problems] == [5, 8]

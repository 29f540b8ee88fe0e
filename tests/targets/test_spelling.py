"""Targets: how they are spelled."""

from __future__ import annotations

import pytest

from maxbuild.errors import UsageError
from maxbuild.targets.spelling import Target, all_targets, parse_target


def test_a_full_spelling_is_its_own_target() -> None:
    """Parsing and spelling are inverse."""
    assert parse_target("cpu:x86-64-v3") == Target("cpu", "x86-64-v3")
    assert [parse_target(target.spelling) for target in all_targets()] == list(all_targets())


def test_a_targets_folder_is_one_part_of_a_path() -> None:
    """The folder's name is the spelling without what some file systems refuse."""
    assert parse_target("cuda:sm_90").folder == "cuda-sm_90"


def test_code_for_the_cpu_keeps_to_the_targets_level_and_beside_a_gpu_to_v2() -> None:
    """Small hosts of GPUs lack wider vectors, whatever the GPU; a CPU's package says its level itself."""
    levels = {target.spelling: target.cpu_level for target in all_targets()}
    assert all(level == ("x86-64-v2" if ":x86" not in name else name[4:]) for name, level in levels.items())


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("rocm:gfx942", "hip:gfx942"), ("cud:sm_90", "cuda:sm_90"), ("hipp", "hip"), ("sm_90", "cuda:sm_90")],
)
def test_a_misspelled_api_gets_the_nearest_target(text: str, nearest: str) -> None:
    """What is nearly right gets what it nearly is."""
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert caught.value.hint == f"did you mean `{nearest}`?"


@pytest.mark.parametrize(
    "text", ["cuda:sm_75", "cuda:90", "cuda:sm_90a", "cuda:", "hip:gfx943", "hip:sm_90", "cpu:avx2"]
)
def test_an_unknown_architecture_gets_those_of_its_api(text: str) -> None:
    """The nearest spelling may be another GPU: all that can be built for are named, and those of other APIs are not."""
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    api = text.partition(":")[0]
    named = [target.spelling for target in all_targets() if target.spelling in str(caught.value.hint)]
    assert named == [target.spelling for target in all_targets() if target.api == api]


@pytest.mark.parametrize("text", ["", "CPU", "toaster:9000"])
def test_anything_else_gets_the_whole_list(text: str) -> None:
    """A text that is like no target is answered with all of them, bare APIs too."""
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    hint = str(caught.value.hint)
    assert hint.startswith("supported targets: cpu, cuda, hip, cpu:x86-64-v2")
    assert all(target.spelling in hint for target in all_targets())

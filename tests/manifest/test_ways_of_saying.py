"""One manifest said in many ways: as a file, as flags, as overrides, in two files, with a config file, in variables.

Whatever the values, all ways come to the same manifest and the same task documents, or to the same mistakes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifest_files import write
from spaces import MODELS

from maxbuild.engine import Digest, Result
from maxbuild.errors import ManifestError, MaxbuildError
from maxbuild.manifest import Manifest, load_manifest
from maxbuild.manifest.flags import Flag
from maxbuild.manifest.load import Words, read_variants
from maxbuild.manifest.options import ROLE, SECTIONS, Option, ValueType, draft_flag, options_at
from maxbuild.manifest.options.models import WAYS_OF_SAYING
from maxbuild.manifest.write import manifest_text, value_lines
from maxbuild.plan import make_plan

NOTHING = Digest("0" * 64)
PATHS = {"main": str(MODELS / "tiny-gemma3"), "draft": str(MODELS / "tiny-gemma3-draft")}
TARGET = "cpu:x86-64-v3"
FIXED = {("speculative", "speculative_method"): "standalone", ("speculative", "num_speculative_tokens"): 4}


class Saying(NamedTuple):
    """One value: whose it is (a role or a section), of which option, and what it is."""

    owner: str
    option: Option
    value: Any

    @property
    def name(self) -> str:
        """Return its name as an override has it."""
        return f"{self.owner}.{self.option.name}"

    @property
    def flag(self) -> Flag | None:
        """Return the flag that says it, None where the option has none."""
        option = self.option
        if option.flag is None:
            return None
        said = option.negative_flag if option.negative_flag and self.value is False else option.flag
        assert said is not None
        spelling = draft_flag(said) if self.owner == "draft" else said
        return Flag(spelling, None if option.negative_flag else text_of(self.value))


def text_of(value: object) -> str:
    """Return a value as one word of a command line."""
    if isinstance(value, str):
        return value
    (line,) = value_lines("x", [value])
    return line.removeprefix("x: [").removesuffix("]")


def values_of(option: Option) -> st.SearchStrategy[Any]:
    """Return values for an option, now and then one that it does not take."""
    low, high = option.minimum if option.minimum is not None else -2, option.maximum
    match option.value_type:
        case ValueType.INTEGER:
            return st.integers(int(low) - 1, int(high) + 1 if high is not None else 600)
        case ValueType.NUMBER:
            return st.sampled_from([0.25, 0.5, 1.0, 2.5, -1.0])
        case ValueType.BOOLEAN:
            return st.booleans()
        case ValueType.CHOICE:
            return st.sampled_from([*option.choices, "nonsense"])
        case ValueType.MAPPING:
            return st.dictionaries(
                st.sampled_from(["a", "b"]), st.integers(0, 9) | st.sampled_from(["x", "0123"]), min_size=1
            )
        case _:
            return st.sampled_from(["word", "0123", "no", "1.5", "a b", "cpu"])


SAID = [
    (owner, option)
    for place in (ROLE, *SECTIONS)
    for option in options_at(place)
    if option.accepted and not option.by_content and option.name not in WAYS_OF_SAYING
    if option.value_type is not ValueType.LIST and (place, option.name) not in FIXED
    # A template may be the name of a file, and a download once more is nothing that a plan has.
    if option.name not in {"chat_template", "force_download"}
    for owner in (("main", "draft") if place == ROLE else (place,))
]
sayings = st.lists(st.sampled_from(SAID), max_size=6, unique_by=lambda pair: (pair[0], pair[1].name)).flatmap(
    lambda pairs: st.tuples(
        *(values_of(option).map(lambda value, p=(owner, option): Saying(*p, value)) for owner, option in pairs)
    )
)


def text(
    said: Mapping[tuple[str, str], object], *, head: str = f"version: 1\nname: demo\ntargets: ['{TARGET}']\n"
) -> str:
    """Return the manifest of these values, by role or section and field."""
    tree: dict[str, dict[str, Any]] = {}
    for (owner, field), value in said.items():
        if owner in PATHS:
            tree.setdefault("models", {}).setdefault(owner, {})[field] = value
        else:
            tree.setdefault(owner, {})[field] = value
    return head + "".join("\n".join(value_lines(key, value)) + "\n" for key, value in tree.items())


def basis() -> dict[tuple[str, str], object]:
    """Return what every manifest here says."""
    return {**{(role, "model_path"): path for role, path in PATHS.items()}, **FIXED}


def whole(said: tuple[Saying, ...]) -> dict[tuple[str, str], object]:
    """Return the basis with what is said over it."""
    return {**basis(), **{(each.owner, each.option.name): each.value for each in said}}


def as_file(folder: Path, said: tuple[Saying, ...], _: int) -> Manifest:
    """Say all of it in one file."""
    return load_manifest(write(folder, {"top.yaml": text(whole(said))}))


def as_flags(folder: Path, said: tuple[Saying, ...], _: int) -> Manifest:
    """Say all of it on the command line; what has no flag is an override."""
    flags = [Flag("--name", "demo"), Flag("--model", PATHS["main"]), Flag("--draft-model-path", PATHS["draft"])]
    flags += [each.flag for each in said if each.flag is not None]
    overrides = [f"{each.name}={text_of(each.value)}" for each in said if each.flag is None]
    return load_manifest(None, flags=flags, overrides=overrides, targets=[TARGET])


def as_overrides(folder: Path, said: tuple[Saying, ...], _: int) -> Manifest:
    """Say it in the list of overrides."""
    overrides = [f"{each.name}={text_of(each.value)}" for each in said]
    listed = "\n".join(value_lines("overrides", overrides)) + "\n"
    return load_manifest(write(folder, {"top.yaml": text(basis()) + listed}))


def as_spoken_overrides(folder: Path, said: tuple[Saying, ...], _: int) -> Manifest:
    """Say it in overrides of the command line."""
    path = write(folder, {"top.yaml": text(basis())})
    return load_manifest(path, overrides=[f"{each.name}={text_of(each.value)}" for each in said])


def as_two_files(folder: Path, said: tuple[Saying, ...], split: int) -> Manifest:
    """Say each value in one of two files, or in both with another one below."""
    parts = whole(said)
    above = {name: value for index, (name, value) in enumerate(parts.items()) if split >> index & 1}
    below = {name: value for name, value in parts.items() if name not in above}
    files = {"top.yaml": text(above, head="version: 1\nextends: deep/base.yaml\n"), "deep/base.yaml": text(below)}
    return load_manifest(write(folder, files))


def as_config_files(folder: Path, said: tuple[Saying, ...], _: int) -> Manifest:
    """Say what is said of roles in sections of a file of their own."""
    parts = whole(said)
    own = {name: value for name, value in parts.items() if name[0] in PATHS}
    rest = {name: value for name, value in parts.items() if name[0] not in PATHS}
    for role in PATHS:
        rest |= {(role, "config_file"): "deep/config.yaml", (role, "section_name"): role}
    config = text(own, head="").split("models:\n")[1]
    return load_manifest(write(folder, {"top.yaml": text(rest), "deep/config.yaml": config.replace("\n  ", "\n")[2:]}))


def as_variables(folder: Path, said: tuple[Saying, ...], _: int) -> Manifest:
    """Let every value but mappings be a reference to a variable."""
    values = {each.name.replace(".", "__"): each for each in said if not isinstance(each.value, dict)}
    parts = whole(said) | {(each.owner, each.option.name): f"${{env:{name}}}" for name, each in values.items()}
    declared = f"environment: [{', '.join(values)}]\n"
    with mock.patch.dict(os.environ, {name: text_of(each.value) for name, each in values.items()}):
        return load_manifest(write(folder, {"top.yaml": text(parts) + declared}))


def as_written(folder: Path, said: tuple[Saying, ...], _: int) -> Manifest:
    """Write out what the file comes to, and read that."""
    (reading,) = read_variants(write(folder, {"top.yaml": text(whole(said))}), Words())
    return load_manifest(write(folder, {"deep/again.yaml": manifest_text(reading, folder / "deep")}))


WAYS: tuple[Callable[[Path, tuple[Saying, ...], int], Manifest], ...] = (
    as_flags,
    as_overrides,
    as_spoken_overrides,
    as_two_files,
    as_config_files,
    as_variables,
    as_written,
)


def documents(manifest: Manifest) -> list[object]:
    """Return what enters the keys of all tasks, as if traces and loads had left one region and one file each."""
    plan = make_plan(manifest)
    left = Result({"program": NOTHING, "regions/before": NOTHING, "index": NOTHING, "weights/x": NOTHING})
    results = {task.name: left for task in plan.tasks}
    return [
        (task.name, task.kind, task.params, task.inputs, task.toolchain) for task in [*plan.tasks, *plan.grow(results)]
    ]


def outcome(load: Callable[[], Manifest]) -> tuple[object, ...]:
    """Return what comes of a manifest: its values and task documents, or the mistakes in it."""
    try:
        manifest = load()
    except ManifestError as error:
        return tuple(sorted({problem.message for problem in error.problems}))
    try:
        planned = documents(manifest)
    except MaxbuildError as error:
        planned = [str(error)]
    return manifest.model_dump(exclude={"path", "origins", "overrides"}), planned


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(said=sayings, split=st.integers(0, 2**12 - 1))
def test_all_ways_of_saying_a_manifest_come_to_the_same(said: tuple[Saying, ...], split: int) -> None:
    """Values, task documents and mistakes are those of the file, however the manifest is said."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        expected = outcome(lambda: as_file(folder, said, split))
        for index, way in enumerate(WAYS):
            found = outcome(lambda way=way, at=folder / str(index): way(at, said, split))
            assert found == expected, way.__name__

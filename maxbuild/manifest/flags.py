"""Flags: what a command line says of a manifest's values, over a manifest's file or in place of one.

Each option of the table is a flag in the ancestor's spelling, `--max-length`, and `--draft-max-length` for the draft.
Two flags that say different things of one value are an error: neither of them is dropped without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from maxbuild.errors import ManifestError, Problem, UsageError
from maxbuild.manifest.document import Document, Place, Steps, Value, parse_value, read_document
from maxbuild.manifest.layers import Layer, lay_under
from maxbuild.manifest.names import judge_key
from maxbuild.manifest.nodes import Position, Scalar
from maxbuild.manifest.options import OPTIONS, SPECULATIVE, Option, ValueType, draft_flag, get_option, option_of_flag
from maxbuild.manifest.overrides import apply_overrides, read_value, spoken_overrides

FLAG: Final = "flag"
COMMAND_LINE: Final = "the command line"
_MODELS: Final = "--models"
# What a draft means that nothing else is said of.
_SPECULATION: Final = {"speculative_method": "standalone", "num_speculative_tokens": "4"}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag as it was typed; `text` is None for one that takes no value."""

    spelling: str
    text: str | None = None

    @property
    def words(self) -> str:
        """Return it as it was typed."""
        return self.spelling if self.text is None else f"{self.spelling} {self.text}"

    @property
    def place(self) -> Place:
        """Return where it stands."""
        return Place(self.words)


def takes_value(spelling: str) -> bool | None:
    """Tell whether the flag called `spelling` takes a value; None where no option of a manifest has such a flag."""
    found = option_of_flag(spelling)
    return None if found is None else get_option(*found).negative_flag is None


def all_flags() -> list[str]:
    """Return how every flag is spelled."""
    spelled = [flag for option in OPTIONS for flag in (option.flag, option.negative_flag) if flag]
    return [flag for flag in [*spelled, *map(draft_flag, spelled), "--model"] if option_of_flag(flag)]


def blank_document() -> Document:
    """Return the manifest of which no file says anything; `complete` fills in what flags leave open."""
    return Document(COMMAND_LINE, None)


def apply_flags(document: Document, flags: Sequence[Flag], overrides: Sequence[str], targets: Sequence[str]) -> None:
    """Put what the command line says into `document`; what is wrong with it, and what contradicts, becomes a problem.

    Overrides come last, of two on one field the later wins, as in a manifest.
    """
    said: dict[Steps, Flag] = {}
    for flag in sorted(flags, key=lambda flag: flag.spelling != _MODELS):  # a whole map before what is in it
        problem = _apply(document, flag, said)
        if problem is not None:
            document.problems.append(problem)
    _bring_speculation(document, said)
    spoken = spoken_overrides(overrides)
    for override, steps in apply_overrides(document, spoken):
        text = override.text.partition("=")[2]
        for other, flag in said.items():
            shared = min(len(other), len(steps))
            if other[:shared] == steps[:shared] and (flag.spelling == _MODELS or flag.text != text):
                document.problems.append(_contradiction(override.place, flag, steps))
    if targets:
        document.put(("targets",), [Scalar(Position(1, 1), text, plain=False) for text in targets], Place(""), FLAG)
        for index, target in enumerate(targets):
            document.values["targets", index] = Place(f"--target {target}")


def complete(document: Document) -> None:
    """Say for `document`, which no file says, what flags need not: its version, its name, and this host as target.

    UsageError where not even a model is named.
    """
    path = _main_path(document)
    if path is None and document.problems:
        raise ManifestError(document.problems)
    if path is None:
        hint = "give the file of a manifest, or `--model organization/name`"
        raise UsageError("neither a manifest nor a model is named", hint=hint)
    place = document.value_place(())

    def default(key: str, value: Value) -> None:
        if key not in document.root:
            document.put((key,), value, place, "default")

    default("version", Scalar(Position(1, 1), "1", plain=True))
    default("name", Scalar(Position(1, 1), _name(path), plain=False))
    if "targets" not in document.root:
        default("targets", [Scalar(Position(1, 1), _host_api(), plain=False)])


def _apply(document: Document, flag: Flag, said: dict[Steps, Flag]) -> Problem | None:
    found = option_of_flag(flag.spelling)
    if found is None:
        raise UsageError(f"no option is called `{flag.spelling}`", hint="`maxbuild options` lists them")
    option = get_option(*found)
    if fault := judge_key(*found):
        return flag.place.problem(*fault)
    steps = _steps(*found)
    earlier = said.get(steps) or next((flag for other, flag in said.items() if other == steps[: len(other)]), None)
    if earlier and option.value_type is not ValueType.LIST and earlier.words != flag.words:
        return _contradiction(flag.place, earlier, steps)
    if option.value_type is ValueType.MAPPING:
        return _put_mapping(document, steps, flag, said)
    value = _value(option, flag)
    if isinstance(value, Problem):
        return value
    if earlier and isinstance(value, list):
        value = [*_listed(document, steps), *value]
    said[steps] = flag
    _put(document, steps, value, flag)
    return None


def _put(document: Document, steps: Steps, value: Value, flag: Flag) -> None:
    with suppress(TypeError):  # the section or role in the file is no mapping, and that is told by itself
        document.put(steps, value, flag.place, FLAG)


def _put_mapping(document: Document, steps: Steps, flag: Flag, said: dict[Steps, Flag]) -> Problem | None:
    """Put the mapping that a flag gives, inline or as the name of a file that holds it."""
    text = flag.text or ""
    if text.lstrip().startswith("{"):
        value = parse_value(text, flag.place)
        if isinstance(value, Problem):
            return value
        _put(document, steps, value, flag)
    else:
        try:
            source = read_document(flag.place.find(text), "file")
        except ManifestError as error:
            first = error.problems[0]
            if not first.line:  # nothing of the file could be read, so the mistake is the flag's
                hint = "give JSON in place, `{…}`, or the name of a file"
                return flag.place.problem(f"{first.message}: `{text}`", hint, first.causes)
            document.problems += error.problems
            return None
        document.problems += source.problems
        value = {}
        _put(document, steps, value, flag)
        lay_under(document, steps, value, Layer(source, (), FLAG), source.root)
    if flag.spelling == _MODELS and isinstance(value, dict):
        for role, fields in value.items():
            said.update({(*steps, role, key): flag for key in (fields if isinstance(fields, dict) else ())})
            for key in fields if isinstance(fields, dict) else ():
                document.origins.setdefault((*steps, role, key), FLAG)
                document.values.setdefault((*steps, role, key), flag.place)
    else:
        said[steps] = flag
    return None


def _value(option: Option, flag: Flag) -> Value | Problem:
    if flag.text is None:
        return Scalar(Position(1, 1), str(not flag.spelling.startswith("--no-")).lower(), plain=True)
    if not flag.text.strip():
        return flag.place.problem(f"`{flag.spelling}` gives no value")
    return read_value(option, flag.text, flag.place)


def _steps(place: str, name: str) -> Steps:
    """Return where the option `name` at `place` stands in a document."""
    return (*place.split("."), name) if place else (name,)


def _listed(document: Document, steps: Steps) -> list[Value]:
    value: Value = document.root
    for step in steps:
        value = value[str(step)] if isinstance(value, dict) else []
    return value if isinstance(value, list) else []


def _contradiction(place: Place, other: Flag, steps: Steps) -> Problem:
    name = ".".join(map(str, steps[1:] if steps[0] == "models" else steps))
    return place.problem(f"`{other.words}` says something else of `{name}`", "leave one of the two out")


def _bring_speculation(document: Document, said: Iterable[Steps]) -> None:
    """Let a draft that flags bring mean speculative decoding, as it does for whoever gives one."""
    section = document.root.get(SPECULATIVE, {})
    if not any(steps[:2] == ("models", "draft") for steps in said) or not isinstance(section, dict):
        return
    for name, text in _SPECULATION.items():
        if name not in section:
            document.put((SPECULATIVE, name), Scalar(Position(1, 1), text, plain=True), Place(COMMAND_LINE), "default")


def _main_path(document: Document) -> str | None:
    """Return the path of the main model, None where nothing says one."""
    models = document.root.get("models")
    main = models.get("main") if isinstance(models, dict) else None
    path = main.get("model_path") if isinstance(main, dict) else None
    return path.text if isinstance(path, Scalar) else None


def _name(path: str) -> str:
    """Return what a manifest is called after its main model: the last part of the model's path."""
    last = Place(COMMAND_LINE).find(path).absolute().name
    return re.sub("[^A-Za-z0-9._-]+", "-", last).strip("-._")[:100] or "model"


def _host_api() -> str:
    """Return the API of this host's device as the ancestor chooses it: a GPU where there is one, else the CPU."""
    from maxbuild.targets.host import Host  # noqa: PLC0415 - only a command line without a target asks the host

    host = Host()
    return next((api for api in ("cuda", "hip") if host.find(api).reason is None), "cpu")

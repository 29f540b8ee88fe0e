"""The manifest as typed, frozen values: strict models in which nothing unknown, ill-typed or unsupported can stand."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WrapSerializer,
    field_validator,
)
from pydantic_core import PydanticCustomError

from maxbuild.errors import UsageError
from maxbuild.manifest.options import NAME_PATTERN, NOT_YET, ROLE, SPECULATIVE, Option, get_option
from maxbuild.manifest.suggest import did_you_mean

LARGEST_TEMPLATE: Final = 1 << 20
LONGEST_REPOSITORY: Final = 96

_REPOSITORY_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"{_REPOSITORY_PART}/{_REPOSITORY_PART}")
_HUB_ADDRESS = re.compile(f"https?://(?:www\\.)?(?:huggingface\\.co|hf\\.co)/({_REPOSITORY.pattern})(?:/.*)?")


class Encoding(StrEnum):
    """A number format of weights that can be built."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A model that lies in a folder of this host; the path is absolute."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A model that lies in a repository of the hub, `organization/name`."""

    repo_id: str


def wrong(message: str, hint: str | None = None, causes: tuple[str, ...] = ()) -> PydanticCustomError:
    """Return the error that a validator raises to have `message` and `hint` shown at the value's place."""
    return PydanticCustomError("maxbuild", "{message}", {"message": message, "hint": hint, "causes": causes})


def _choice_of(option: Option) -> BeforeValidator:
    """Return a validator that takes the option's choices only and names what is known but refused."""

    def check(value: object) -> object:
        if value in option.choices or not isinstance(value, str):
            return value
        if value in option.refused_choices:
            raise wrong(f"`{option.name}: {value}` is {NOT_YET}", _one_of(option.choices))
        hint = did_you_mean(value, option.choices) or _one_of(option.choices)
        raise wrong(f"`{value}` is no `{option.name}`", hint)

    return BeforeValidator(check)


def _one_of(names: tuple[str, ...]) -> str:
    return f"supported: {', '.join(f'`{name}`' for name in names)}"


def _check_line(text: str) -> str:
    """Return `text`, a name or path; such a thing is never empty and holds no line break or control character."""
    if not text.strip():
        raise wrong("this must not be empty")
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise wrong("this must be one line without control characters")
    return text


def _check_name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        hint = "up to 100 letters, digits, `.`, `_` and `-`, a letter or digit first"
        raise wrong(f"`{text}` is no name for a manifest", hint)
    return text


def _canonical_target(text: str) -> str:
    # Imported here, so that reading the table of options or the schema costs no table of targets.
    from maxbuild.targets.spelling import parse_target  # noqa: PLC0415

    try:
        return parse_target(text).spelling
    except UsageError as error:
        raise wrong(error.message, error.hint, error.causes) from None


def _without_repeats(targets: tuple[str, ...]) -> tuple[str, ...]:
    if not targets:
        raise wrong("`targets` names nothing to build for", "for example `targets: [cpu]`")
    return tuple(dict.fromkeys(targets))


def _dump_mapping(value: Mapping[str, object], dump: SerializerFunctionWrapHandler) -> object:
    return dump(dict(value))


# A frozen model is as frozen as what it holds; the library cannot write a mapping proxy by itself.
_FROZEN: Final = (AfterValidator(MappingProxyType), WrapSerializer(_dump_mapping))

Line = Annotated[str, AfterValidator(_check_line)]
Target = Annotated[str, AfterValidator(_canonical_target)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class ModelConfig(_Strict):
    """One component's model: where it is, and the values that shape what is built of it.

    Relative paths are relative to the `folder` of the validation context, where there is none to the working directory.
    """

    model_path: Line
    huggingface_model_revision: Line | None = None
    subfolder: Line | None = None
    trust_remote_code: bool = False
    quantization_encoding: Annotated[
        Encoding | None, Field(strict=False), _choice_of(get_option(ROLE, "quantization_encoding"))
    ] = None
    max_length: Annotated[int | None, Field(ge=get_option(ROLE, "max_length").minimum)] = None
    use_subgraphs: bool = True
    emit_ptx: bool = False
    chat_template: str | None = None
    """The template itself, also where the manifest names a file."""
    served_model_name: Line | None = None

    _source: LocalFolder | HubRepository = PrivateAttr()

    @property
    def source(self) -> LocalFolder | HubRepository:
        """Return where the model comes from, by the form of `model_path`."""
        return self._source

    def model_post_init(self, context: Any, /) -> None:
        """Remember where the model comes from."""
        self._source = find_source(self.model_path, _folder_of(context))

    @field_validator("model_path", mode="after")
    @classmethod
    def _check_model_path(cls, text: str, info: ValidationInfo) -> str:
        find_source(text, _folder_of(info.context))
        return text

    @field_validator("huggingface_model_revision", mode="after")
    @classmethod
    def _check_revision(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text and isinstance(_checked_source(info), LocalFolder):
            raise wrong(
                "`huggingface_model_revision` says nothing about a local folder",
                "leave it out, or name a hub repository in `model_path`",
            )
        return text

    @field_validator("subfolder", mode="after")
    @classmethod
    def _check_subfolder(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is None:
            return None
        if text.startswith(("/", "~")) or ".." in text.split("/") or "\\" in text:
            raise wrong(f"`{text}` is no folder inside the model", "for example `subfolder: text_encoder`")
        source = _checked_source(info)
        if isinstance(source, LocalFolder) and not os.path.isdir(source.path / text):
            raise wrong(f"no such folder in the model: `{text}`", causes=(f"looked for {source.path / text}",))
        return text

    @field_validator("chat_template", mode="after")
    @classmethod
    def _read_chat_template(cls, text: str | None, info: ValidationInfo) -> str | None:
        return None if text is None else read_template(text, _folder_of(info.context))


class SpeculativeConfig(_Strict):
    """How the draft's tokens come about and how they are accepted."""

    speculative_method: Annotated[Literal["standalone"], _choice_of(get_option(SPECULATIVE, "speculative_method"))]
    num_speculative_tokens: Annotated[int, Field(ge=get_option(SPECULATIVE, "num_speculative_tokens").minimum)]
    rejection_sampling_strategy: Annotated[
        Literal["greedy"], _choice_of(get_option(SPECULATIVE, "rejection_sampling_strategy"))
    ] = "greedy"


class Manifest(_Strict):
    """What the user wrote, overrides and command line included, with the origin of every value."""

    version: Literal[1]
    name: Annotated[str, AfterValidator(_check_name)]
    targets: Annotated[tuple[Target, ...], Field(strict=False), AfterValidator(_without_repeats)]
    models: Annotated[Mapping[str, ModelConfig], *_FROZEN]
    speculative: SpeculativeConfig | None = None
    overrides: Annotated[tuple[str, ...], Field(strict=False)] = ()
    path: Path
    origins: Annotated[Mapping[str, str], *_FROZEN]
    """Who had the last word on each value: `main.max_length` → `default`, `manifest`, `override#2` or `flag`."""


def find_source(text: str, folder: Path) -> LocalFolder | HubRepository:
    """Tell a local folder from a hub repository by form; raise a validator's error where `text` is neither."""
    # `os.path` answers no where `Path` raises: a name too long for the system, a home that nobody has.
    path = folder / os.path.expanduser(text)
    if os.path.isdir(path):
        return LocalFolder(Path(os.path.realpath(path)))
    if not text.startswith((".", "/", "~")) and _names_repository(text):
        return HubRepository(text)
    if address := _HUB_ADDRESS.fullmatch(text):
        raise wrong("an address is not a model path", f"did you mean `{address[1]}`?")
    looked = os.path.abspath(path)
    if os.path.isfile(path):
        raise wrong(f"a file, not a folder: `{text}`", "name the folder that holds the model's `config.json`")
    raise wrong(
        f"no such folder: `{text}`",
        "a model on the hub is written `organization/name`",
        (f"looked for {looked}",),
    )


def _names_repository(text: str) -> bool:
    """Tell whether `text` is a name that the hub would give to a repository."""
    fits = len(text) <= LONGEST_REPOSITORY and _REPOSITORY.fullmatch(text)
    return bool(fits) and "--" not in text and ".." not in text


def read_template(text: str, folder: Path) -> str:
    """Return the chat template that `text` is, or that lies in the file it names; raise a validator's error."""
    # Every template that depends on the conversation holds `{{` or `{%`, and no sane path does.
    if "{" in text or "\n" in text:
        return text
    path = folder / os.path.expanduser(_check_line(text))
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_TEMPLATE + 1)
        content = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise wrong(
            f"cannot read the chat template `{text}`",
            "a template written in place holds `{{ … }}` or `{% … %}`",
            (f"{os.path.abspath(path)}: {reason}",),
        ) from None
    if len(data) > LARGEST_TEMPLATE:
        raise wrong(f"the chat template `{text}` is larger than {LARGEST_TEMPLATE} bytes")
    return content


def _folder_of(context: Any) -> Path:
    return context["folder"] if context else Path()


def _checked_source(info: ValidationInfo) -> LocalFolder | HubRepository | None:
    """Return the source by the `model_path` validated before, None where that one failed."""
    text = info.data.get("model_path")
    return None if text is None else find_source(text, _folder_of(info.context))

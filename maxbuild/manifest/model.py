"""The manifest as typed, frozen values: strict models in which nothing unknown, ill-typed or unsupported can stand."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator

from maxbuild.errors import UsageError
from maxbuild.manifest.checks import wrong
from maxbuild.manifest.devices import check_devices, parse_devices
from maxbuild.manifest.fields import FROZEN, FreeMapping, Line, Section, check_line
from maxbuild.manifest.options import NAME_PATTERN, ROLE, defaults_at
from maxbuild.manifest.sections import CompileConfig, KvCacheConfig, RuntimeConfig, SamplingConfig, SpeculativeConfig

if TYPE_CHECKING:
    from maxbuild.architectures.modules import ArchitectureModule
    from maxbuild.manifest.weight_paths import WeightSource

LARGEST_TEMPLATE: Final = 1 << 20
LONGEST_REPOSITORY: Final = 96

_REPOSITORY_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(f"{_REPOSITORY_PART}/{_REPOSITORY_PART}")
_role = defaults_at(ROLE)

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


def _check_architecture(text: str, info: ValidationInfo) -> str:
    _find_architectures((text,), _folder_of(info.context, "custom_architectures"))
    return text


def _find_architectures(texts: tuple[str, ...], folder: Path) -> tuple[ArchitectureModule, ...]:
    if not texts:
        return ()
    # Imported here: hardly any manifest names one.
    from maxbuild.architectures.modules import find_modules  # noqa: PLC0415

    try:
        return find_modules(texts, folder)
    except UsageError as error:
        raise wrong(error.message, error.hint, error.causes) from None


Target = Annotated[str, AfterValidator(_canonical_target)]


class ModelConfig(Section):
    """One component's model: where it is, and the values that shape what is built of it.

    Relative paths are relative to the `folder` of the validation context, where there is none to the working directory.
    """

    place: ClassVar[str] = ROLE

    model_path: Line
    huggingface_model_revision: Line | None = None
    huggingface_weight_revision: Line | None = None
    weight_path: Annotated[tuple[Line, ...], Field(strict=False)] = _role["weight_path"]
    subfolder: Line | None = None
    force_download: bool = _role["force_download"]
    trust_remote_code: bool = _role["trust_remote_code"]
    quantization_encoding: Annotated[Encoding | None, Field(strict=False)] = None
    max_length: int | None = None
    vision_config_overrides: FreeMapping | None = None
    pool_embeddings: bool | None = None
    enable_echo: bool = _role["enable_echo"]
    devices: Line | None = None
    use_subgraphs: bool = _role["use_subgraphs"]
    chat_template: str | None = None
    """The template itself, also where the manifest names a file."""
    served_model_name: Line | None = None

    _source: LocalFolder | HubRepository = PrivateAttr()
    _weights: tuple[WeightSource, ...] = PrivateAttr()

    @property
    def source(self) -> LocalFolder | HubRepository:
        """Return where the model comes from, by the form of `model_path`."""
        return self._source

    @property
    def weights(self) -> tuple[WeightSource, ...]:
        """Return what `weight_path` names; nothing where the weights lie beside the configuration."""
        return self._weights

    def model_post_init(self, context: Any, /) -> None:
        """Remember where the model comes from."""
        self._source = find_source(self.model_path, _folder_of(context, "model_path"))
        self._weights = _find_weights(self.weight_path, _folder_of(context, "weight_path"))

    @field_validator("model_path", mode="after")
    @classmethod
    def _check_model_path(cls, text: str, info: ValidationInfo) -> str:
        find_source(text, _folder_of(info.context, "model_path"))
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

    @field_validator("weight_path", mode="after")
    @classmethod
    def _check_weight_path(cls, texts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        _find_weights(texts, _folder_of(info.context, "weight_path"))
        return texts

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

    @field_validator("devices", mode="after")
    @classmethod
    def _check_devices(cls, text: str | None) -> str | None:
        return None if text is None or parse_devices(text).kind == "default" else text.strip()

    @field_validator("chat_template", mode="after")
    @classmethod
    def _read_chat_template(cls, text: str | None, info: ValidationInfo) -> str | None:
        return None if text is None else read_template(text, _folder_of(info.context, "chat_template"))


class Manifest(Section):
    """What the user wrote, overrides and command line included, with the origin of every value."""

    version: Literal[1]
    name: Annotated[str, AfterValidator(_check_name)]
    targets: Annotated[tuple[Target, ...], Field(strict=False), AfterValidator(_without_repeats)]
    models: Annotated[Mapping[str, ModelConfig], *FROZEN]
    speculative: SpeculativeConfig | None = None
    compile: CompileConfig = CompileConfig()
    kv_cache: KvCacheConfig = KvCacheConfig()
    sampling: SamplingConfig = SamplingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    custom_architectures: Annotated[
        tuple[Annotated[Line, AfterValidator(_check_architecture)], ...], Field(strict=False)
    ] = ()
    overrides: Annotated[tuple[str, ...], Field(strict=False)] = ()
    path: Path
    origins: Annotated[Mapping[str, str], *FROZEN]
    """Who had the last word on each value: `main.max_length` → `default`, `manifest`, `override#2` or `flag`."""
    variant: str = ""
    """Which variant this is of those that a matrix makes, `bfloat16`; empty where there is no matrix."""
    variants: tuple[Manifest, ...] = ()
    """The variants that a matrix makes; the values beside are then the first one's, under the name of the whole."""

    _architectures: tuple[ArchitectureModule, ...] = PrivateAttr()

    @property
    def architectures(self) -> tuple[ArchitectureModule, ...]:
        """Return the modules that `custom_architectures` names."""
        return self._architectures

    def model_post_init(self, context: Any, /) -> None:
        """Remember where custom architectures come from."""
        self._architectures = _find_architectures(
            self.custom_architectures, _folder_of(context, "custom_architectures")
        )

    @field_validator("models", mode="after")
    @classmethod
    def _check_devices(cls, models: Mapping[str, ModelConfig], info: ValidationInfo) -> Mapping[str, ModelConfig]:
        devices = {role: model.devices for role, model in models.items() if model.devices is not None}
        check_devices(devices, info.data.get("targets", ()))
        return models


def find_source(text: str, folder: Path) -> LocalFolder | HubRepository:
    """Tell a local folder from a hub repository by form; raise a validator's error where `text` is neither."""
    # `os.path` answers no where `Path` raises: a name too long for the system, a home that nobody has.
    path = folder / os.path.expanduser(text)
    if os.path.isdir(path):
        return LocalFolder(Path(os.path.realpath(path)))
    if not text.startswith((".", "/", "~")) and names_repository(text):
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


def names_repository(text: str) -> bool:
    """Tell whether `text` is a name that the hub would give to a repository."""
    fits = len(text) <= LONGEST_REPOSITORY and _REPOSITORY.fullmatch(text)
    return bool(fits) and "--" not in text and ".." not in text


def read_template(text: str, folder: Path) -> str:
    """Return the chat template that `text` is, or that lies in the file it names; raise a validator's error."""
    # Every template that depends on the conversation holds `{{` or `{%`, and no sane path does.
    if "{" in text or "\n" in text:
        return text
    path = folder / os.path.expanduser(check_line(text))
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


def _find_weights(texts: tuple[str, ...], folder: Path) -> tuple[WeightSource, ...]:
    if not texts:
        return ()
    # Imported here: hardly any manifest names weights, and what reads their names imports this.
    from maxbuild.manifest.weight_paths import find_weights  # noqa: PLC0415

    return find_weights(texts, folder)


def _folder_of(context: Any, name: str) -> Path:
    """Return what a relative path in the field `name` is relative to: the folder of the file that says the field."""
    return context.get("folders", {}).get(name, context["folder"]) if context else Path()


def _checked_source(info: ValidationInfo) -> LocalFolder | HubRepository | None:
    """Return the source by the `model_path` validated before, None where that one failed."""
    text = info.data.get("model_path")
    return None if text is None else find_source(text, _folder_of(info.context, "model_path"))

"""What typed parts of a manifest are made of: frozen, strict models whose values are checked by the option table."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WrapSerializer,
    field_validator,
)

from maxbuild.manifest.checks import checked, wrong
from maxbuild.manifest.options import TOP, find_option


def check_line(text: str) -> str:
    """Return `text`, a name or path; such a thing is never empty and holds no line break or control character."""
    if not text.strip():
        raise wrong("this must not be empty")
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise wrong("this must be one line without control characters")
    return text


def _dump_mapping(value: Mapping[str, object], dump: SerializerFunctionWrapHandler) -> object:
    return dump(dict(value))


# A frozen model is as frozen as what it holds; the library cannot write a mapping proxy by itself.
FROZEN: Final = (AfterValidator(MappingProxyType), WrapSerializer(_dump_mapping))

Line = Annotated[str, AfterValidator(check_line)]
FreeMapping = Annotated[Mapping[str, Any], *FROZEN]


class Section(BaseModel):
    """One part of a manifest. `place` is where the option table has its fields, by whose rows values are checked."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    place: ClassVar[str] = TOP

    @field_validator("*", mode="before")
    @classmethod
    def _check_by_table(cls, value: object, info: ValidationInfo) -> object:
        option = find_option(cls.place, info.field_name or "")
        return value if option is None or (value is None and not option.required) else checked(option, value)

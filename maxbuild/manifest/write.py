"""A manifest as YAML text: what was said, in the order of the option table, with nothing left to apply.

Invariant: the text, read from the folder that it was written for, gives the values that it was made of.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from maxbuild.manifest.document import Document, Steps
from maxbuild.manifest.load import Reading
from maxbuild.manifest.nodes import Position, Scalar
from maxbuild.manifest.options import ROLE, SECTIONS, TOP, options_at

_INDENT: Final = "  "
_WIDEST: Final = 100
# Fields whose texts are paths, or may be; with `model_path`, relative to the file that says them.
_PATHS: Final = frozenset({"model_path", "weight_path", "chat_template", "custom_architectures", "lora_paths"})
# Texts that can stand without quotes in any place, and mean nothing but themselves.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+@=-]*(:[A-Za-z0-9_./+@=-]+)*")
# What readers of older YAML take for truth values, numbers or dates; they read these files too.
_MISREAD: Final = re.compile(r"(?i)y|n|yes|no|on|off|[-+.0-9][-+.:_0-9a-fotxz]*")


def manifest_text(reading: Reading, folder: Path) -> str:
    """Return the text of the manifest that `reading` came to, for a file in `folder`."""
    said, document = reading.said, reading.document
    top = {**said.top, "name": reading.manifest.name}
    lines = [*_fields(TOP, top, document, (), folder, skip=("overrides", "variant", "models"))]
    lines.append("models:")
    for role, fields in said.models.items():
        lines += [f"{_INDENT}{role}:"]
        lines += _indented(_fields(ROLE, fields, document, ("models", role), folder), 2)
    for section in SECTIONS:
        if values := said.sections.get(section):
            lines += [f"{section}:", *_indented(_fields(section, values, document, (section,), folder), 1)]
    return "\n".join(lines) + "\n"


def _fields(
    place: str,
    fields: Mapping[str, object],
    document: Document,
    steps: Steps,
    folder: Path,
    *,
    skip: Sequence[str] = (),
) -> Iterator[str]:
    """Yield the lines of `fields`, which stand at `place` of the table and at `steps` of the document."""
    for option in options_at(place):
        if option.name in fields and option.name not in skip:
            value = fields[option.name]
            if option.name in _PATHS:
                value = _moved(value, document.value_place((*steps, option.name)).folder, folder)
            yield from value_lines(option.name, value)


def _indented(lines: Iterator[str], depth: int) -> Iterator[str]:
    return (f"{_INDENT * depth}{line}" if line else line for line in lines)


def value_lines(key: str, value: object) -> Iterator[str]:
    """Yield the lines of a key and its value."""
    match value:
        case str() if (block := _block(value)) is not None:
            yield f"{_scalar(key)}: {block[0]}"
            yield from (f"{_INDENT}{line}" if line else line for line in block[1])
        case dict() if value:
            yield f"{_scalar(key)}:"
            for inner, item in value.items():
                yield from _indented(value_lines(inner, item), 1)
        case _:
            yield f"{_scalar(key)}: {_flow(value)}"


def _flow(value: object) -> str:
    """Return a value on one line."""
    match value:
        case list() | tuple():
            return f"[{', '.join(map(_flow, value))}]"
        case dict():
            return f"{{{', '.join(f'{_scalar(key)}: {_flow(item)}' for key, item in value.items())}}}"
        case str():
            return _scalar(value)
        case float():
            return _number(value)
        case _:
            return json.dumps(value)


def _number(value: float) -> str:
    text = repr(value)
    return text if "." in text or "e" in text else f"{text}.0"


def _scalar(text: str) -> str:
    """Return `text` plain where that means the same in any place, else in double quotes."""
    means_itself = Scalar(Position(1, 1), text, plain=True).value() == text and not _MISREAD.fullmatch(text)
    plain = means_itself and _PLAIN.fullmatch(text)
    return text if plain else f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character == "\n":
        return "\\n"
    code = ord(character)
    # Escaped too: what YAML calls not printable, or takes for the end of a line.
    if character.isprintable() and code not in (0x85, 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF):
        return character
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _block(text: str) -> tuple[str, Sequence[str]] | None:
    """Return the header and the lines of `text` as a literal block, None where it does not fit into one."""
    lines = text.split("\n")
    writable = all(character.isprintable() for line in lines for character in line)
    # Blanks at an end of the text are what people and editors lose, so such a text is quoted.
    if len(lines) < 2 or not writable or not lines[0].strip() or any(line != line.rstrip() for line in lines):
        return None
    if lines[-1]:
        return "|2-", lines
    return None if not lines[-2] else ("|2", lines[:-1])


def _moved(value: object, source: Path, folder: Path) -> object:
    """Return `value`, paths relative to `source`, so that it means the same said in a file in `folder`."""
    if isinstance(value, list):
        return [_moved(item, source, folder) for item in value]
    if not isinstance(value, str) or "\n" in value or "{" in value:
        return value
    if value.startswith(("/", "~")) or os.path.realpath(source) == os.path.realpath(folder):
        return value
    path, colon, rest = value.partition(":")
    found = source / path
    if "\0" in path or not os.path.lexists(found):  # a repository, an address, the name of a module
        return value
    moved = os.path.relpath(found.absolute(), folder.absolute())
    return f"{moved if '/' in moved else f'./{moved}'}{colon}{rest}"

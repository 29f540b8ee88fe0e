"""`config_file` and `section_name`: values of a role from a file of their own, under all that is said elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from maxbuild.errors import ManifestError
from maxbuild.manifest.document import Document, Place, Steps, Value, describe, read_document
from maxbuild.manifest.environment import Variable, expand_with
from maxbuild.manifest.layers import Layer, lay_under
from maxbuild.manifest.nodes import Scalar
from maxbuild.manifest.suggest import did_you_mean

CONFIG_FILE: Final = "config_file"
SECTION_NAME: Final = "section_name"
_WHAT: Final = "config file"


def lay_config_files_under(document: Document, declared: Mapping[str, Variable]) -> None:
    """Put into each role of `document` what its config file says and nothing else does.

    The two keys that name it are then gone, for they say nothing of what is to be built. What is wrong becomes a
    problem of `document`, in whichever file it stands.
    """
    models = document.root.get("models")
    assert isinstance(models, dict)
    for role, fields in models.items():
        if isinstance(fields, dict) and {CONFIG_FILE, SECTION_NAME} & fields.keys():
            try:
                _lay_under(document, ("models", role), fields, declared)
            except ManifestError as error:
                document.problems += error.problems


def _lay_under(document: Document, steps: Steps, fields: dict[str, Value], declared: Mapping[str, Variable]) -> None:
    file, section = (_text(document, (*steps, key), fields.pop(key, None)) for key in (CONFIG_FILE, SECTION_NAME))
    if file is None:
        if section is not None:
            place = document.value_place((*steps, SECTION_NAME))
            raise ManifestError([place.problem(f"`{SECTION_NAME}` needs a `{CONFIG_FILE}`")])
        return
    config = _read(document.value_place((*steps, CONFIG_FILE)), file)
    expand_with(config, declared)
    document.problems += config.problems
    values, layer = config.root, Layer(config, (), CONFIG_FILE)
    if section is not None:
        values = _section(config, section, document.value_place((*steps, SECTION_NAME)))
        layer = Layer(config, (section,), f"section {section}")
    for key in (CONFIG_FILE, SECTION_NAME):
        if key in values:
            raise ManifestError([config.key_place((*layer.steps, key)).problem(f"a {_WHAT} names no other")])
    lay_under(document, steps, fields, layer, values)


def _read(place: Place, text: str) -> Document:
    path = place.find(text)
    if not path.exists() and not path.is_symlink():
        causes = (f"looked for {path.absolute()}",)
        raise ManifestError([place.problem(f"no such {_WHAT}: `{text}`", causes=causes)])
    return read_document(path, _WHAT)


def _section(config: Document, name: str, place: Place) -> dict[str, Value]:
    """Return the section `name` of `config`, which was asked for at `place`."""
    found = config.root.get(name)
    if isinstance(found, dict):
        return found
    if name in config.root:
        message = f"section `{name}` must be a mapping of keys to values, not {describe(found)}"
        raise ManifestError([config.value_place((name,)).problem(message)])
    sections = [key for key, value in config.root.items() if isinstance(value, dict)]
    known = ", ".join(f"`{section}`" for section in sections) or "none"
    raise ManifestError(
        [place.problem(f"no section `{name}` in {config.file}; its sections: {known}", did_you_mean(name, sections))]
    )


def _text(document: Document, steps: Steps, value: Value | None) -> str | None:
    """Return the text that stands at `steps`, None where nothing does."""
    if value is None or (isinstance(value, Scalar) and value.empty):
        return None
    if isinstance(value, Scalar) and value.text.strip() and "\0" not in value.text:
        return value.text
    place = document.value_place(steps)
    raise ManifestError([place.problem(f"`{steps[-1]}` must be a text of one line, not {describe(value)}")])

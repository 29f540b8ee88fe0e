"""`devices`: on which kind of device, and on which one of them, a component is to run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from maxbuild.manifest.checks import wrong

_FORM: Final = re.compile(r"(cpu|gpu|default)(?::(\d{1,4}(?:,\d{1,4})*))?")
_EXAMPLE: Final = "for example `devices: gpu`, or `devices: gpu:1` for the second one"


@dataclass(frozen=True, slots=True)
class Devices:
    """What `devices` says: a kind, `default` for the target's own, and the number of one where a number is given."""

    kind: str
    number: int | None


def parse_devices(text: str) -> Devices:
    """Return what `text` says; raise a validator's error where it says nothing, or more than one device."""
    form = _FORM.fullmatch(text.strip())
    if form is None or (form[2] and form[1] != "gpu"):
        raise wrong(f"`{text}` is no `devices`", _EXAMPLE)
    numbers = form[2].split(",") if form[2] else []
    if len(numbers) > 1:
        raise wrong(f"`devices: {text}` is refused: a package runs on one device", _EXAMPLE)
    return Devices(form[1], int(numbers[0]) if numbers else None)


def check_devices(devices: Mapping[str, str], targets: Iterable[str]) -> None:
    """Raise a validator's error where the `devices` of a role are not what the targets are built for.

    What is compiled is decided by the targets, so another kind of device could not run it.
    """
    said = {role: parse_devices(text) for role, text in devices.items()}
    for role, found in said.items():
        unfit = [target for target in targets if found.kind not in {"default", _kind_of(target)}]
        if unfit:
            raise wrong(
                f"`devices: {devices[role]}` does not fit the target `{unfit[0]}`",
                "leave `devices` out, or leave only targets of that kind in `targets`",
                at=(role, "devices"),
            )
    if len({found.number for found in said.values() if found.number is not None}) > 1:
        raise wrong(
            "the components of a package run on the same device",
            "give their `devices` the same number",
            at=(list(said)[-1], "devices"),
        )


def _kind_of(target: str) -> str:
    return "cpu" if target.partition(":")[0] == "cpu" else "gpu"

"""Text to tokens and back, with the model's own tokenizer and chat template, without transformers."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maxbuild.errors import PackageError, UsageError
from maxbuild.runtime.package import ComponentEntry


class Text:
    """The text side of one component."""

    def __init__(self, folder: Path, entry: ComponentEntry) -> None:
        """Read tokenizer, template and stop tokens from the package in `folder`, whose files have been checked."""
        from tokenizers import Tokenizer  # noqa: PLC0415 - a caller that brings tokens needs no tokenizer

        if "tokenizer.json" not in entry.files:
            raise PackageError(
                "the package has no tokenizer.json", hint="the model's folder must hold one when it is built"
            )
        try:
            self._documents = {
                name: json.loads((folder / path).read_bytes())
                for name, path in entry.files.items()
                if name.endswith(".json")
            }
            self._tokenizer = Tokenizer.from_file(str(folder / entry.files["tokenizer.json"]))
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise PackageError("the package's tokenizer files cannot be read", causes=[str(error)]) from error
        # A fine-tune often leaves its own settings in the file; a prompt is neither cut nor padded for that.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._template = self._chat_template(folder, entry)

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Return the tokens that end a text, as the generation config or the config names them."""
        for name in ("generation_config.json", "config.json"):
            tokens = self._documents.get(name, {}).get("eos_token_id")
            if tokens is not None:
                return frozenset(tokens if isinstance(tokens, list) else [tokens])
        return frozenset()

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a plain text, with whatever the tokenizer puts around one."""
        return list(self._tokenizer.encode(text).ids)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the tokens of a conversation in the model's chat format, ready for the model's turn."""
        if self._template is None:
            raise UsageError("the model has no chat template", hint="set `chat_template` for this role in the manifest")
        return list(self._tokenizer.encode(self._render(messages), add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`, without special tokens."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def stream(self, tokens: Iterator[int]) -> Iterator[str]:
        """Yield text as tokens come; a character that is spread over several tokens comes whole."""
        seen: list[int] = []
        printed = ""
        for token in tokens:
            seen.append(token)
            text = self.decode(seen)
            if text.startswith(printed) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
                yield text[len(printed) :]
                printed = text
        rest = self.decode(seen)
        if len(rest) > len(printed):
            yield rest[len(printed) :]

    def _chat_template(self, folder: Path, entry: ComponentEntry) -> str | None:
        if "chat_template.jinja" in entry.files:
            return (folder / entry.files["chat_template.jinja"]).read_text(encoding="utf-8")
        for name in ("chat_template.json", "tokenizer_config.json"):
            template = self._documents.get(name, {}).get("chat_template")
            if isinstance(template, list):  # several named templates
                template = next((t["template"] for t in template if t["name"] == "default"), None)
            if isinstance(template, str):
                return template
        return None

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Render the template as transformers does (`apply_chat_template`), in a sandbox: it came with the model."""
        from jinja2 import TemplateError  # noqa: PLC0415
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

        def raise_exception(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=raise_exception, strftime_now=_strftime_now)
        try:
            return environment.from_string(self._template or "").render(
                messages=messages, add_generation_prompt=True, **self._special_tokens()
            )
        except TemplateError as error:
            raise UsageError("the chat template refuses this conversation", causes=[str(error)]) from error

    def _special_tokens(self) -> dict[str, str]:
        entries = self._documents.get("tokenizer_config.json", {})
        named = {key: value for key, value in entries.items() if key.endswith("_token")}
        return {
            key: _token_text(value) for key, value in named.items() if value is not None and not isinstance(value, bool)
        }


def _token_text(value: Any) -> str:
    return str(value["content"] if isinstance(value, dict) else value)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)

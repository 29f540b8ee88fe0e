"""A draft that does not go with its main model is told of before anything is built, and which token it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from spaces import MODELS

from maxbuild.engine import Job, hash_file
from maxbuild.errors import TaskFailed, render
from maxbuild.steps import match

WORDS = {"<pad>": 0, "a": 1, "b": 2, "c": 3}


def tokenizer(vocabulary: Mapping[str, int] | list[Any] | None, *added: tuple[str, int]) -> dict[str, Any]:
    """Return what a `tokenizer.json` holds of these tokens."""
    entries = [{"content": text, "id": number} for text, number in added]
    return {"model": {"vocab": vocabulary}, "added_tokens": entries, "version": "1.0"}


def run(folder: Path, files: Mapping[str, Any], **params: Any) -> Any:
    """Run the step over these files, JSON or text, and return the agreement."""
    inputs = {}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        inputs[name] = path
    scratch = folder / "scratch"
    scratch.mkdir()
    digests = {name: hash_file(path) for name, path in inputs.items()}
    left = match.run(Job(params, inputs, scratch, lambda *_: None, digests=digests))
    return json.loads(left["agreement"].read_bytes())


def pair(main: Any = None, draft: Any = None, sizes: tuple[Any, Any] = (4, 4)) -> dict[str, Any]:
    """Return the files of two models with these tokenizers, where they have any, and sizes of vocabularies."""
    configs = {f"{role}/config.json": size for role, size in zip(("main", "draft"), sizes, strict=True)}
    files = {name: size if isinstance(size, dict) else {"vocab_size": size} for name, size in configs.items()}
    tokenizers = {"main/tokenizer.json": main, "draft/tokenizer.json": draft}
    return {**files, **{name: content for name, content in tokenizers.items() if content is not None}}


def refused(folder: Path, files: Mapping[str, Any], **params: Any) -> str:
    """Return what is said where the two do not go together."""
    with pytest.raises(TaskFailed) as caught:
        run(folder, files, **params)
    return render(caught.value)


def test_models_of_one_tokenizer_go_together(tmp_path: Path) -> None:
    """The demo's models do, and nothing is said of markers that nobody asked for."""
    names = ("config.json", "tokenizer.json")
    folders = {"main": "tiny-gemma3", "draft": "tiny-gemma3-draft"}
    files = {
        f"{role}/{name}": (MODELS / folder / name).read_text() for role, folder in folders.items() for name in names
    }
    assert run(tmp_path, files) == {"thinking_tokens": None, "compared": True}


def test_vocabularies_that_are_padded_differently_go_together(tmp_path: Path) -> None:
    """Gemma 3 of 12B has 64 tokens more than that of 1B, for images: those that both have must be the same."""
    more = tokenizer({**WORDS, "<image>": 4})
    assert run(tmp_path, pair(more, tokenizer(WORDS), sizes=(5, 4))) == {"thinking_tokens": None, "compared": True}


@pytest.mark.parametrize("sizes", [(5, 5), (5, {}), ({}, {})])
def test_tokens_within_both_vocabularies_must_be_the_same(tmp_path: Path, sizes: tuple[Any, Any]) -> None:
    """A token that one of them lacks is told, unless it lies beyond the other's vocabulary."""
    told = refused(tmp_path, pair(tokenizer({**WORDS, "<image>": 4}), tokenizer(WORDS), sizes=sizes))
    assert '"<image>" is token 4 of `main`, no token of `draft`' in told


def test_what_is_not_said_is_left_to_later(tmp_path: Path) -> None:
    """Configs without a size and models without a tokenizer cannot be compared here."""
    assert run(tmp_path, pair(sizes=({}, {"text_config": {"vocab_size": 9}}))) == {
        "thinking_tokens": None,
        "compared": False,
    }


def test_vocabularies_of_other_sizes_are_told_with_both(tmp_path: Path) -> None:
    """Whether the size stands in the config or in that of its text model."""
    told = refused(tmp_path, pair(sizes=(704, {"text_config": {"vocab_size": 512}})))
    assert "`draft` has a vocabulary of 512 tokens, `main` one of 704" in told
    assert "hint: speculative decoding needs a draft with the main model's tokenizer" in told


def test_other_tokens_of_the_same_number_are_told_by_name(tmp_path: Path) -> None:
    """The sizes agree and the tokens do not: the first ones are named as both have them."""
    other = {"<pad>": 0, "a": 2, "b": 1, "é": 3}
    told = refused(tmp_path, pair(tokenizer(WORDS), tokenizer(other)))
    assert "`draft` has another tokenizer than `main`" in told
    assert 'Caused by: "a" is token 1 of `main`, token 2 of `draft`' in told
    assert 'Caused by: "c" is token 3 of `main`, no token of `draft`' in told
    assert "and 1 more" in told


def test_the_same_tokens_in_another_file_go_together(tmp_path: Path) -> None:
    """Tokens count, whether the file lists them as the model's or as added; merges and settings do not."""
    pieces = [["<pad>", 0.0], ["a", -1.0], ["b", -2.0]]
    assert run(tmp_path, pair(tokenizer(WORDS), tokenizer(pieces, ("c", 3))))["compared"]


def test_markers_of_thinking_are_found_or_asked_for(tmp_path: Path) -> None:
    """Their tokens come from the tokenizer; a model that has none is told so, with the option to leave out."""
    wanted = {"use_relaxed_acceptance_for_thinking": True}
    thinks = tokenizer(WORDS, ("<think>", 4), ("</think>", 5))
    (tmp_path / "with").mkdir()
    assert run(tmp_path / "with", pair(thinks, thinks, (6, 6)), **wanted)["thinking_tokens"] == [4, 5]
    told = refused(tmp_path, pair(tokenizer(WORDS, ("<think>", 4)), tokenizer(WORDS, ("<think>", 4))), **wanted)
    assert "no token `</think>`" in told
    assert "leave `use_relaxed_acceptance_for_thinking` out" in told


def test_markers_need_a_tokenizer(tmp_path: Path) -> None:
    """Without one there is nothing to find them in."""
    told = refused(tmp_path, pair(), use_relaxed_acceptance_for_thinking=True)
    assert "`main` has no tokenizer.json" in told


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {"vocab": 3}}', '{"model": []}', '{"model": {}}'])
def test_a_broken_tokenizer_is_told_in_words(tmp_path: Path, content: str) -> None:
    """It ends in an error of ours, never in a traceback."""
    assert "tokenizer.json" in refused(tmp_path, pair(tokenizer(WORDS), content))


@pytest.mark.parametrize(
    ("lengths", "count", "fits"),
    [((64, 64), 63, True), ((64, 64), 64, False), ((64, 8), 8, False), ((8, 64), 9, False)],
)
def test_more_proposals_than_a_row_holds_are_refused(
    tmp_path: Path, lengths: tuple[int, int], count: int, fits: bool
) -> None:
    """What a manifest does not say of the longest rows, the programs do; the size of the vocabulary likewise."""
    inputs = {}
    for role, length in zip(("main", "draft"), lengths, strict=True):
        inputs[f"{role}/program.json"] = tmp_path / f"{role}.json"
        inputs[f"{role}/program.json"].write_text(json.dumps({"max_length": length, "vocab_size": 4}))
    job = Job({}, inputs, tmp_path, lambda *_: None)
    if fits:
        match.check_programs(job, count)
        return
    with pytest.raises(TaskFailed, match=f"propose {count} tokens at a time, and rows have {min(lengths)} at most"):
        match.check_programs(job, count)


def test_programs_of_other_vocabularies_are_refused(tmp_path: Path) -> None:
    """The last word, where configs said nothing and there were no tokenizers to compare."""
    inputs = {}
    for role, size in (("main", 4), ("draft", 5)):
        inputs[f"{role}/program.json"] = tmp_path / f"{role}.json"
        inputs[f"{role}/program.json"].write_text(json.dumps({"max_length": 8, "vocab_size": size}))
    with pytest.raises(TaskFailed, match="`draft` has a vocabulary of 5 tokens, `main` one of 4"):
        match.check_programs(Job({}, inputs, tmp_path, lambda *_: None), 1)
    inputs["agreement.json"] = tmp_path / "agreement.json"
    inputs["agreement.json"].write_text('{"compared": true, "thinking_tokens": null}')
    match.check_programs(Job({}, inputs, tmp_path, lambda *_: None), 1)

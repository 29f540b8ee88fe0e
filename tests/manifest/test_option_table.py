"""The option table: whole, in agreement with the models, and never a way to be ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxbuild.errors import ManifestError
from maxbuild.manifest import Encoding, Manifest, ModelConfig, load_manifest
from maxbuild.manifest.fields import Section
from maxbuild.manifest.names import judge_role
from maxbuild.manifest.options import (
    COMMAND_LINE,
    KNOWN_ROLES,
    OPTIONS,
    PLACES,
    ROLE,
    SECTIONS,
    TOP,
    Option,
    State,
    ValueType,
    draft_flag,
    get_option,
    option_of_flag,
    options_at,
)
from maxbuild.manifest.options.models import WAYS_OF_SAYING
from maxbuild.manifest.sections import SECTION_MODELS

# Every option of `max warm-cache` as its page lists them: the flags of one option, and its choices where it has some.
PAGE = (Path(__file__).parent / "max_warm_cache.txt").read_text(encoding="utf-8").splitlines()
FLAGS = {flag: line for line in PAGE for flag in line.partition(":")[0].split()}
CHOICES = {line.partition(":")[0]: line.partition(": ")[2].split(" | ") for line in PAGE if ":" in line}

# There these take a text that means a truth value, so they have no `--no-` form.
VALUED = {"use_experimental_kernels", "use_vendor_blas", "use_vendor_ccl"}
# A manifest is a format of its own, which no command line has to say.
FLAGLESS = {"version", "extends", "environment", "matrix", "emit_ptx", "alternatives"}
OURS = {"--name"}

# What a manifest knows besides what it says.
READ_OFF = {"path", "origins", "variant", "variants"}

REFUSED = [option for option in OPTIONS if not option.accepted and option.place != COMMAND_LINE]
ACCEPTED = [option for option in OPTIONS if option.accepted]


def named(option: Option) -> str:
    """Return the name under which a test shows its option."""
    return option.name


def model_at(place: str) -> type[Section]:
    """Return the type that holds the values at `place`."""
    return {TOP: Manifest, ROLE: ModelConfig, **SECTION_MODELS}[place]


def manifest_with(place: str, name: str, value: str) -> str:
    """Return a manifest that says one thing more."""
    own = f"{name}: {value}"
    top = {TOP: own, ROLE: ""}.get(place, f"{place}: {{{own}}}")
    return (
        "version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\n"
        f"models: {{main: {{model_path: a/b{', ' + own if place == ROLE else ''}}}}}\n{top}\n"
    )


def messages_of(folder: Path, text: str) -> list[tuple[str, str | None]]:
    """Return what is wrong with the manifest `text`: messages and hints."""
    path = folder / "manifest.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    return [(problem.message, problem.hint) for problem in caught.value.problems]


@pytest.mark.parametrize("flag", FLAGS)
def test_option_of_the_ancestor_is_known_by_its_flag(flag: str) -> None:
    """Each flag of the page leads to a row of its name, `--draft-` ones to the role `draft`."""
    spelled = {"--model": "model_path", "--target": "targets", "--model-override": "overrides"}
    bare = flag.removeprefix("--no-").removeprefix("--").removeprefix("draft-")
    found = option_of_flag(flag)
    assert found is not None
    place, name = found
    assert name == spelled.get(flag, bare.replace("-", "_"))
    assert get_option(place, name).name == name
    assert (place == "models.draft") == ("--draft-" in flag or "--no-draft-" in flag)


def test_no_flag_is_made_up() -> None:
    """The table's flags are the page's."""
    own = {option.flag_alias for option in OPTIONS if option.flag_alias}
    for option in OPTIONS:
        flags = {flag for flag in (option.flag, option.negative_flag) if flag}
        own |= flags | ({draft_flag(flag) for flag in flags} if option.place == ROLE else set())
    assert own - OURS == set(FLAGS)
    assert {option.name for option in OPTIONS if option.flag is None} <= FLAGLESS


@pytest.mark.parametrize("flag", CHOICES)
def test_choices_of_the_ancestor_are_accepted_or_refused_by_name(flag: str) -> None:
    """No choice of the page is unknown here, and none here is unknown there."""
    found = option_of_flag(flag)
    assert found is not None
    option = get_option(*found)
    choices = {choice.removeprefix("KVConnectorType.") for choice in CHOICES[flag]}
    assert {*option.choices, *option.refused_choices} == choices
    assert not set(option.choices) & set(option.refused_choices)


def test_truth_values_are_those_of_the_ancestor() -> None:
    """What has a `--no-` form there is `true` or `false` here."""
    for option in OPTIONS:
        if option.flag:
            negative = f"--no-{option.flag[2:]}" in FLAGS
            assert (option.value_type is ValueType.BOOLEAN) == (negative or option.name in VALUED), option.name


def test_names_are_unique_and_places_are_known() -> None:
    """One name means one option, and stands at one place."""
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)
    assert {option.place for option in OPTIONS} == set(PLACES) == {TOP, ROLE, COMMAND_LINE, *SECTIONS}


def test_help_is_one_line_that_ends() -> None:
    """Every option says in one sentence what it is."""
    for option in OPTIONS:
        assert option.help.endswith((".", "…")) or option.help[-1].isdigit(), option.name
        assert "\n" not in option.help
        assert len(option.help) <= 120, option.name


def test_refused_option_has_a_reason_and_others_have_none() -> None:
    """The state and its reason go together, and each reason is words that end a sentence."""
    assert all(bool(option.reason) is not option.accepted for option in OPTIONS)
    reasons = [reason for option in OPTIONS for reason in (option.reason, *option.refused_choices.values()) if reason]
    for reason in reasons:
        assert len(reason.split()) > 3, reason
        assert not reason.endswith("."), reason


def test_every_option_says_what_holds_without_it() -> None:
    """It is needed, or has a default, or says in words what an unset one comes to."""
    for option in OPTIONS:
        told = (option.required, option.default is not None, bool(option.unset))
        assert sum(told) == 1, option.name


def test_carried_options_enter_packages_alone() -> None:
    """What steers a server shapes no artifact."""
    carried = [option for option in OPTIONS if option.state is State.CARRIED]
    assert len(carried) > 20
    assert all([kind.value for kind in option.kinds] == ["package"] for option in carried)


def test_accepted_options_are_the_fields_of_the_models() -> None:
    """What the table accepts, a model holds, with the default of the table, and nothing else."""
    for place in (TOP, ROLE, *SECTION_MODELS):
        fields = {name: field for name, field in model_at(place).model_fields.items() if name not in READ_OFF}
        accepted = {option.name for option in options_at(place) if option.accepted}
        assert accepted - WAYS_OF_SAYING == fields.keys() - set(SECTIONS)
        for option in options_at(place):
            if option.name in fields:
                assert fields[option.name].is_required() == option.required, option.name
                if not option.required:
                    assert fields[option.name].default == option.default, option.name


def test_section_without_a_model_has_no_accepted_option() -> None:
    """A section that a manifest can have has a type of its own, and the manifest a field for it."""
    for section in SECTIONS:
        accepted = any(option.accepted for option in options_at(section))
        assert (section in SECTION_MODELS) >= accepted
        assert (section in Manifest.model_fields) == (section in SECTION_MODELS)


def test_choices_are_the_values_of_the_models() -> None:
    """The encodings of the table are those that a manifest can hold."""
    assert get_option(ROLE, "quantization_encoding").choices == tuple(Encoding)


@pytest.mark.parametrize("role", [*KNOWN_ROLES, "text_encoder_3", "reranker"])
def test_a_model_can_stand_under_any_name(role: str) -> None:
    """Known roles, numbered ones and others are components alike."""
    assert judge_role(role) is None


@pytest.mark.parametrize("role", ["mian", "drafts", "samplers", "regions", "architectures", "Main", "2nd"])
def test_a_name_that_means_another_is_refused(role: str) -> None:
    """A slip of the pen does not become a further component, and what packages use is not taken."""
    found = judge_role(role)
    assert found is not None
    assert f"`{role}`" in found[0]


@pytest.mark.parametrize("option", REFUSED, ids=named)
def test_refused_option_in_its_place_is_refused_by_name(option: Option, tmp_path: Path) -> None:
    """Known and without effect means refused with its own reason, never accepted and ignored."""
    found = messages_of(tmp_path, manifest_with(option.place, option.name, "1"))
    assert (f"option `{option.name}` is refused: {option.reason}", None) in found


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.place != TOP], ids=named)
def test_option_in_the_wrong_place_is_told_where_it_belongs(option: Option, tmp_path: Path) -> None:
    """An option at the top that belongs elsewhere is sent there."""
    ((message, _),) = messages_of(tmp_path, manifest_with(TOP, option.name, "1"))
    where = "on the command line" if option.place == COMMAND_LINE else f"under {option.place}"
    assert message.startswith(f"`{option.name}` belongs {where}")


@pytest.mark.parametrize("option", [o for o in ACCEPTED if o.place == ROLE and "_" in o.name], ids=named)
def test_dashes_of_the_ancestor_get_the_right_spelling(option: Option, tmp_path: Path) -> None:
    """`max-length` under a model leads to `max_length`."""
    dashed = option.name.replace("_", "-")
    problem = (f"unknown key `{dashed}`", f"did you mean `{option.name}`?")
    assert messages_of(tmp_path, manifest_with(ROLE, dashed, "1")) == [problem]


def wrong_values_of(option: Option) -> list[str]:
    """Return values that the option's row does not allow."""
    match option.value_type:
        case ValueType.INTEGER | ValueType.NUMBER:
            values = [
                "many",
                "true",
                "[1]",
                "'7'",
                ".nan",
                *(["1.5"] if option.value_type is ValueType.INTEGER else []),
            ]
            values += [] if option.minimum is None else [f"{option.minimum - 1:g}"]
            values += [] if option.above is None else [f"{option.above:g}"]
            return values + ([] if option.maximum is None else [f"{option.maximum + 0.5:g}"])
        case ValueType.BOOLEAN:
            return ["yes", "0", "'true'", "[true]"]
        case ValueType.CHOICE:
            return ["nothing_like_it", "[]", *option.refused_choices]
        case ValueType.TEXT:
            return ["[text]", "{a: text}"]
        case ValueType.LIST:
            return ["text", "{a: text}", "[[text]]", "[{a: text}]"]
        case ValueType.MAPPING:
            return ["text", "[text]", "1"]


@pytest.mark.parametrize("option", [o for o in ACCEPTED if o.name not in WAYS_OF_SAYING], ids=named)
def test_values_that_the_table_does_not_allow_are_refused(option: Option, tmp_path: Path) -> None:
    """Wrong types, numbers out of bounds and unknown choices are each a message that names the option."""
    values = wrong_values_of(option)
    assert values
    for value in values:
        text = manifest_with(option.place, option.name, value)
        if option.place == TOP or option.name == "model_path":
            text = text.replace("model_path: a/b, ", "")
            lines = [line for line in text.splitlines() if not line.startswith(f"{option.name}: ")]
            text = "\n".join([*lines, f"{option.name}: {value}"] if option.place == TOP else lines)
        messages = [message for message, _ in messages_of(tmp_path, text)]
        assert any(f"`{option.name}" in message for message in messages), (value, messages)
        # What the table says is checked by the table, not by the types behind it.
        assert not any("Input should" in message for message in messages), (value, messages)

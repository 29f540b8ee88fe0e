"""Under which name a weight file holds each tensor of a model, where the file's names are not the model's.

Invariant: names are changed by transformers' own rules, and only by them; where a rule does more than rename, nothing
is said here, and transformers itself must load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key


def names_in_files(model: PreTrainedModel, stored: Iterable[str]) -> Mapping[str, str] | None:
    """Return for each name of a tensor in the files, `stored`, the name by which `model` knows it.

    model: as transformers would load it, on any device, nothing left out. A tensor that the model does not know keeps
    its name. None: some tensor must be converted, or two come to one name.
    """
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    known, prefix = model.state_dict(), model.base_model_prefix
    names: dict[str, str] = {}
    # As `convert_and_load_state_dict_in_model` in transformers/core_model_loading.py does, in that order: some rules
    # remember what they have seen.
    for key in sorted(stored, key=dot_natural_key):
        name, converted = rename_source_key(key, renamings, converters, prefix, known)
        if name not in known and key in known:
            name, converted = rename_source_key(key, [], [], prefix, known)
        if converted is not None:
            return None
        names[key] = name if name in known else key
    return names if len(set(names.values())) == len(names) else None

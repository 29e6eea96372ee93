"""The typed config: one record per stage, strict, frozen. `Config()` is the original system (configs/iam_line.yaml).

`records` declares the keys, `combinations` refuses settings that contradict each other, `source` records what the user
sets and where, `reading` checks it, `fields` parses values by type and explains errors, `decoder_settings` derives
everything about the decoder's options from their declarations.
"""

from hwr.config.reading import RenamedKey, differences, dump, from_dict, given, load, over, override, to_dict
from hwr.config.records import (
    CRNN,
    DECODER,
    RENAMED,
    Augment,
    Config,
    Data,
    Decode,
    Engine,
    Evaluate,
    Image,
    Model,
    Original,
    Record,
    SelfTraining,
    Train,
)

__all__ = [
    "CRNN",
    "DECODER",
    "RENAMED",
    "Augment",
    "Config",
    "Data",
    "Decode",
    "Engine",
    "Evaluate",
    "Image",
    "Model",
    "Original",
    "Record",
    "RenamedKey",
    "SelfTraining",
    "Train",
    "differences",
    "dump",
    "from_dict",
    "given",
    "load",
    "over",
    "override",
    "to_dict",
]

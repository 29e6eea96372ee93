"""The typed config: one record per stage, strict, frozen. `Config()` is the original system (configs/iam_line.yaml).

`records` declares the keys, `source` notes what a user sets and where, `reading` checks it, `fields` reads and explains
values by their types, `decoder_settings` derives everything about the decoder's options from their declaration.
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

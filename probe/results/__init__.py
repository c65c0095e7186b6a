"""The schema of results, what accompanies them, and their files; all is imported from here. Never loads torch.

What a result holds, its one stamp, how it shows itself, and how it is saved and loaded.
"""

from probe.results.files import check_writable, load, save, write_atomically
from probe.results.schema import FEW_IMAGES, FEW_SAMPLES, KINDS, SCHEMA, VARIABLES, layer_map, published_table
from probe.results.showing import Result
from probe.results.stamp import Facts, finish, versions

__all__ = [
    "FEW_IMAGES",
    "FEW_SAMPLES",
    "KINDS",
    "SCHEMA",
    "VARIABLES",
    "Facts",
    "Result",
    "check_writable",
    "finish",
    "layer_map",
    "load",
    "published_table",
    "save",
    "versions",
    "write_atomically",
]

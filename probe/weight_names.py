"""Names in weight files that modules can no longer have."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["renamed_as_today"]

# torchvision renames these, too, when it downloads them.
_RELEASED_NAME = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))")


def renamed_as_today(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict of a DenseNet as torchvision released it with the names that its modules have today.

    Examples
    --------
    >>> list(renamed_as_today({"features.denseblock1.denselayer2.norm.1.weight": 0, "classifier.weight": 0}))
    ['features.denseblock1.denselayer2.norm1.weight', 'classifier.weight']
    """
    return {_RELEASED_NAME.sub(r"\1\2", key): value for key, value in state.items()}

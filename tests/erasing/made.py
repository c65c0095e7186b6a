"""A small result of each kind that tells of erasing."""

import probe
from probe.testing import noise_images, padded_net

NET = padded_net("zeros", depth=2)
IMAGES = noise_images(40, 8)

_FEW = {"methods": ["leace", "channels"], "ranks": [2], "draws": 2}
_QUIET = {"progress": False, "seed": 3}

ERASING = {
    "erasure_proof": lambda: probe.erasure_proof(probe.collect(NET, IMAGES, layers="relu2", **_QUIET), "relu2", **_FEW),
    "erasure_curve": lambda: probe.erasure_curve(NET, IMAGES, "relu1", score="agreement", **_FEW, **_QUIET),
    "erasure_matrix": lambda: probe.erasure_matrix(NET, IMAGES, layers=["relu1", "relu2"], **_QUIET),
    "stronger_readouts": lambda: probe.stronger_readouts(
        NET, IMAGES, "relu2", methods="leace", ranks=[2], samples=400, seeds=2, **_QUIET
    ),
}

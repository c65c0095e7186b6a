"""Results that are saved, shown and looked into."""

import pytest

import probe
from probe.testing import noise_images, padded_net


@pytest.fixture(scope="module")
def result():
    return probe.layerwise(
        padded_net(depth=2, width=4), noise_images(20, 8), maps="conv2", positions=None, progress=False
    )


@pytest.fixture(scope="module")
def channels():
    return probe.channelwise(padded_net(depth=2, width=4), noise_images(20, 8), maps="conv1", progress=False)

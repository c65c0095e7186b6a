"""What residual blocks see of an object, wherever it stands."""

import warnings

import pytest
import torch

from probe.analyses.nets import cifar_resnet, residual_net, seeded
from probe.errors import ProbeWarning
from probe.measures.consistency import shift_consistency
from probe.testing import noise_images
from probe.variants.padding import with_padding
from probe.variants.sampling import with_sampling

pytestmark = pytest.mark.usefixtures("one_thread")


def placed(offset, size=96):
    canvas = torch.zeros(1, 3, size, size, dtype=torch.float64)
    canvas[:, :, offset : offset + 16, offset : offset + 16] = noise_images(1, 16).double()
    return canvas


@pytest.mark.parametrize(
    ("make", "step", "room"),
    [
        (lambda **given: residual_net(18, n_classes=5, width=8, **given), 32, (8, 40, 72)),
        (lambda **given: residual_net(50, n_classes=5, width=8, **given), 32, (8, 40, 72)),
        (lambda **given: cifar_resnet(14, width=4, **given), 4, (0, 4, 76)),
    ],
)
@pytest.mark.parametrize("blur", [0, 3])
def test_full_borders_see_an_object_alike_wherever_it_stands_and_others_do_not(make, step, room, blur):
    """On a canvas of zeros, before training, at shifts by whole strides, off the last row that pooling drops."""
    full, same = (seeded(lambda b=b: make(border=b, blur=blur), 0).double().eval() for b in ("full", "same"))
    with torch.no_grad():
        scores = {net: torch.cat([net(placed(offset)) for offset in room]) for net in (full, same)}
        between = full(placed(room[0] + step // 2 + 1))
    first = scores[full][:1]
    assert (scores[full] - first).abs().max() < 1e-12 * first.abs().max()
    assert (scores[same] - scores[same][:1]).abs().max() > 1e-3 * scores[same].abs().max()
    assert (between - first).abs().max() > 1e-9 * first.abs().max()


def test_polyphase_and_circular_padding_give_the_same_at_every_circular_shift():
    net = seeded(lambda: cifar_resnet(8, width=4), 0).eval()
    exact = with_padding(with_sampling(net, "polyphase"), "circular")
    images = noise_images(12, 16)
    for model, expected in ((exact, True), (net, False)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProbeWarning)
            result = shift_consistency(
                model, images, law="circular", reach=7, compare="embedding", progress=False, batch_size=12
            )
        assert (result.same.min().item() > 1 - 1e-6) == expected
    assert shift_consistency(exact, images, law="circular", reach=7, progress=False).consistency.item() == 1

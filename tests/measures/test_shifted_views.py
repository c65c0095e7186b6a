"""What a model tells of each image at several shifts, however the images are read."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import probe
from probe.errors import ProbeWarning
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 12


def consistency(model, images, **options):
    return probe.shift_consistency(model, images, progress=False, **{"law": "crop", "reach": 4} | options)


def pooled_net():
    net = nn.Sequential(padded_net("zeros", depth=2, width=12), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return net.double().requires_grad_(False)


@pytest.mark.parametrize("compare", ["classes", "embedding"])
@pytest.mark.parametrize("law", ["zero", "chaman"])
def test_nothing_depends_on_batches_or_on_the_form_of_the_images(law, compare):
    net, images = pooled_net(), noise_images(23, SIZE).double()
    options = {"law": law, "reach": 2 if law == "zero" else None, "compare": compare}
    first = consistency(net, images, **options).drop_attrs()
    data = TensorDataset(images)
    for other in (
        consistency(net, images, batch_size=5, **options),
        consistency(net, data, num_workers=1, batch_size=4, **options),
        consistency(net, DataLoader(data, batch_size=6), **options),
        consistency(net, iter(images.split(7)), **options),
    ):
        for name, variable in first.data_vars.items():
            np.testing.assert_allclose(other[name], variable, atol=1e-12, err_msg=name)


def test_without_the_diagonal_the_pairs_are_the_same():
    net, images = pooled_net(), noise_images(20, SIZE).double()
    whole, alone = (consistency(net, images, diagonal=diagonal) for diagonal in (True, False))
    assert alone.same.identical(whole.same)
    assert "distance" not in alone.dims and alone.unchanged >= whole.unchanged


def test_a_model_that_overwrites_what_it_is_shown():
    class Overwriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = pooled_net()

        def forward(self, images):
            output = self.net(images)
            images.zero_()
            return output

    images = noise_images(10, SIZE).double()
    before = images.clone()
    for law in ("zero", "crop", "circular"):
        expected = consistency(pooled_net(), images, law=law, compare="embedding")
        found = consistency(Overwriting(), images, law=law, compare="embedding")
        np.testing.assert_allclose(found.same, expected.same, atol=1e-12)
    assert torch.equal(images, before)


def test_images_for_which_the_model_gives_nan_are_left_out_and_told():
    class Failing(nn.Module):
        def forward(self, images):
            output = torch.stack([images.mean((1, 2, 3)), 0 * images[:, 0, 0, 0]], dim=1)
            return torch.where(images[:, 2, 0, 0, None] > 3, torch.nan, output)

    images = torch.arange(40.0)[:, None, None, None].expand(40, 3, SIZE, SIZE).clone() / 20 + 1.1
    with pytest.warns(ProbeWarning, match="for 1 of 40 the model gave NaN"):
        result = consistency(Failing(), images)
    assert np.isnan(result.same.isel(image=39)).all() and np.isnan(result.same).sum() == 5
    assert result.consistency.item() == 1
    alone = consistency(Failing(), images[:39])
    for name in ("consistency", "consistency_low", "unchanged_low"):
        assert result[name].item() == alone[name].item()


def test_a_result_is_saved_whole(tmp_path):
    result = consistency(pooled_net(), noise_images(20, SIZE).double())
    assert probe.load(probe.save(result, tmp_path / "result.nc")).identical(result)

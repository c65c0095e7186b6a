"""The module that erases: layouts, what it says of itself, files."""

import copy

import pytest
import torch

import probe
from probe.errors import LayoutError, ResultFileError
from probe.readouts.erasers import ErasedPlace, Eraser, Erasure, Projection
from tests.readouts.features import feature_maps, statistics_of

ERASURE = Erasure("layer", "leace", ("row",), "rolled", 0.25, "Net", "w", "i", 7, {"torch": "2"})


def eraser_for(place, n_channels=4):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(n_channels, 2, generator=generator)).Q
    return Eraser(Projection(torch.randn(n_channels, generator=generator), vectors, vectors), place, ERASURE)


def plainly(features, eraser):
    """Of samples (sample, channel)."""
    return features - (features - eraser.mean) @ eraser.right @ eraser.left.T


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("NCHW", (2, 4, 3, 5)), ("NHWC", (2, 3, 5, 4)), ("NLC", (2, 15, 4)), ("LNC", (15, 2, 4)), ("given", (2, 4, 3, 5))],
)
def test_every_layout(layout, shape):
    eraser = eraser_for(ErasedPlace(layout))
    maps = torch.randn(shape)
    axis = shape.index(4)
    expected = plainly(maps.movedim(axis, -1).reshape(-1, 4), eraser)
    found = eraser(maps)
    assert found.shape == maps.shape
    assert torch.allclose(found.movedim(axis, -1).reshape(-1, 4), expected, atol=1e-6)


@pytest.mark.parametrize("layout", ["NLC", "LNC"])
def test_tokens_that_are_no_patches_stay(layout):
    eraser = eraser_for(ErasedPlace(layout, n_before=2, n_behind=1))
    tokens = torch.randn(3, 9, 4) if layout == "NLC" else torch.randn(9, 3, 4)
    by_image = (lambda x: x) if layout == "NLC" else (lambda x: x.transpose(0, 1))
    before, found = by_image(tokens), by_image(eraser(tokens))
    assert torch.equal(found[:, :2], before[:, :2]) and torch.equal(found[:, 8:], before[:, 8:])
    assert torch.allclose(found[:, 2:8].reshape(-1, 4), plainly(before[:, 2:8].reshape(-1, 4), eraser), atol=1e-6)


def test_memory_formats_gradients_and_autocast():
    eraser = eraser_for(ErasedPlace("NCHW"))
    maps = torch.randn(2, 4, 3, 5).to(memory_format=torch.channels_last).requires_grad_()
    found = eraser(maps)
    assert found.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(found.sum(), maps)
    assert torch.allclose(gradient[0, :, 0, 0], 1 - eraser.right @ eraser.left.sum(dim=0), atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(eraser(maps), found, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5, 3, 3), (2, 4, 3), (4,)])
def test_what_is_no_output_of_the_layer(shape):
    with pytest.raises(LayoutError, match=r"eraser of 'layer': expected 4 axes with 4 channels on axis 1 \(NCHW\)"):
        eraser_for(ErasedPlace("NCHW"))(torch.ones(shape))


def test_it_says_what_it_does():
    text = repr(probe.fit_eraser(statistics_of(feature_maps()), "layer", stimulus="natural"))
    assert "leace of row, column, rank 2 of 8, fitted to 40 natural images, removes" in text
    assert "%" in text


def test_files(tmp_path):
    eraser = probe.fit_eraser(statistics_of(feature_maps()), "layer", stimulus="natural")
    path = eraser.save(tmp_path / "eraser.pt")
    loaded = Eraser.load(path)
    maps = feature_maps(1)
    assert torch.equal(loaded(maps), eraser(maps)) and loaded.erasure == eraser.erasure and loaded.place == eraser.place
    twin = copy.deepcopy(eraser)
    twin.load_state_dict({name: 2 * value for name, value in eraser.state_dict().items()})
    assert not torch.equal(twin(maps), eraser(maps))
    with pytest.raises(ResultFileError, match="exists"):
        eraser.save(path)
    eraser.save(path, overwrite=True)


def test_files_that_hold_something_else(tmp_path):
    statistics = statistics_of(feature_maps())
    with pytest.raises(ResultFileError, match="holds no eraser of this version"):
        Eraser.load(statistics.save(tmp_path / "statistics.pt"))
    with pytest.raises(ResultFileError, match="cannot be read"):
        Eraser.load(tmp_path / "absent.pt")
    torch.save(statistics, tmp_path / "code.pt")
    with pytest.raises(ResultFileError, match="could run code, and was not read"):
        Eraser.load(tmp_path / "code.pt")

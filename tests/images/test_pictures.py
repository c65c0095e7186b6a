"""Greys of every depth keep their range, or it is said that it is not known."""

from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

import probe
from probe.errors import ImagesError, ProbeWarning
from probe.testing import padded_net
from tests.pictures import opened, read_in_order

pytestmark = pytest.mark.usefixtures("one_thread")


def layerwise(images, left_as_found):
    """Measure a tiny net and check that it is as before."""
    model = padded_net(depth=1)
    with left_as_found(model):
        return probe.layerwise(model, images, positions=None, progress=False)


DEEP = {
    # name: (greys of 0 to 255 -> array, suffix, white, whether that is a guess)
    "floats to 1": (lambda grey: np.float32(grey / 255), "tif", 1, False),
    "floats to 255": (np.float32, "tif", 255, True),
    "floats to 65535": (lambda grey: np.float32(grey * 257.0), "tif", 65535, True),
    "integers to 1": (lambda grey: np.int32(grey > 127), "tif", 1, True),
    "integers to 255": (np.int32, "tif", 255, True),
    "integers to 65535": (lambda grey: np.int32(grey) * 257, "tif", 65535, False),
    "8 bits in 16": (np.uint16, "png", 255, True),
    "8 bits in 16, TIFF": (np.uint16, "tif", 255, True),
    "10 bits in 16": (lambda grey: np.uint16(np.rint(grey / 255 * 1023)), "png", 1023, True),
    "12 bits in 16": (lambda grey: np.uint16(np.rint(grey / 255 * 4095)), "png", 4095, True),
    "16 bits": (lambda grey: np.uint16(grey) * 257, "png", 65535, False),
    "16 bits, PGM": (lambda grey: np.uint16(grey) * 257, "pgm", 65535, False),
}


def grey_ramps(count=20):
    """Greys of 0 to 255, each image with both."""
    ramps = np.stack([np.linspace(0, 255, 120).round().reshape(12, 10) for _ in range(count)])
    return np.stack([np.roll(ramp, index, axis=1) for index, ramp in enumerate(ramps)])


class TestDeepGreys:
    """Greys of more than 8 bits, which converting as they are would turn black or white."""

    @pytest.mark.parametrize("kind", DEEP)
    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_folder_keeps_them_and_tells_a_guess(self, kind, num_workers, tmp_path):
        make, suffix, white, guessed = DEEP[kind]
        greys = grey_ramps()
        for index, grey in enumerate(greys):
            Image.fromarray(make(grey)).save(tmp_path / f"{index:02}.{suffix}")
        message = rf"images: greys of mode .* in .* are taken to be white at {white}, .*pass a Dataset that scales"
        with pytest.warns(ProbeWarning, match=message) if guessed else nullcontext():
            source = opened(tmp_path, num_workers=num_workers)
        assert len(source.warned) == guessed
        expected = (greys > 127) * 255.0 if kind == "integers to 1" else greys
        for batch in source:
            np.testing.assert_allclose(
                batch.pixels.numpy() * 255, expected[batch.numbers][:, None].repeat(3, 1), atol=0.01
            )

    @pytest.mark.parametrize("kind", DEEP)
    def test_a_picture_of_a_row_keeps_them_or_asks(self, kind):
        make, _, _, guessed = DEEP[kind]
        greys = grey_ramps(6)
        images = [Image.fromarray(make(grey)) for grey in greys]
        if guessed:
            with pytest.raises(ImagesError, match=r"so that white may be .* or 65535\. Scale .* in transform="):
                read_in_order(images)
            scaled = read_in_order(images, transform=lambda image: np.asarray(image, dtype=np.float32)[None])
            assert scaled[0].shape == (1, 12, 10)
            return
        pixels = read_in_order(images)
        np.testing.assert_allclose(pixels[2].numpy() * 255, greys[2][None].repeat(3, 0), atol=0.01)

    def test_the_brightness_of_images_is_compared_over_the_folder(self, tmp_path):
        for index in range(20):
            Image.fromarray(np.full((12, 10), 200 * (index + 1), np.uint16)).save(tmp_path / f"{index:02}.png")
        with pytest.warns(ProbeWarning, match="white at 4095"):
            pixels = read_in_order(tmp_path)
        levels = [round(float(image.max() * 255)) for image in pixels]
        assert levels == [round(200 * (index + 1) * 255 / 4095) for index in range(20)]

    @pytest.mark.parametrize("odd", [-3.0, 70000.0, np.nan, np.inf])
    def test_greys_of_no_known_range_are_named(self, odd, tmp_path, left_as_found):
        for index in range(40):
            grey = np.float32(grey_ramps(1)[0] / 255)
            grey[0, 0] = odd if index == 17 else 0
            Image.fromarray(grey).save(tmp_path / f"{index:02}.tif")
        with pytest.warns(ProbeWarning, match=r"17\.tif cannot be read and is left out: .*mode F holds greys from"):
            result = layerwise(tmp_path, left_as_found)
        assert result.attrs["n_images"] == 39
        with pytest.raises(ImagesError, match=r"expected 0 to 1, to 255 or to 65535\. Pass a Dataset that scales"):
            read_in_order([Image.fromarray(grey) if index else Image.open(tmp_path / "17.tif") for index in range(6)])

    def test_what_exceeds_the_white_of_the_others_is_named(self, tmp_path, left_as_found):
        for index in range(60):
            Image.fromarray(np.uint16(grey_ramps(1)[0] + 100 * (index == 2))).save(tmp_path / f"{index:02}.png")
        message = r"02\.png cannot be read and is left out: .*reaches 355, above 255|greys of mode"
        with pytest.warns(ProbeWarning, match=message) as caught:
            layerwise(tmp_path, left_as_found)
        assert len([warning for warning in caught if "02.png" in str(warning.message)]) == 1

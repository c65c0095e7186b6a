"""Each stimulus keeps of an image what it says, and is drawn from (seed, image number) alone."""

import itertools

import numpy as np
import pytest
import torch

from probe.errors import ArgumentError
from probe.images.stimuli import CLIP_STIMULI, STIMULI, apply_stimulus, check_stimuli
from probe.testing import noise_images

IMAGES = noise_images(6, 16, seed=3) * torch.tensor([1.0, 2.0, 3.0])[:, None, None] + 5
NUMBERS = [4, 0, 7, 2, 9, 1]


class TestEach:
    def test_natural_is_a_copy(self):
        result = apply_stimulus("natural", IMAGES, NUMBERS, seed=0)
        assert torch.equal(result, IMAGES)
        assert result.data_ptr() != IMAGES.data_ptr()

    def test_rolled_is_a_circular_shift(self):
        for image, rolled in zip(IMAGES, apply_stimulus("rolled", IMAGES, NUMBERS, seed=0), strict=True):
            shifts = [(r, c) for r in range(16) for c in range(16) if torch.equal(image.roll((r, c), (1, 2)), rolled)]
            assert len(shifts) == 1

    def test_offsets_are_uniform(self):
        marked = torch.zeros(1, 1, 4, 4)
        marked[0, 0, 0, 0] = 1
        places = sum(apply_stimulus("rolled", marked, [number], seed=0)[0, 0] for number in range(1600))
        # The count at each of 16 places is binomial with mean 100 and standard deviation 9.7.
        assert places.sum() == 1600
        assert (abs(places - 100) < 5 * 9.7).all()

    def test_noise_has_the_mean_and_variance_of_the_image(self):
        large = noise_images(2, 200) * 3 + 7
        noise = apply_stimulus("noise", large, [0, 1], seed=0)
        # The mean of 40,000 draws of standard deviation 3 has a standard error of 0.015.
        torch.testing.assert_close(noise.mean(dim=(2, 3)), large.mean(dim=(2, 3)), atol=5 * 0.015, rtol=0)
        torch.testing.assert_close(noise.std(dim=(2, 3)), large.std(dim=(2, 3)), atol=5 * 0.011, rtol=0)
        correlation = np.corrcoef(noise[0, 0].flatten(), large[0, 0].flatten())[0, 1]
        assert abs(correlation) < 5 / 200

    def test_constant_is_the_mean_of_each_channel(self):
        constant = apply_stimulus("constant", IMAGES, NUMBERS, seed=0)
        torch.testing.assert_close(constant, IMAGES.mean(dim=(2, 3), keepdim=True).expand_as(IMAGES))


@pytest.mark.parametrize("name", STIMULI)
class TestAll:
    def test_the_draw_depends_on_seed_and_number_alone(self, name):
        whole = apply_stimulus(name, IMAGES, NUMBERS, seed=5)
        for index, number in enumerate(NUMBERS):
            alone = apply_stimulus(name, IMAGES[index : index + 1], [number], seed=5)
            assert torch.equal(alone[0], whole[index])

    def test_seeds_differ(self, name):
        first, second = (apply_stimulus(name, IMAGES, NUMBERS, seed=seed) for seed in (0, 1))
        assert torch.equal(first, second) == (name in ("natural", "constant"))

    def test_images_stay_as_they_are(self, name, left_as_found):
        images = IMAGES.clone()
        with left_as_found():
            apply_stimulus(name, images, NUMBERS, seed=0).mul_(0)
        assert torch.equal(images, IMAGES)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
    def test_precision_and_memory_format_are_kept(self, name, dtype, memory_format):
        images = IMAGES.to(dtype).contiguous(memory_format=memory_format)
        result = apply_stimulus(name, images, NUMBERS, seed=0)
        assert result.dtype == dtype
        assert result.stride() == images.stride()
        assert result.shape == images.shape


class TestCheck:
    def test_one_or_several(self):
        assert check_stimuli("noise") == ("noise",)
        assert check_stimuli(["rolled", "natural"]) == ("rolled", "natural")
        assert check_stimuli(name for name in ("rolled",)) == ("rolled",)

    @pytest.mark.parametrize("stimuli", ["Rolled", [], ["rolled", "rolled"], ["natural", "blurred"], [3], ""])
    def test_what_is_none(self, stimuli):
        with pytest.raises(
            ArgumentError, match=r"stimuli=.*choose one or more, each once, from natural, rolled, noise"
        ):
            check_stimuli(stimuli)

    @pytest.mark.parametrize("stimuli", [None, 3])
    def test_what_cannot_be_listed(self, stimuli):
        with pytest.raises(ArgumentError, match=r"stimuli=.*choose one or more"):
            check_stimuli(stimuli)


CLIPS = noise_images(4, (5, 6, 7), seed=2) * 2 + 3


class TestClips:
    @pytest.mark.parametrize(("name", "dims"), [("rolled", (2, 3, 4)), ("rolled_space", (3, 4)), ("rolled_time", (2,))])
    def test_a_roll_shifts_the_axes_that_it_names_and_no_other(self, name, dims):
        sizes = [CLIPS.shape[dim] if dim in dims else 1 for dim in (2, 3, 4)]
        found = []
        for clip, rolled in zip(CLIPS, apply_stimulus(name, CLIPS, range(4), seed=0), strict=True):
            shifts = [
                shift
                for shift in itertools.product(*map(range, sizes))
                if torch.equal(clip.roll(shift, (1, 2, 3)), rolled)
            ]
            assert len(shifts) == 1
            found += shifts
        assert len(set(found)) > 1

    def test_offsets_are_uniform_on_every_axis(self):
        marked = torch.zeros(1, 1, 2, 3, 2)
        marked[0, 0, 0, 0, 0] = 1
        places = sum(apply_stimulus("rolled", marked, [number], seed=0)[0, 0] for number in range(1200))
        # The count at each of 12 places is binomial with mean 100 and standard deviation 9.6.
        assert (abs(places - 100) < 5 * 9.6).all()

    def test_noise_and_constant_are_of_the_whole_clip(self):
        constant = apply_stimulus("constant", CLIPS, range(4), seed=0)
        torch.testing.assert_close(constant, CLIPS.mean(dim=(2, 3, 4), keepdim=True).expand_as(CLIPS))
        large = noise_images(1, (20, 50, 50)) * 3 + 7
        noise = apply_stimulus("noise", large, [0], seed=0)
        # The mean of 50,000 draws of standard deviation 3 has a standard error of 0.013.
        torch.testing.assert_close(noise.mean(dim=(2, 3, 4)), large.mean(dim=(2, 3, 4)), atol=5 * 0.013, rtol=0)
        torch.testing.assert_close(noise.std(dim=(2, 3, 4)), large.std(dim=(2, 3, 4)), atol=5 * 0.01, rtol=0)

    @pytest.mark.parametrize("name", [*STIMULI, *CLIP_STIMULI])
    def test_the_draw_depends_on_seed_and_number_alone(self, name):
        whole = apply_stimulus(name, CLIPS, [4, 0, 7, 2], seed=5)
        alone = apply_stimulus(name, CLIPS[2:3], [7], seed=5)
        assert torch.equal(alone[0], whole[2])
        assert torch.equal(whole, apply_stimulus(name, CLIPS, [4, 0, 7, 2], seed=6)) == (
            name in ("natural", "constant")
        )

    @pytest.mark.parametrize("name", CLIP_STIMULI)
    def test_images_without_frames_are_refused(self, name):
        assert check_stimuli(name) == (name,)
        with pytest.raises(
            ArgumentError, match=f"'{name}' is for clips and volumes, .*have no frames. Choose 'rolled'"
        ):
            apply_stimulus(name, IMAGES, NUMBERS, seed=0)

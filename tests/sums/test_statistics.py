"""Statistics are merged only when they belong together, and read only from files that hold them."""

import os
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import probe
from probe.errors import ArgumentError, ResultFileError
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = noise_images(20, 8)


def collect(images=IMAGES[:10], net=None, **options):
    options = {"positions": None, "first_image": 0, "progress": False} | options
    return probe.collect(padded_net(depth=2, width=4) if net is None else net, images, **options)


def contents(statistics):
    """Everything in statistics, in a form that can be compared."""
    parts = [statistics.images, statistics.expected, statistics.settings, statistics.facts]
    for sums in (statistics.grams, statistics.moments):
        for key, one in sums.items():
            for name, value in one.state().items():
                tensors = value if isinstance(value, list) else [value] if isinstance(value, torch.Tensor) else []
                parts.append((key, name, [tensor.numpy().tobytes() for tensor in tensors]))
    return parts


class TestMerge:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, r"images 0, 1, 2, 3, 4 and 5 more are in both of the statistics.*overlap.*first_image="),
            ({"first_image": 9}, "image 9 is in both of the statistics"),
            ({"folds": 4}, "folds differs: 5 and 4. Collect both with the same model and arguments"),
            ({"seed": 1}, "seed differs: 0 and 1"),
            ({"targets": "radius"}, r"targets differs: \['row', 'column'\] and \['radius'\]"),
            ({"stimuli": "rolled"}, r"stimuli differs"),
            ({"autocast": "bfloat16"}, "autocast differs: None and 'torch.bfloat16'"),
            ({"groups": [0, 1, 2, 3, 4] * 4}, "groups differs: None and '"),
            ({"positions": 7}, r"cells read of each image differ: None and 7 in \w+ \(None: all\).*positions= a num"),
            ({"layers": "conv1"}, r"merge: conv2 \(4 channels, NCHW\) is in one of the two statistics alone.*layers="),
            ({"net": padded_net(depth=2, width=5)}, r"merge: conv1 \(\d channels, NCHW\) is in one"),
            ({"net": padded_net("circular", depth=2, width=4)}, "modules_digest differs: '.*' and '.*'"),
            ({"net": padded_net(depth=2, width=4, seed=1)}, "weights_digest differs: '.*' and '.*'"),
        ],
    )  # fmt: skip
    def test_what_does_not_belong_together(self, options, message):
        first, second = collect(), collect(IMAGES[10:], **options)
        before = contents(first), contents(second)
        with pytest.raises(ArgumentError, match=f"merge: .*{message}|{message}"):
            first.merge(second)
        assert (contents(first), contents(second)) == before

    @pytest.mark.parametrize("other", [None, {}, "statistics.pt"])
    def test_what_is_no_statistics(self, other):
        with pytest.raises(ArgumentError, match=r"merge: expected statistics from probe\.collect, found"):
            collect().merge(other)

    def test_with_itself(self):
        statistics = collect()
        with pytest.raises(ArgumentError, match="overlap"):
            statistics.merge(statistics)

    def test_the_second_is_left_as_it_is_and_what_happened_is_told(self, tmp_path):
        first, second = collect(), collect(IMAGES[10:], first_image=10)
        second.facts = replace(second.facts, corrupt={"a.png": "empty"}, warnings=("a.png is left out",))
        before = contents(second)
        assert first.merge(second) is first
        assert contents(second) == before
        assert first.facts.n_images == 20
        assert first.facts.corrupt == {"a.png": "empty"}
        assert first.facts.warnings == ("a.png is left out",)
        assert repr(first).startswith("<Statistics of 20 images: 3 layers")

    def test_images_of_other_sizes_keep_what_holds_for_both(self):
        first, second = collect(), collect(noise_images(10, 9), first_image=10)
        with pytest.warns(probe.ProbeWarning, match="omega2 and maps need images of one size; omega2 is NaN"):
            result = probe.channelwise(first.merge(second))
        assert np.isnan(result.omega2).all()
        assert np.isfinite(result.r2).all()


class Bomb:
    """Would make a folder when unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


class TestFiles:
    def test_round_trip(self, tmp_path):
        statistics = collect()
        loaded = probe.Statistics.load(statistics.save(tmp_path / "statistics.pt"))
        assert contents(loaded) == contents(statistics)
        assert loaded.layers == statistics.layers

    @pytest.mark.parametrize("hidden", [False, True])
    def test_code_in_a_file_is_not_run(self, hidden, tmp_path, left_as_found):
        path, bomb = tmp_path / "statistics.pt", Bomb(tmp_path / "exploded")
        torch.save({"format": "position-probe statistics 1", "settings": bomb} if hidden else bomb, path)
        message = r"statistics\.pt: holds no statistics, but something else that could run code, and was not read"
        with pytest.raises(ResultFileError, match=message), left_as_found():
            probe.Statistics.load(path)
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize("protocol", [0, 2, 4])
    def test_a_bare_pickle_is_not_run(self, protocol, tmp_path, left_as_found):
        path = tmp_path / "statistics.pt"
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded"), protocol))
        with pytest.raises(ResultFileError, match=r"statistics\.pt: "), left_as_found():
            probe.Statistics.load(path)
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize("content", [torch.ones(3), {"weights": torch.ones(3)}, [1, 2], {"format": "another 2"}])
    def test_a_file_of_something_else(self, content, tmp_path, left_as_found):
        path = tmp_path / "statistics.pt"
        torch.save(content, path)
        with pytest.raises(ResultFileError, match=r"holds no statistics of this version of probe"), left_as_found():
            probe.Statistics.load(path)

    @pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
    def test_a_truncated_file(self, share, tmp_path, left_as_found):
        path = collect().save(tmp_path / "statistics.pt")
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ResultFileError, match=rf"{re.escape(str(path))}: "), left_as_found():
            probe.Statistics.load(path)

    @pytest.mark.parametrize(
        ("name", "reason"), [("missing.pt", "No such file"), ("", "Is a directory"), ("x" * 300, "File name too long")]
    )
    def test_a_path_that_cannot_be_read(self, name, reason, tmp_path):
        with pytest.raises(ResultFileError, match=rf"{name}: cannot be read: {reason}"):
            probe.Statistics.load(tmp_path / name)

    def test_a_file_is_replaced_only_when_asked(self, tmp_path, left_as_found):
        path = tmp_path / "statistics.pt"
        path.write_text("old")
        with pytest.raises(ResultFileError, match=r"exists already\. Pass overwrite=True"), left_as_found():
            collect().save(path)
        assert contents(probe.Statistics.load(collect().save(path, overwrite=True)))

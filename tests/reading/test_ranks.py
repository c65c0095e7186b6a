"""What is read in shares is what one process reads."""

import numpy as np
import pytest
from torch.utils.data import TensorDataset

import probe
from probe.testing import noise_images, padded_net

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* images. cells of one image:probe.ProbeWarning"),
    pytest.mark.filterwarnings("ignore:fewer than 5 samples:probe.ProbeWarning"),
]

IMAGES = noise_images(13, 12).double()
NET = padded_net("zeros", depth=2).double()


def collect(images=IMAGES, **options):
    options = {"positions": 30, "batch_size": 4, "folds": 3, "progress": False} | options
    return probe.collect(NET, images, **options)


def assert_same_scores(first, second):
    for measure in (probe.layerwise, probe.channelwise):
        mine, theirs = (measure(one, maps="conv2") for one in (first, second))
        for name, values in mine.data_vars.items():
            np.testing.assert_allclose(values, theirs[name], atol=1e-9, err_msg=str(name))


class TestShards:
    @pytest.mark.parametrize("of", [1, 2, 3, 5, 20])
    def test_they_add_up_to_the_whole_also_where_some_are_empty(self, of):
        shards = [collect(shard=(place, of)) for place in range(1, of + 1)]
        assert [len(shard.missing) for shard in shards] == [13 - shard.facts.n_images for shard in shards]
        merged, *others = np.random.default_rng(of).permutation(np.array(shards, dtype=object))
        for other in others:
            merged.merge(other)
        whole = collect()
        assert_same_scores(whole, merged)
        assert merged.images == merged.expected == whole.images
        assert merged.missing == []
        assert merged.facts.images_digest == whole.facts.images_digest

    @pytest.mark.parametrize(
        "options",
        [
            {"groups": list("aabbccddeeffg")},
            {"max_images": 7},
            {"stimuli": ("noise", "constant", "rolled")},
            {"first_image": 4, "positions": "auto"},
            {"images": TensorDataset(IMAGES), "num_workers": 1},
        ],
        ids=str,
    )  # fmt: skip
    def test_with_all_that_depends_on_the_whole(self, options):
        first, second = (collect(shard=(place, 2), **options) for place in (1, 2))
        assert first.settings == second.settings
        assert_same_scores(collect(**options), first.merge(second))

    def test_each_shard_reads_its_own_images_and_the_first_one(self):
        class Rows(TensorDataset):
            def __getitem__(self, index):
                read.append(index)
                return super().__getitem__(index)

        read = []
        collect(Rows(IMAGES), shard=(2, 4))
        assert sorted(read) == [0, 1, 5, 9]

    def test_a_shard_that_is_missing_is_told_by_its_images(self):
        shard = collect(shard=(2, 2))
        assert shard.missing == [0, 2, 4, 6, 8, 10, 12]
        with pytest.warns(probe.ProbeWarning, match=r"images 0, 2, 4, 6, 8 and 2 more of 13 are missing"):
            probe.layerwise(shard)

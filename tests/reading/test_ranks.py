"""What is read in shares, or by ranks, is what one process reads; and what becomes of ranks that do not fit or end."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import probe
from probe.errors import ImagesError, RankError
from probe.reading.ranks import Share, _waiting, check_ranks, in_turn, own_share
from probe.testing import noise_images, padded_net
from tests.reading.groups import EQUAL, FAULTS, FEW

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* images. cells of one image:probe.ProbeWarning"),
    pytest.mark.filterwarnings("ignore:fewer than 5 samples:probe.ProbeWarning"),
    pytest.mark.filterwarnings("ignore:score 'accuracy'.* no better than chance:probe.ProbeWarning"),
]

IMAGES = noise_images(13, 12).double()


class Rows(IterableDataset):
    """One after the other."""

    def __iter__(self):
        yield from IMAGES


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
            {"images": Rows(), "num_workers": 2, "first_image": 4},
            {"images": Rows(), "max_images": 7},
            {"images": IMAGES.split(3), "max_images": 11, "groups": list("ccaaddbbccddd")},
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_with_all_that_depends_on_the_whole(self, options):
        first, second = (collect(shard=(place, 2), **options) for place in (1, 2))
        assert first.settings == second.settings
        assert first.expected == second.expected
        whole, merged = collect(**options), first.merge(second)
        assert_same_scores(whole, merged)
        assert merged.images == merged.expected == whole.images
        assert merged.facts.images_digest == whole.facts.images_digest

    def test_each_shard_reads_its_own_images_and_those_at_which_all_look(self):
        class Rows(TensorDataset):
            def __getitem__(self, index):
                read.append(index)
                return super().__getitem__(index)

        read = []
        collect(Rows(IMAGES), shard=(2, 4))
        assert sorted(read) == sorted([*[1, 5, 9], *[0, 3, 6, 9, 12]])

    def test_a_share_of_a_stream_transforms_its_own_rows_and_the_first_one(self):
        shown = []

        def mark(image):
            shown.append(int(image[0, 0, 0]))
            return image + 1

        shard = collect(iter(torch.arange(13.0).double()[:, None, None, None].expand(13, 3, 6, 6)), shard=(2, 4),
                        transform=mark)  # fmt: skip
        assert shown == [0, 1, 5, 9]
        assert shard.missing == [0, 2, 3, 4, 6, 7, 8, 10, 11, 12]

    @pytest.mark.parametrize(
        ("as_images", "others"),
        [(iter, "images 1, 2, 3, 4, 5 and 7 more, at which"), (TensorDataset, "images 3, 6, 9, 12, at which")],
    )
    def test_shards_of_images_whose_order_changes_are_told(self, as_images, others):
        """But for the first one."""
        reordered = IMAGES[[0, *range(12, 0, -1)]]
        first, second = collect(as_images(IMAGES), shard=(1, 2)), collect(as_images(reordered), shard=(2, 2))
        with pytest.warns(probe.ProbeWarning, match=f"merge: {others} each shard looks, are not the same in all"):
            merged = first.merge(second)
        assert others in " ".join(merged.facts.warnings)

    def test_no_share_of_a_loader(self):
        with pytest.raises(ImagesError, match=r"images: a DataLoader loads every row in each process.*Pass its data"):
            collect(DataLoader(TensorDataset(IMAGES), batch_size=4), shard=(1, 2))

    def test_a_shard_that_is_missing_is_told_by_its_images(self):
        shard = collect(shard=(2, 2))
        assert shard.missing == [0, 2, 4, 6, 8, 10, 12]
        with pytest.warns(probe.ProbeWarning, match=r"images 0, 2, 4, 6, 8 and 2 more of 13 are missing"):
            probe.layerwise(shard)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """What each rank of each group found, by name, number of ranks and rank."""
    folder = tmp_path_factory.mktemp("groups")
    done = subprocess.run(
        [sys.executable, "-m", "tests.reading.groups", folder],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {tuple(path.stem.rsplit("-", 2)): pickle.loads(path.read_bytes()) for path in folder.glob("*.pickle")}


class TestRanks:
    @pytest.mark.parametrize(
        ("name", "world"),
        [*((name, 2) for name in EQUAL), *((name, world) for name in sorted(FEW) for world in (1, 3))],
    )
    def test_every_rank_returns_what_one_process_does(self, name, world, groups):
        alone = EQUAL[name]()
        for rank in range(world):
            found = groups["equal", str(world), str(rank)][name]
            assert not isinstance(found, str), found
            assert list(found.variables) == list(alone.variables)
            for variable, values in alone.variables.items():
                if values.dtype.kind == "f":
                    tolerance = 1e-6 if "single" in name else 1e-9
                    np.testing.assert_allclose(found[variable], values, atol=tolerance, rtol=0, err_msg=str(variable))
                else:
                    assert found[variable].variable.equals(values), variable
            for fact in {"n_images", "images_digest", "weights_digest", "settings", "sharing"} & alone.attrs.keys():
                assert found.attrs[fact] == alone.attrs[fact], fact

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("other seed", "ranks: seed differs: 0 on rank 0 and 1 on rank 1. Give all ranks the same model"),
            ("other alpha", "ranks: alpha differs: 0.001 on rank 0 and 0.01 on rank 1"),
            ("other images", "ranks: the first image differs: "),
            ("fewer images", "ranks: number of images differs: 13 on rank 0 and 12 on rank 1"),
            ("another order", "ranks: image 3 differs: "),
            ("another order of a stream", "ranks: image 1 differs: "),
            ("other model", "ranks: weights_digest differs: "),
            ("other layer", "ranks: layer differs: 'body.conv1' on rank 0 and 'body.conv2' on rank 1"),
            ("a loader", "images: a DataLoader loads every row in each process"),
            ("a split stream", "in the same order; a stream whole, not split by node."),
            ("a shorter stream", "ranks: number of images differs: 13 on rank 0 and 12 on rank 1"),
            ("a shard", "shard=(1, 2): the 2 ranks share the images already"),
        ],
    )
    def test_ranks_that_do_not_fit_are_refused_by_name_on_each(self, fault, message, groups):
        for rank in "01":
            assert message in groups[fault, "2", rank]

    def test_where_one_raises_it_raises_that_and_the_others_that_one_has_ended(self, groups):
        assert groups["raises", "2", "1"] == "ZeroDivisionError: one over nothing"
        assert groups["raises", "2", "0"].startswith("RankError: rank 0: another rank ended early")

    def test_where_one_is_killed_the_others_do_not_wait(self, groups):
        assert groups["killed", "2", "0"].startswith("RankError: rank 0: another rank ended early")
        assert ("killed", "2", "1") not in groups

    def test_each_fault_is_looked_at(self, groups):
        assert {fault for fault, _, _ in groups} == {*FAULTS, "equal"}


class TestAlone:
    def test_a_process_by_itself_is_a_group_of_one(self):
        assert own_share() == Share(0, 1)
        assert in_turn(lambda item: item + 1, [1, 2, 3]) == [2, 3, 4]
        check_ranks({"seed": 0})

    def test_a_rank_that_breaks_off_says_so(self):
        with pytest.raises(RankError, match=r"rank 0: another rank ended early.*Its own message"), _waiting():
            raise RuntimeError("connection closed by peer")

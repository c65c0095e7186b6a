"""The arguments that all measurements share: each fault names itself and what it takes."""

import numpy as np
import pytest
import torch

import probe
from probe.errors import ArgumentError
from probe.reading.options import Options
from probe.testing import padded_net
from tests.lived_in import LivedInNet, run, scores

pytestmark = pytest.mark.usefixtures("one_thread")


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"folds": 1}, r"folds=1: expected a whole number of at least 2"),
            ({"batch_size": 0}, r"batch_size=0: expected a whole number of at least 1"),
            ({"max_images": 0}, r"max_images=0: expected None \(all\) or a whole number"),
            ({"positions": 0}, r"positions=0: expected 'auto', None"),
            ({"positions": "all"}, r"positions='all': expected 'auto', None"),
            ({"seed": -1}, r"seed=-1"),
            ({"num_workers": 1.5}, r"num_workers=1\.5"),
            ({"first_image": True}, r"first_image=True"),
            ({"stimuli": "natrual"}, r"stimuli='natrual': choose one or more.*natural, rolled, noise, constant"),
            ({"targets": "rwo"}, r"rwo"),
            ({"autocast": "float8"}, r"autocast='float8': expected None, 'bfloat16' or 'float16'"),
            ({"layers": 3.5}, r"layers"),
            ({"layout": "CHW"}, r"layout: unknown layout 'CHW'"),
            ({"groups": [0, 1, 2] * 10}, r"groups: 3 distinct labels are too few for folds=5"),
            ({"groups": list(range(19))}, r"groups: 19 labels, but image 19 has none\. Pass one label an image"),
            ({"transform": torch.flip}, r"transform: images is a tensor, which is taken as it is"),
        ],
    )
    def test_each_names_itself_and_what_it_takes(self, options, message, left_as_found):
        model = LivedInNet()
        with pytest.raises(ArgumentError, match=message), left_as_found(model):
            run(probe.collect, model, **options)

    def test_no_images_given(self):
        with pytest.raises(ArgumentError, match="images: none given"):
            probe.layerwise(padded_net(depth=1))

    @pytest.mark.parametrize("alpha", [0, -1, torch.nan])
    def test_a_penalty_that_is_none(self, alpha):
        with pytest.raises(ArgumentError, match=r"alpha=.*: expected a number above 0"):
            probe.layerwise(run(probe.collect, padded_net(depth=1)), alpha=alpha)

    def test_numbers_of_numpy_are_numbers(self, tmp_path):
        model = padded_net(depth=1)
        options = {"seed": np.int64(3), "folds": np.int32(4), "first_image": np.int64(0), "max_images": np.int64(20)}
        statistics = run(probe.collect, model, batch_size=np.int64(7), **options)
        loaded = probe.Statistics.load(statistics.save(tmp_path / "statistics.pt"))
        assert probe.layerwise(loaded).drop_attrs().identical(scores(model, seed=3, folds=4, batch_size=7))


def test_what_is_left_open_is_resolved_once():
    options = Options(targets="radius", stimuli="noise", autocast="bfloat16", groups=np.arange(10))
    assert options.target_functions == {"radius": probe.TARGETS["radius"]}
    assert options.stimulus_names == ("noise",) and options.precision is torch.bfloat16
    assert options.groups == list(range(10)) and Options(autocast=torch.float16).precision is torch.float16
    assert Options().precision is None and Options().stimulus_names == ("natural", "rolled")


class TestGroups:
    def test_without_labels_the_fold_is_the_image_number(self):
        options = Options(folds=4)
        assert [options.fold_of(number, number + 1) for number in range(9)] == [0, 1, 2, 3, 0, 1, 2, 3, 0]

    def test_the_fold_is_the_place_of_the_label_in_sorted_order(self):
        options = Options(groups=["g", "c", "a", "b", "e", "f", "d", "c"], folds=3)
        assert [options.fold_of(99, index) for index in range(8)] == [0, 2, 0, 1, 1, 2, 0, 2]

    @pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
    def test_any_sequence_of_labels(self, kind):
        labels = [index // 2 for index in range(20)]
        expected = scores(padded_net(depth=1), groups=labels)
        assert scores(padded_net(depth=1), groups=kind(labels)).identical(expected)

    def test_an_index_of_pandas_is_not_looked_at(self):
        import pandas as pd

        labels = pd.Series([index // 2 for index in range(20)], index=range(100, 120))
        assert scores(padded_net(depth=1), groups=labels).identical(
            scores(padded_net(depth=1), groups=labels.to_list())
        )

    def test_labels_that_cannot_be_ordered(self):
        with pytest.raises(ArgumentError, match=r"groups: .* cannot be sorted"):
            run(probe.collect, padded_net(depth=1), groups=[1, None, "a", 2, 3] * 4)

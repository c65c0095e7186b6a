"""The names that options take are those that the library knows."""

import pytest

import probe
from probe.ablation.performance import SCORES
from probe.analyses.studies import find_studies
from probe.command import names
from probe.errors import ArgumentError
from probe.images.laws import LAWS
from probe.testing import noise_images, padded_net


def test_they_are_those_of_the_library():
    assert tuple(probe.TARGETS) == names.TARGETS
    assert tuple(probe.STIMULI) == names.STIMULI
    assert tuple(probe.PADDINGS) == names.PADDINGS
    assert tuple(probe.POSITION_EMBEDDINGS) == names.POSITION_EMBEDDINGS
    assert tuple(probe.SAMPLINGS) == names.SAMPLINGS
    assert set(names.SCORES) == {*SCORES, "position"}
    assert tuple(LAWS) == names.LAWS
    assert set(names.STUDIES) == set(find_studies())


@pytest.mark.parametrize("name", names.RANKINGS)
def test_every_ranking_is_one(name):
    from probe.analyses.channels.study import _rank

    (ranking,) = _rank(padded_net(depth=1), noise_images(20, 8), "relu1", [name], {"progress": False})
    assert ranking.sizes["channel"] == 16


def test_a_ranking_that_is_not_named_is_none():
    from probe.analyses.channels.study import _rank

    with pytest.raises(ArgumentError):
        next(_rank(padded_net(depth=1), noise_images(20, 8), "relu1", ["omega2-left"], {"progress": False}))


def test_near_names_are_offered():
    assert names.near_names("rok", names.STUDIES) == " Did you mean rook?"
    assert names.near_names("zzz", names.STUDIES) == ""

"""Variables of results, and parts of them."""

import pytest

from probe.results import VARIABLES, layer_map

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["result", "channels"])
def test_every_variable_has_a_long_name_and_units(name, request):
    for variable in request.getfixturevalue(name).data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]
    assert all(len(described) == 2 for described in VARIABLES.values())


def test_maps_are_found_by_their_layer(result):
    assert layer_map(result, "mean_map", "conv2").dims == ("stimulus", "channel", "row", "column")
    assert layer_map(result, "decoded_map", "conv2").dims == ("stimulus", "target", "row", "column")
    with pytest.raises(KeyError, match="no mean_map of layer 'conv1'; name it in maps="):
        layer_map(result, "mean_map", "conv1")

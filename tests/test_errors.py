"""Errors can be caught as what they are, warnings point at the user's line, and notes leave exceptions alone."""

import inspect
import warnings

import pytest

import probe
from probe import errors
from probe.errors import ProbeError, ProbeWarning, counted, noting, warn
from probe.testing import noise_images, padded_net


def test_every_error_is_one_of_probe_and_one_of_python():
    classes = {name: thing for name, thing in vars(errors).items() if inspect.isclass(thing) and name in errors.__all__}
    of_python = {
        "ArgumentError": ValueError, "IllConditionedError": ValueError, "ImagesError": ValueError,
        "LayoutError": ValueError, "PaddingError": ValueError, "LayerNotCalledError": LookupError,
        "LayerNotFoundError": LookupError, "ModelError": TypeError, "ResultFileError": OSError,
        "TooLargeError": MemoryError, "RankError": RuntimeError,
    }  # fmt: skip
    assert set(of_python) == set(classes) - {"ProbeError", "ProbeWarning"}
    for name, parent in of_python.items():
        assert issubclass(classes[name], ProbeError) and issubclass(classes[name], parent), name
        assert inspect.getdoc(classes[name])
    assert issubclass(ProbeWarning, UserWarning) and not issubclass(ProbeError, Warning)


def test_a_warning_is_kept_and_given_at_the_line_that_called_probe():
    warned = ["an earlier one"]
    with pytest.warns(ProbeWarning, match="^something was left out$") as caught:
        warn("something was left out", warned)
    assert warned == ["an earlier one", "something was left out"]
    assert caught[0].filename == __file__


def test_a_warning_from_deep_inside_is_given_at_the_users_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probe.layerwise(padded_net(depth=1), noise_images(10, 8), progress=False)
    assert caught and {warning.filename for warning in caught} == {__file__}


def test_a_note_says_where_and_the_exception_stays_what_it_was():
    original = KeyError("mine")
    with pytest.raises(KeyError) as raised, noting("while the user's code ran"):
        raise original
    assert raised.value is original
    assert raised.value.__notes__ == ["probe: while the user's code ran."]


def test_an_interruption_gets_no_note():
    with pytest.raises(KeyboardInterrupt) as raised, noting("while the user's code ran"):
        raise KeyboardInterrupt
    assert not hasattr(raised.value, "__notes__")


def test_without_an_exception_nothing_happens():
    done = []
    with noting("here"):
        done.append(1)
    assert done == [1]


@pytest.mark.parametrize(
    ("number", "what", "said"),
    [(1, "channel", "1 channel"), (0, "layer", "0 layers"), (1200, "class", "1,200 classes")],
)
def test_one_is_told_in_the_singular(number, what, said):
    assert counted(number, what) == said

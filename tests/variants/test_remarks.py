"""What a warning says of the layers that a variant could not change."""

from probe.variants.remarks import listed


def test_layers_of_one_reason_stand_together_and_those_of_none_are_left_out():
    reasons = {"a": "ceil_mode", "b": "", "c": "unfold in its code", "": "ceil_mode"}
    assert listed("not converted", reasons) == "not converted: a, the model (ceil_mode); c (unfold in its code)"


def test_nothing_to_say_is_an_empty_text():
    assert listed("not converted", {}) == listed("not converted", {"a": ""}) == ""

"""Marks on tensors, and the names of functions."""

import torch

from probe.models.marks import is_marked, mark, marked_in, tensors_in


def test_a_mark_is_seen_in_views_and_not_in_others():
    marked, other = torch.zeros(2, 3), torch.zeros(2, 3)
    view = marked[:, 0]
    mark(marked)
    assert is_marked(marked) and is_marked(view) and is_marked(marked[1]) and not is_marked(other)
    assert not is_marked(marked.clone()) and torch.equal(marked, other)


def test_marked_tensors_are_found_in_what_functions_take_and_give():
    marked, other = torch.zeros(2), torch.ones(2)
    mark(marked)
    nested = ([other, marked], {"again": marked, "number": 3, "more": (other,)})
    assert [tensor is marked for tensor in tensors_in(nested)] == [False, True, True, False]
    assert len(marked_in(nested)) == 1 and marked_in(nested)[0] is marked and marked_in((other, 3)) == []

"""Layouts by hand: which axis is which, and where tokens lie."""

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from probe.errors import ArgumentError
from probe.models.layers import Layer
from probe.models.layouts import as_maps, first_tensor, fits_aspect, given_layout, grid_of, infer_layout, possible_grids

IMAGE = (64, 96)


class ModelOutput(OrderedDict):
    """As Hugging Face's: a mapping whose entries are attributes too."""

    def __getattr__(self, name):
        return self[name]


@dataclass
class Segmentation:
    loss: torch.Tensor | None
    masks: torch.Tensor


ONES = torch.ones(1)


@pytest.mark.parametrize(
    "output",
    [
        ONES,
        (ONES, torch.zeros(2)),
        [None, (None, ONES)],
        {"out": ONES, "aux": torch.zeros(2)},
        ModelOutput(last_hidden_state=ONES, hidden_states=(torch.zeros(2),)),
        Segmentation(loss=None, masks=ONES),
    ],
    ids=["tensor", "tuple", "nested list", "dict", "ModelOutput", "dataclass"],
)
def test_the_first_tensor_of_an_output_is_found(output):
    assert first_tensor(output) is ONES


@pytest.mark.parametrize("output", [None, (), {}, "text", (None, {"a": 3})])
def test_an_output_without_a_tensor_gives_none(output):
    assert first_tensor(output) is None


def inferred(shape, *ancestry, grids=(IMAGE,), n_images=2):
    return infer_layout(torch.Size(shape), n_images, iter(ancestry), list(grids))


CNN_BLOCK = nn.Sequential(nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24), nn.ReLU())
MIXED_BLOCK = nn.Sequential(nn.Conv2d(24, 24, 7), nn.LayerNorm(24), nn.Linear(24, 96), nn.Linear(96, 24))


@pytest.mark.parametrize(
    ("shape", "ancestry", "expected"),
    [
        ((2, 24, 8, 12), [CNN_BLOCK[0]], "NCHW"),
        ((2, 24, 8, 12), [nn.ReLU(), CNN_BLOCK], "NCHW"),
        ((2, 8, 12, 24), [nn.LayerNorm(24)], "NHWC"),
        ((2, 8, 12, 96), [nn.GELU(), MIXED_BLOCK], "NHWC"),
        ((2, 24, 8, 12), [MIXED_BLOCK], "NCHW"),
        ((2, 24, 8, 12), [nn.Identity(), nn.Sequential(nn.LayerNorm(24))], "NCHW"),
        ((2, 2, 3, 3), [nn.Conv2d(3, 2, 1)], None),
        ((2, 6, 97, 16), [nn.Identity(), nn.Linear(96, 16)], None),
        ((2, 4, 24, 96), [nn.Linear(96, 96)], None),
        ((2, 5, 8, 12), [nn.Identity()], None),
    ],
    ids=[
        "convolution", "ReLU beside a convolution", "LayerNorm", "inside a ConvNeXt block", "after a ConvNeXt block",
        "permuted to the front", "no aspect of the images", "heads × tokens", "windows × tokens", "nothing known",
    ],
)  # fmt: skip
def test_four_axes(shape, ancestry, expected):
    assert inferred(shape, *ancestry) == expected


def test_a_map_as_wide_as_its_channels_goes_by_the_kind_of_module():
    shape, grids = (2, 24, 24, 24), [(96, 96)]
    assert inferred(shape, nn.Linear(24, 24), grids=grids) == "NHWC"
    assert inferred(shape, CNN_BLOCK, grids=grids) == "NCHW"


def test_where_no_module_has_a_say_a_known_grid_tells_rows_and_columns():
    grids = [IMAGE, (8, 13)]
    assert inferred((2, 5, 8, 13), nn.Identity(), grids=grids) == "NCHW"
    assert inferred((2, 8, 13, 5), nn.Identity(), grids=grids) == "NHWC"


def test_three_axes_are_sequence_first_where_the_second_counts_the_images():
    assert inferred((2, 97, 16)) == "NLC"
    assert inferred((97, 2, 16)) == "LNC"
    assert inferred((2, 2, 16)) == "NLC"


@pytest.mark.parametrize(
    ("n_tokens", "grids", "expected"),
    [
        (196, [(224, 224), (14, 14)], (14, 14)),
        (784, [(224, 224), (56, 56)], (28, 28)),
        (3136, [(224, 224), (56, 56), (7, 7)], (56, 56)),
        (24, [(24, 16), (6, 4)], (6, 4)),
        (30, [(70, 90), (5, 6)], (5, 6)),
        (15, [(100, 160), (6, 10)], (3, 5)),
        (1, [(64, 64)], (1, 1)),
        (197, [(224, 224), (14, 14)], None),
        (0, [(224, 224), (14, 14)], None),
    ],
)
def test_the_grid_of_patches_is_a_known_one_or_has_the_aspect_of_the_images(n_tokens, grids, expected):
    assert grid_of(n_tokens, grids) == expected


def test_a_grid_that_was_found_before_is_kept_unless_the_images_tell_another():
    assert grid_of(24, [(16, 24), (6, 4), (4, 6)], preferred=(6, 4)) == (6, 4)
    assert grid_of(24, [(24, 16)], preferred=(4, 6)) == (6, 4)
    assert grid_of(120, [(64, 64)], preferred=(6, 20)) == (6, 20)


def test_possible_grids_begin_with_the_known_ones():
    assert possible_grids(297, [(224, 224), (28, 28), (14, 14), (7, 7)])[:2] == [(14, 14), (17, 17)]
    assert possible_grids(401, [(240, 240), (20, 20), (14, 14)])[:2] == [(20, 20), (14, 14)]


@given(height=st.integers(32, 300), width=st.integers(32, 300), patch=st.integers(2, 16), n_aside=st.integers(0, 5))
def test_the_grid_of_a_patch_embedding_is_possible(height, width, patch, n_aside):
    grid = (height // patch, width // patch)
    assert possible_grids(grid[0] * grid[1] + n_aside, [(height, width), grid])[0] == grid


@given(height=st.integers(1, 500), width=st.integers(1, 500), patch=st.floats(0.5, 40))
def test_a_grid_of_square_patches_fits_the_aspect_of_its_image(height, width, patch):
    down = (int(height // patch), int(width // patch))
    up = (int(-(-height // patch)), int(-(-width // patch)))
    assert fits_aspect(up, (height, width))
    assert fits_aspect(down, (height, width)) or 0 in down


def layer(layout, **facts):
    return Layer("layer", "layer", 0, "Module", 1, layout, **facts)


def test_each_layout_is_viewed_as_image_channel_row_column():
    maps = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    tokens = torch.cat([torch.full((2, 1, 3), -1.0), maps.flatten(2).transpose(1, 2), torch.ones(2, 2, 3)], dim=1)
    outputs = {"NCHW": maps, "NHWC": maps.permute(0, 2, 3, 1), "NLC": tokens, "LNC": tokens.transpose(0, 1)}
    for layout, output in outputs.items():
        viewed = as_maps(output, layer(layout, n_before=1, n_behind=2), [(40, 50)])
        assert torch.equal(viewed, maps), layout
        assert viewed.untyped_storage().data_ptr() == output.untyped_storage().data_ptr(), f"{layout} was copied"


def test_vectors_are_maps_of_one_cell():
    vectors = torch.arange(6.0).reshape(2, 3)
    assert inferred((2, 3)) == "NC"
    assert torch.equal(as_maps(vectors, layer("NC"), [IMAGE]), vectors.reshape(2, 3, 1, 1))


def test_tokens_that_fit_no_grid_are_no_maps():
    assert as_maps(torch.zeros(2, 120, 3), layer("NLC"), [(64, 64), (4, 4)]) is None


@pytest.mark.parametrize(
    ("written", "axes", "places"),
    [
        ("NLC[5:201]", "NLC", (5, 96)),
        ("NLC[1:]", "NLC", (1, 0)),
        ("NLC[:-100]", "NLC", (0, 100)),
        ("LNC[-296:-100]", "LNC", (1, 100)),
    ],
)
def test_a_slice_tells_which_tokens_are_patches(written, axes, places):
    given_ = given_layout(written, "*")
    tokens = torch.zeros(2, 297, 8) if axes == "NLC" else torch.zeros(297, 2, 8)
    assert given_.axes == axes
    assert tuple(given_.patches_of(tokens).values()) == places


def test_a_slice_with_a_grid_tells_all():
    maps = torch.arange(2 * 3 * 2 * 7.0).reshape(2, 3, 2, 7)
    tokens = torch.cat([torch.ones(2, 4, 3), maps.flatten(2).transpose(1, 2)], dim=1)
    for written, output in {"NLC[4:](2, 7)": tokens, "LNC[4:18](2,7)": tokens.transpose(0, 1)}.items():
        view = given_layout(written, "*").patches_of(output)["view"]
        assert torch.equal(view(output), maps)


@pytest.mark.parametrize("written", ["NCL", "NLC[1]", "NLC[1:5:2]", "NCHW[1:5]", "NLC(14, 14)", "nlc", 3, None])
def test_what_is_no_layout_is_an_error_that_shows_how_to_write_one(written):
    with pytest.raises(ArgumentError, match=r"layout: unknown layout .* for 'a\*'.*NLC\[5:201\].*function"):
        given_layout(written, "a*")

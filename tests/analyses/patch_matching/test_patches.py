"""Patches under known homographies, the layout of Brown's sets, two photographs of one scene, and the networks."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torchvision.datasets.phototour import read_image_file

from probe.analyses.patch_matching.brown import find_sets, read_patches, read_test
from probe.analyses.patch_matching.nets import NETS, HardNet, normalised
from probe.analyses.patch_matching.pair import found_share, read_pair
from probe.analyses.patch_matching.patches import OTHER, SAME, draw_pairs, draw_test_pairs, made_patches
from probe.analyses.patch_matching.points import PATCH, REACH, cut, draw_view, interest_points, moved, relit
from probe.errors import ImagesError


def smooth(seed, shape=(200, 220)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.clip(0.5 + noise / (4 * noise.std()), 0, 1)


# ---- Points and views


def test_corners_keep_their_distances():
    grey = smooth(0)
    points = interest_points(grey, apart=24)
    between = np.linalg.norm(points[:, None] - points[None], axis=2)[~np.eye(len(points), dtype=bool)]
    assert len(points) > 5 and between.min() >= 24
    assert points.min() >= REACH and (points <= [219 - REACH, 199 - REACH]).all()
    np.testing.assert_array_equal(interest_points(grey, most=3), points[:3])
    assert interest_points(np.zeros((200, 200))).shape == (0, 2)


def test_the_strongest_corner_is_that_of_the_eigenvalues():
    """Harris's measure as it was defined, from the eigenvalues of the summed products of the gradients."""
    grey = smooth(1)
    (x, y), *_ = interest_points(grey, apart=1, margin=10).astype(int)
    down, across = np.gradient(ndimage.gaussian_filter(grey, 1))
    tensor = np.stack([ndimage.gaussian_filter(p, 2) for p in (across**2, across * down, across * down, down**2)], -1)
    first, second = np.moveaxis(np.linalg.eigvalsh(tensor.reshape(*grey.shape, 2, 2)), -1, 0)
    response = (first * second - 0.04 * (first + second) ** 2)[10:-10, 10:-10]
    assert response[y - 10, x - 10] > 0.95 * response.max()


def test_views_are_what_they_are_said_to_be_and_stay_within_reach():
    random = np.random.default_rng(0)
    corners = (PATCH - 1) / 2 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    for _ in range(500):
        view = draw_view(np.array([300.0, 200.0]), random)
        at = moved(view, np.append(corners, [[0, 0]], axis=0)) - [300, 200]
        assert np.abs(at).max() < REACH and np.abs(at[-1]).max() <= 1.5
        back = moved(np.linalg.inv(view), moved(view, corners))
        np.testing.assert_allclose(back, corners, atol=1e-6)
        turned = view[:2, :2] - np.outer(view[:2, 2], view[2, :2])
        scale, angle = np.sqrt(np.linalg.det(turned)), np.rad2deg(np.arctan2(turned[1, 0], turned[0, 0]))
        assert 0.8 <= scale <= 1.25 and abs(angle) <= 15


def test_a_patch_shows_what_the_homography_leads_to():
    """On a photograph whose grey is a linear function of the place, the patch is that function of the places."""
    rows, columns = np.mgrid[:300, :320]
    view = draw_view(np.array([160.0, 150.0]), np.random.default_rng(3))
    patch = cut(torch.from_numpy(columns / 320 + 2.0 * rows), view[None])[0, 0].double().numpy()
    steps = np.arange(PATCH) - (PATCH - 1) / 2
    places = moved(view, np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)).reshape(PATCH, PATCH, 2)
    expected = (places[..., 0] / 320 + 2 * places[..., 1]).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(patch, expected, atol=1e-3)


def test_one_view_cut_twice_is_the_same_and_another_light_keeps_its_pattern():
    grey = torch.from_numpy(smooth(0)).float()
    view = draw_view(np.array([110.0, 100.0]), np.random.default_rng(0))
    first, second = cut(grey, np.stack([view, view]))
    assert torch.equal(first, second)
    lit = relit(first[None], np.random.default_rng(1))[0]
    assert not torch.equal(lit, first)
    assert np.corrcoef(lit.flatten(), first.flatten())[0, 1] > 0.95


# ---- Pairs


def test_pairs_are_of_one_point_and_no_point_comes_twice_in_a_batch():
    points = np.repeat(np.arange(20), 3)[::-1]
    pairs = draw_pairs(points, count=50, batch=10, seed=0)
    assert (points[pairs[:, 0]] == points[pairs[:, 1]]).all() and (pairs[:, 0] != pairs[:, 1]).all()
    for start in range(0, 50, 10):
        assert len(np.unique(points[pairs[start : start + 10, 0]])) == 10
    np.testing.assert_array_equal(draw_pairs(points, count=25, batch=10, seed=0), pairs[:25])
    assert len(np.unique(pairs, axis=0)) > 30
    with pytest.raises(ImagesError, match="20 of 20 points are shown by two patches or more; a batch needs 21"):
        draw_pairs(points, count=50, batch=21, seed=0)


def test_test_pairs_are_of_their_kinds():
    patches = made_patches([smooth(0), smooth(1)], views=2, seed=0)
    pairs = draw_test_pairs(patches, count=40, seed=0)
    for kind, of_one in ((SAME, True), (OTHER, False)):
        first, second = pairs.others[kind].T
        assert len(first) == 40 and (patches.points[first] != patches.points[second]).all()
        assert ((patches.sources[first] == patches.sources[second]) == of_one).all()
    assert (patches.points[pairs.matching[:, 0]] == patches.points[pairs.matching[:, 1]]).all()
    alone = draw_test_pairs(made_patches([smooth(0)], views=2, seed=0), count=10, seed=0)
    assert set(alone.others) == {SAME}


def test_photographs_without_corners_are_refused():
    with pytest.raises(ImagesError, match="no corner was found in 1 photographs that is 62 pixels from every border"):
        made_patches([smooth(0, (100, 100))], views=2, seed=0)


# ---- Brown's sets


@pytest.fixture
def brown(tmp_path):
    random = np.random.default_rng(0)
    for name, count in (("liberty", 5), ("notredame_harris", 6), ("yosemite", 7)):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(2):  # four patches a file; the last ones of the second are filling
            Image.fromarray(random.integers(256, size=(128, 128), dtype=np.uint8)).save(folder / f"p{number}.bmp")
        (folder / "info.txt").write_text("".join(f"{patch // 2} 0\n" for patch in range(count)))
        (folder / "m50_100000_100000_0.txt").write_text("0 0 0 1 0 0 0\n2 1 0 4 2 0 0\n1 0 0 3 1 0 0\n")
    return tmp_path


@pytest.mark.filterwarnings("ignore:Image.Image.getdata")
def test_the_patches_are_those_that_torchvision_reads(brown):
    for name, folder in find_sets(brown).items():
        patches = read_patches(folder)
        expected = read_image_file(str(folder), "bmp", len(patches.points)).float()
        halved = torch.nn.functional.interpolate(expected[:, None], scale_factor=0.5, mode="bilinear").round()
        assert torch.equal(patches.pixels.float(), halved), name
    assert read_patches(brown / "liberty").points.tolist() == [0, 0, 1, 1, 2]


def test_the_listed_pairs_are_tested(brown):
    patches, pairs = read_test(brown / "liberty")
    whole = read_patches(brown / "liberty").pixels
    (matching,) = pairs.matching
    assert torch.equal(patches.pixels[matching], whole[[0, 1]])
    others = pairs.others["liberty"]
    assert torch.equal(patches.pixels[others[0]], whole[[2, 4]]) and torch.equal(
        patches.pixels[others[1]], whole[[1, 3]]
    )


def test_a_missing_set_says_where_to_get_it(brown, tmp_path):
    (brown / "liberty" / "info.txt").unlink()
    for folder in (brown, None):
        with pytest.raises(ImagesError, match=r"PhotoTour\(folder, name, download=True\).*pass the folder"):
            find_sets(folder)
    (brown / "yosemite" / "p1.bmp").write_bytes(b"no image")
    with pytest.raises(ImagesError, match=r"p1.bmp cannot be read"):
        read_patches(brown / "yosemite")
    (brown / "yosemite" / "p1.bmp").unlink()
    with pytest.raises(ImagesError, match=r"holds 4 patches, and info.txt lists 7"):
        read_patches(brown / "yosemite")


# ---- Two photographs of one scene


@pytest.fixture
def scene(tmp_path):
    """A texture, and the same moved by 7 columns and 5 rows."""
    whole = (255 * smooth(4, (260, 300))).astype(np.uint8)
    Image.fromarray(whole[:250, :280]).save(tmp_path / "1.png")
    Image.fromarray(whole[5:255, 7:287]).save(tmp_path / "2.png")
    (tmp_path / "H1to2p").write_text("1 0 -7\n0 1 -5\n0 0 1.0e0\n")
    return tmp_path


def test_points_find_their_like(scene):
    pair = read_pair(scene)
    assert pair.is_right.any(axis=1).mean() > 0.7 and 0 < pair.chance < 5
    first, second = (normalised(part).flatten(1).numpy() for part in (pair.first, pair.second))
    first, second = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, second))
    assert found_share(first, second, pair.is_right) > 95
    assert found_share(first, second[::-1], pair.is_right) < 20


def test_a_homography_is_read_from_xml_too(scene):
    as_text = read_pair(scene)
    (scene / "H1to2p").unlink()
    (scene / "H1to2p.xml").write_text(
        "<opencv_storage><H12><rows>3</rows><cols>3</cols>"
        "<data>1. 0. -7. 0. 1. -5. 0. 0. 1.</data></H12></opencv_storage>"
    )
    np.testing.assert_array_equal(read_pair(scene).is_right, as_text.is_right)


def test_a_pair_that_is_none_is_refused(scene):
    (scene / "H1to2p").write_text("1 2 3")
    with pytest.raises(ImagesError, match="holds 3 numbers; expected the nine"):
        read_pair(scene)
    (scene / "H1to2p").write_text("1 0 5000 0 1 0 0 0 1")
    with pytest.raises(ImagesError, match=r"no corner in .* is found again where H1to2p leads to"):
        read_pair(scene)
    (scene / "2.png").unlink()
    with pytest.raises(ImagesError, match="holds 1 photographs and 1 files"):
        read_pair(scene)


# ---- Networks


@pytest.mark.parametrize(
    ("name", "length", "products", "parameters"),
    [
        ("S-Conv", 128, 39_092_224, 1_334_560),
        ("F-Conv", 6272, 126_086_272, 1_334_560),
        ("F-Conv, averaged", 128, 126_086_272, 1_334_560),
        ("S-Conv, 7×7 outputs", 6272, 89_423_872, 1_334_560),
        ("F-Conv, last window 14×14", 128, 77_917_312, 3_497_248),
    ],
)
def test_networks_have_the_lengths_and_costs_that_they_are_known_for(name, length, products, parameters):
    net = HardNet(NETS[name]).eval()
    with torch.no_grad():
        descriptors = net(torch.rand(2, 1, 32, 32))
    assert descriptors.shape == (2, length) and net.cost() == (length, products)
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(2))
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_descriptors_do_not_see_gain_and_offset():
    net = HardNet(NETS["F-Conv"], width=0.25).double().eval()
    patches = torch.rand(3, 1, 32, 32, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(net(3 * patches + 1), net(patches), atol=1e-6, rtol=0)
    whole = normalised(patches)
    torch.testing.assert_close(whole.mean(dim=(2, 3)), torch.zeros(3, 1, dtype=torch.double))
    torch.testing.assert_close(whole.std(dim=(2, 3)), torch.ones(3, 1, dtype=torch.double), atol=1e-6, rtol=0)
    assert torch.equal(normalised(torch.full((1, 1, 4, 4), 0.25)), torch.zeros(1, 1, 4, 4))


def test_dropout_has_draws_of_its_own():
    state = torch.get_rng_state()
    made = [HardNet(NETS["S-Conv"], width=0.125, seed=seed).train() for seed in (0, 0, 1)]
    patches = torch.arange(2 * 1024.0).sin().reshape(2, 1, 32, 32)
    first, again, other = (net(patches) for net in made)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    zeroed = made[0].features[18](torch.ones(100, 100)) == 0
    assert zeroed.float().mean().item() == pytest.approx(0.3, abs=0.02)

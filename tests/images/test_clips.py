"""Folders of frames become clips: which frames, in which order, and what is missing."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import probe
from probe.errors import ArgumentError, ImagesError, ProbeWarning
from probe.images.clips import Clips


def write_video(folder, numbers, name="image_{:05}.png", size=(6, 5)):
    """Write frames whose pixels are all their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.new("RGB", size, (number, number, number)).save(folder / name.format(number))


def numbers_of(clip):
    return [frame.getpixel((0, 0))[0] for frame in clip.frames]


@pytest.mark.parametrize(
    ("length", "frames", "sampling", "expected"),
    [
        (10, 4, "middle", [4, 5, 6, 7]),
        (9, 4, "middle", [3, 4, 5, 6]),
        (4, 4, "middle", [1, 2, 3, 4]),
        (3, 7, "middle", [1, 2, 3, 1, 2, 3, 1]),
        (10, 4, "even", [1, 3, 6, 8]),
        (3, 7, "even", [1, 2, 3, 1, 2, 3, 1]),
        (10, 1, "middle", [5]),
    ],
)
def test_a_clip_is_so_many_frames_and_short_videos_loop(length, frames, sampling, expected, tmp_path):
    write_video(tmp_path / "wave" / "first", range(1, length + 1))
    (clip, label) = Clips(tmp_path, frames=frames, sampling=sampling)[0]
    assert numbers_of(clip) == expected
    assert label == 0


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    write_video(tmp_path / "wave" / "first", range(8, 13), name="v2_frame{}.png")
    assert numbers_of(Clips(tmp_path, frames=5)[0][0]) == [8, 9, 10, 11, 12]


def test_videos_are_in_sorted_order_with_the_places_of_their_classes(tmp_path):
    for name in ("wave/b", "run/a", "wave/a"):
        write_video(tmp_path / name, [1, 2])
    clips = Clips(tmp_path, frames=2)
    assert [str(path.relative_to(tmp_path)) for path in clips.paths] == ["run/a", "wave/a", "wave/b"]
    assert [clips[index][1] for index in range(len(clips))] == [0, 1, 1]
    assert clips.classes == ["run", "wave"]


def as_floats(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).double()


def frames_net():
    """The mean of each frame, as a map of frames."""
    net = nn.Sequential(nn.Conv3d(3, 1, 1, bias=False)).double()
    nn.init.constant_(net[0].weight, 1 / 3)
    return net


def test_a_measurement_sees_frames_in_order_and_transforms_each(tmp_path):
    for video in range(6):
        write_video(tmp_path / "wave" / str(video), range(10 * video, 10 * video + 4), size=(4, 3))
    result = probe.channelwise(
        frames_net(), Clips(tmp_path, frames=4), layers="0", maps="0", folds=2, stimuli="natural",
        transform=lambda picture: as_floats(picture)[:, :2] / 10, progress=False,
    )  # fmt: skip
    maps = probe.results.layer_map(result, "mean_map", "0")
    assert maps.dims == ("stimulus", "channel", "frame", "row", "column")
    assert maps.shape == (1, 1, 4, 2, 4)
    np.testing.assert_allclose(maps[0, 0, :, 0, 0], [2.5, 2.6, 2.7, 2.8])


def test_grey_models_see_grey_frames(tmp_path):
    write_video(tmp_path / "a" / "b", range(4))
    shapes = probe.list_layers(nn.Sequential(nn.Conv3d(1, 2, 1)), Clips(tmp_path, frames=2))["shape"]
    assert shapes.tolist() == [(1, 2, 5, 6), (2, 2, 5, 6)]


def test_videos_with_missing_frames_are_left_out_and_named(tmp_path):
    for video in range(30):
        write_video(tmp_path / "wave" / f"{video:02}", [1, 2, 3, 4])
    (tmp_path / "wave" / "07" / "image_00003.png").unlink()
    message = r"wave/07 cannot be read and is left out: of its frames, 3 are missing"
    with pytest.warns(ProbeWarning, match=message):
        result = probe.channelwise(frames_net(), Clips(tmp_path, frames=2), folds=2, stimuli="natural", progress=False)
    assert result.attrs["n_images"] == 29
    assert "wave/07" in result.attrs["corrupt"]


@pytest.mark.parametrize("numbers", [(1, 3, 5, 7), (30, 10, 40, 20), (7,)])
def test_frames_whose_numbers_go_in_equal_steps_are_in_a_row(tmp_path, numbers):
    write_video(tmp_path / "wave" / "01", numbers)
    clip, _ = Clips(tmp_path, frames=np.int64(len(numbers)))[0]
    assert numbers_of(clip) == sorted(numbers)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [((10, 20, 40, 50), ", numbered in steps of 10, 30 are missing"), ((1, 3, 6), ", 2, 4, 5 are missing")],
)
def test_a_gap_that_breaks_the_step_is_missing_frames(tmp_path, numbers, said):
    write_video(tmp_path / "wave" / "01", numbers)
    assert Clips(tmp_path, frames=2)[0].reason == f"of its frames{said}"


def test_too_many_videos_with_missing_frames_are_an_error(tmp_path):
    write_video(tmp_path / "wave" / "first", [1, 2, 9])
    with (
        pytest.raises(ImagesError, match=r"1 of 1 files cannot be read.*first"),
        pytest.warns(ProbeWarning, match="of its frames, 3, 4, 5, 6, 7 and 1 more are missing"),
    ):
        probe.list_layers(frames_net(), Clips(tmp_path, frames=2))


def test_a_damaged_frame_is_named(tmp_path):
    for video in range(25):
        write_video(tmp_path / "wave" / f"{video:02}", [1, 2])
    (tmp_path / "wave" / "03" / "image_00002.png").write_bytes(b"no picture")
    with pytest.warns(ProbeWarning, match=r"03/image_00002\.png cannot be read and is left out"):
        probe.channelwise(frames_net(), Clips(tmp_path, frames=2), folds=2, stimuli="natural", progress=False)


def test_frames_without_numbers_are_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "wave" / "first"
    folder.mkdir(parents=True)
    for grey, name in enumerate(("b", "a", "c")):
        Image.new("RGB", (4, 4), (grey, 0, 0)).save(folder / f"{name}.png")
    assert numbers_of(Clips(tmp_path, frames=3)[0][0]) == [1, 0, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames=0: expected a whole number of at least 1"),
        ({"frames": 2.0}, "frames=2.0"),
        ({"sampling": "random"}, "sampling='random': expected 'middle' or 'even'"),
    ],
)
def test_options_that_are_none(options, message, tmp_path):
    write_video(tmp_path / "a" / "b", [1])
    with pytest.raises(ArgumentError, match=message):
        Clips(tmp_path, **options)


def test_image_files_beside_folders_of_frames_are_an_error(tmp_path):
    write_video(tmp_path / "a" / "b", [1])
    write_video(tmp_path, [7])
    with pytest.raises(ImagesError, match=r"holds image files beside folders of frames, such as 'image_00007\.png'"):
        Clips(tmp_path)


def test_clips_of_unequal_size_in_one_batch_are_an_error_with_the_cure():
    rows = [(torch.zeros(3, frames, 4, 4), 0) for frames in (4, 5)] * 5

    class Videos(torch.utils.data.Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, index):
            return rows[index]

    message = r"\(3, 4, 4, 4\) and \(3, 5, 4, 4\)\. Bring clips to one number of frames.*probe\.Clips\(folder, frames="
    with pytest.raises(ImagesError, match=message):
        probe.list_layers(frames_net(), Videos())
    assert re.search("frames=16", message) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["flow_x_1.png", "flow_y_1.png"], r"flow_x_1\.png and flow_y_1\.png have the same number"),
        (["1_4x4.png", "2_4x4.png"], r"1_4x4\.png and 2_4x4\.png have the same number"),
        (["cover.png", "1.png", "2.png", "4.png"], r"cover\.png has no number at the end of its name"),
    ],
)
def test_files_that_are_no_frames_one_after_the_other_are_named(names, message, tmp_path):
    folder = tmp_path / "wave" / "first"
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)
    video = Clips(tmp_path, frames=2)[0]
    assert video.path == str(folder)
    assert re.search(message, video.reason)


@pytest.mark.parametrize("beside", ["a", "a/b"])
def test_image_files_beside_a_folder_of_frames_are_an_error_at_any_depth(beside, tmp_path):
    write_video(tmp_path / "a" / "b" / "c", [1])
    write_video(tmp_path / beside, [7])
    with pytest.raises(
        ImagesError, match=rf"{beside}' holds image files beside folders of frames, such as 'image_00007"
    ):
        Clips(tmp_path)


def test_frames_of_unequal_size_are_an_error_with_the_cure(tmp_path):
    write_video(tmp_path / "a" / "b", [1])
    write_video(tmp_path / "a" / "b", [2], size=(8, 5))
    with pytest.raises(
        ImagesError, match=r"the frames of one clip have the shapes.*transform=, which is applied to each"
    ):
        probe.list_layers(frames_net(), Clips(tmp_path, frames=2))


def test_a_model_of_images_given_folders_of_frames_is_told_how_to_show_them(tmp_path):
    write_video(tmp_path / "a" / "b", [1, 2])
    with pytest.raises(ImagesError, match=r"takes images: of clips show one frame.*the folder's path.*forward="):
        probe.list_layers(nn.Conv2d(3, 4, 3), Clips(tmp_path, frames=2))


def test_of_frames_between_time_stamps_the_first_are_named_and_the_rest_counted(tmp_path):
    first = 1520530308199447626
    for behind in (0, 1, 3, 10**12):
        Path(tmp_path, "drive", "01").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "drive" / "01" / f"{first + behind}.png")
    named = ", ".join(str(first + behind) for behind in (2, 4, 5, 6, 7))
    assert Clips(tmp_path, frames=2)[0].reason == f"of its frames, {named} and {10**12 - 3 - 5} more are missing"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["n01_1532.jpg", "n02_77.jpg", "n02_78.jpg"], r"of its frames, 79, .* are missing"),
        (["cat.jpg", "dog.jpg"], r"cat\.jpg has no number at the end of its name"),
    ],
)
def test_a_folder_of_photographs_is_no_clip(names, message, tmp_path):
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(ImagesError, match=rf"not the frames of a video: {message}.*CLASS/VIDEO/image_00001\.jpg"):
        Clips(tmp_path)


def test_a_folder_of_frames_is_a_video_by_itself(tmp_path):
    write_video(tmp_path, [1, 2, 3])
    assert numbers_of(Clips(tmp_path, frames=3)[0][0]) == [1, 2, 3]

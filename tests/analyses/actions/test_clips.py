"""Clips of moving digits, and clips of videos in folders of frames."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import center_of_mass
from scipy.stats import chisquare

from probe.analyses.actions import digits
from probe.analyses.actions.clips import clip_places, middle_clip, scored_starts, training_clips, whole_starts
from probe.analyses.actions.digits import DIRECTIONS, FRAMES, move_digits, shuffled, swapped, task_clips
from probe.analyses.actions.videos import LENGTH, read_splits
from probe.analyses.data.digits import load_digits
from probe.errors import ImagesError, TooLargeError

# ---- Moving digits


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setattr(digits, "_NOISE", dict.fromkeys(digits.TASKS, 0.0))


def drawn(task, count=64, seed=0):
    training, _ = load_digits(enlarged=1)
    return task_clips(task, training, count=count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("silent")
def test_digits_move_as_their_label_says():
    clips = drawn("directions")
    assert clips.frames.shape == (64, 1, FRAMES, 32, 32)
    for frames, label in zip(clips.frames[:, 0], clips.labels.tolist(), strict=True):
        assert torch.equal(frames[1:], torch.stack([frame.roll(DIRECTIONS[label], (0, 1)) for frame in frames[:-1]]))
        assert frames.amax() > 0


@pytest.mark.usefixtures("silent")
def test_the_order_of_frames_reversed_is_the_opposite_direction():
    clips = drawn("directions", count=8)
    for frames, label in zip(clips.frames[:, 0].flip(1), clips.labels.tolist(), strict=True):
        opposite = DIRECTIONS[(label + 4) % 8]
        assert torch.equal(frames[1], frames[0].roll(opposite, (0, 1)))


def test_where_a_digit_is_tells_no_direction(monkeypatch):
    """The middles are uniform and do not depend on the class; then so are the places in every frame."""
    drawn_ones = {}

    def keep(strokes, steps, middles, shown):
        drawn_ones.update(middles=middles)
        return torch.zeros(len(strokes), 1, 1, 1, 1)

    with monkeypatch.context() as patch:
        patch.setattr(digits, "move_digits", keep)
        labels = drawn("directions", count=40_000).labels
    for label in range(8):
        for axis in (0, 1):
            counts = torch.bincount(drawn_ones["middles"][labels == label, axis], minlength=32)
            assert chisquare(counts.numpy()).pvalue > 1e-4
    every = torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij"), -1).reshape(-1, 2)
    shown = torch.arange(FRAMES).expand(len(every), FRAMES)
    for step in DIRECTIONS[:2]:
        frames = move_digits(torch.ones(len(every), 1, 1), torch.tensor(step).expand(len(every), 2), every, shown)
        assert (frames.sum(dim=0) == 1).all()


@pytest.mark.usefixtures("silent")
def test_classes_have_their_halves_and_swapped_the_other_ones():
    place, late = drawn("place"), drawn("time")
    for clips, axis, half, task in ((place, 2, 16, "place"), (late, 1, 8, "time")):
        where = clips.frames[:, 0].abs().amax(dim=tuple(a for a in (1, 2, 3) if a != axis)) > 0
        for seen, label in zip(where, clips.labels.tolist(), strict=True):
            first, second = seen[:half], seen[half:]
            assert first.any() == (label == 0) and second.any() == (label == 1)
        other = swapped(task, clips)
        moved = other.frames[:, 0].abs().amax(dim=tuple(a for a in (1, 2, 3) if a != axis)) > 0
        assert torch.equal(moved, where.roll(half, 1)) and torch.equal(other.labels, clips.labels)
        steps = clips.frames[clips.labels == 0, 0]
        shown = steps[0, :8] if task == "time" else steps[0]
        assert torch.equal(shown[1], shown[0].roll(1, 1))  # to the right


def test_digits_go_on_at_the_other_side():
    clip = move_digits(torch.ones(1, 2, 2), torch.tensor([[1, 1]]), torch.tensor([[31, 31]]), torch.arange(16)[None])
    assert clip.sum() == 4 * 16 and clip[0, 0, 8, [31, 31, 0, 0], [31, 0, 31, 0]].sum() == 4
    assert center_of_mass(clip[0, 0, 0].numpy()) == pytest.approx((23.5, 23.5))


def test_shuffled_clips_hold_the_same_frames():
    clips = drawn("directions", count=6)
    mixed = shuffled(clips, seed=0)
    for before, after in zip(clips.frames[:, 0], mixed.frames[:, 0], strict=True):
        assert sorted(frame.sum().item() for frame in before) == sorted(frame.sum().item() for frame in after)
    assert not torch.equal(clips.frames, mixed.frames)


# ---- Videos


def write_videos(folder, *, frames=20, size=(24, 20), names=("a", "b"), count=6):
    """Videos whose frame n is of one grey, 10·video + n; the last column is white."""
    for label in names:
        for video in range(count):
            place = folder / label / f"v_{label}_g{video // 2:02}_c{video % 2:02}"
            place.mkdir(parents=True)
            for frame in range(frames):
                image = Image.new("RGB", size, (10 * video + frame,) * 3)
                image.paste((255, 255, 255), (size[0] - 1, 0, *size))
                image.save(place / f"image_{frame + 1:05}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "test"):
        write_videos(tmp_path / part, count=10 if part == "train" else 2)
    return tmp_path


def test_starts_are_as_many_as_the_published_code_makes():
    counts = {480: 3, 49: 3, 48: 3, 40: 4, 29: 5, 20: 10, 17: 16, 16: 15, 1: 1}
    assert {length: len(scored_starts(length)) for length in counts} == counts
    for length in (16, 17, 33, 100):
        one_based = list(range(1, length, max(1, -(-(length - 1 - LENGTH) // 2))))
        assert [start + 1 for start in scored_starts(length)] == one_based
    assert list(whole_starts(33)) == [0, 16] and list(whole_starts(40)) == [0, 16, 32]
    assert clip_places(0, 5) == [0, 1, 2, 3, 4] * 3 + [0]
    assert clip_places(10, 40) == list(range(10, 26))


def test_a_part_of_the_training_videos_is_for_validation_by_groups(folder):
    training, validation, test, classes = read_splits(folder)
    assert classes == ["a", "b"] and len(test) == 4
    assert (len(training), len(validation)) == (16, 4)
    groups = [
        {(part.labels[i], part.source.paths[n].name.split("_")[2]) for i, n in enumerate(part.numbers)}
        for part in (training, validation)
    ]
    assert groups[0] & groups[1] == set() and groups[1] == {(0, "g04"), (1, "g04")}


def test_an_annotation_says_which_videos_are_for_what(tmp_path):
    write_videos(tmp_path, count=12)
    names = [f"v_{label}_g{video // 2:02}_c{video % 2:02}" for label in "ab" for video in range(12)]
    database = {
        name: {"subset": "training" if int(name[5:7]) < 5 else "validation", "annotations": {"label": name[2]}}
        for name in names
    }
    (tmp_path / "split_01.json").write_text(json.dumps({"labels": ["a", "b"], "database": database}))
    training, validation, test, classes = read_splits(tmp_path)
    assert (len(training), len(validation), len(test), classes) == (16, 4, 4, ["a", "b"])
    database["v_a_g99_c00"] = {"subset": "training"}
    (tmp_path / "split_01.json").write_text(json.dumps({"database": database}))
    with pytest.raises(ImagesError, match=r"1 of 25 videos of split_01.json are not in .*: v_a_g99_c00"):
        read_splits(tmp_path)
    for subsets, message in (
        (("training", "training"), "there is no video to test with"),
        (("validation", "validation"), "there is no video to train on"),
        (("training", "validation"), "there is one class to train on, 'a'; expected two or more"),
    ):
        one = {name: {"subset": subsets[name[2] == "b"]} for name in names}
        (tmp_path / "split_01.json").write_text(json.dumps({"database": one}))
        with pytest.raises(ImagesError, match=message):
            read_splits(tmp_path)
    (tmp_path / "split_01.json").write_text("{}")
    with pytest.raises(ImagesError, match=r"split_01.json is no annotation of a split"):
        read_splits(tmp_path)
    (tmp_path / "split_01.json").unlink()
    with pytest.raises(ImagesError, match=r"no train/ and test/, and 0 annotation files.*ucf101_01\.json"):
        read_splits(tmp_path)


def test_folders_that_do_not_do_are_told(tmp_path):
    with pytest.raises(ImagesError, match="is no folder"):
        read_splits(tmp_path / "none")
    for part in ("train", "test"):
        write_videos(tmp_path / "one" / part, names=("a",), frames=2)
        write_videos(tmp_path / "few" / part, frames=2, count=4)
        write_videos(tmp_path / "unlike" / part, names=("a", part), frames=2)
    with pytest.raises(ImagesError, match="there is one class to train on, 'a'; expected two"):
        read_splits(tmp_path / "one")
    with pytest.raises(ImagesError, match="no class has 5 videos to train on"):
        read_splits(tmp_path / "few")
    with pytest.raises(ImagesError, match=r"differ in test, train"):
        read_splits(tmp_path / "unlike")


def test_the_middle_clip_is_the_central_square(folder):
    _, _, test, _ = read_splits(folder)
    clip = middle_clip(test, 1, 15, size=20) + torch.tensor([114.7748, 107.7354, 99.4750])[:, None, None, None]
    assert clip.shape == (3, LENGTH, 20, 20)
    greys = clip[0, :, 5, 5].round().tolist()
    assert greys == [10 + place for place in clip_places(15, 20)]  # the second video
    assert clip.max() < 50  # the white column is outside the square of 20
    assert torch.allclose(middle_clip(test.keep(short_side=20), 1, 15, size=20), middle_clip(test, 1, 15, size=20))
    small = test.keep(short_side=10)
    assert small.kept[0].shape == (20, 10, 12, 3) and small.length(0) == 20


def test_clips_are_drawn_anew_at_each_visit_and_alike_for_the_same_seed(folder):
    training = read_splits(folder)[0].keep(short_side=20)

    def all_of(**given):
        batches = list(training_clips(training, **{"visits": range(2), "batch": 5, "size": 8, "seed": 0, **given}))
        return [len(labels) for _, labels in batches], torch.cat([clips for clips, _ in batches])

    sizes, clips = all_of()
    assert sizes == [5, 5, 5, 1] * 2 and clips.shape[1:] == (3, LENGTH, 8, 8)
    assert torch.equal(all_of()[1], clips) and torch.equal(all_of(workers=1)[1], clips)
    assert not torch.equal(all_of(seed=1)[1], clips)
    assert not torch.equal(clips[:16], clips[16:])
    greys = clips[:, 0, :, 4, 3] + 114.7748
    steps = (greys[:, 1:] - greys[:, :-1]).round()
    assert ((steps == 1).all(dim=1) | (greys.amax(dim=1) > 230)).all()  # frames in a row
    firsts = {round(value) % 10 for value in greys[:, 0].tolist() if value < 230}
    assert firsts == {0, 1, 2, 3, 4}  # every place in time, the last one as well


def test_crops_reach_the_corners(folder):
    """The white column on the right is in some crops and not in others, on the left of those that are mirrored."""
    training = read_splits(folder)[0].keep(short_side=20)
    clips = torch.cat([c for c, _ in training_clips(training, visits=range(6), batch=16, size=20, seed=0)])
    right, left = (clips[:, 0, 0, 10, place] + 114.7748 > 150 for place in (19, 0))
    assert 0.1 < right.float().mean() < 0.5 and 0.1 < left.float().mean() < 0.5 and not (right & left).any()


def test_damaged_and_missing_frames_are_told(folder):
    training = read_splits(folder)[0]
    video = training.source.paths[training.numbers[0]]
    (video / "image_00003.png").unlink()
    with pytest.raises(ImagesError, match=r"of its frames, 3 are missing. Mend or remove the video"):
        read_splits(folder)[0].keep(short_side=20)
    Image.new("RGB", (24, 20)).save(video / "image_00003.png")
    (video / "image_00004.png").write_bytes(b"no image")
    with pytest.raises(ImagesError, match=r"image_00004.png cannot be read"):
        read_splits(folder)[0].frames(0, [3])
    Image.new("RGB", (8, 8)).save(video / "image_00004.png")
    with pytest.raises(ImagesError, match=r"are of 2 sizes; expected one"):
        read_splits(folder)[0].frames(0, [2, 3])


def test_frames_that_do_not_fit_into_memory_are_told(folder, monkeypatch):
    training = read_splits(folder)[0]
    monkeypatch.setattr(training.source, "length", lambda index: 10**12)
    with pytest.raises(TooLargeError, match=r"the frames of 16 videos .* fewer videos, or take the preset 'paper'"):
        training.keep(short_side=20)


def test_frames_of_unlike_depths_become_rgb(folder):
    video = read_splits(folder)[0]
    path = video.source.paths[video.numbers[0]] / "image_00001.png"
    Image.new("L", (24, 20), 7).save(path)
    frames = read_splits(folder)[0].frames(0, [0])
    assert frames.shape == (1, 20, 24, 3) and (frames == 7).all() and frames.dtype == np.uint8

"""A reading that ends in any way goes on from its checkpoint as if it had never ended."""

import errno
import fcntl
import io
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

import probe
from probe.errors import ArgumentError, ProbeWarning, ResultFileError
from probe.reading import checkpoints
from probe.reading.checkpoints import open_checkpoint
from probe.reading.ranks import Share
from probe.testing import noise_images, padded_net

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = noise_images(23, 8)


class UsersError(Exception):
    """Of a user's own code."""


class Net(nn.Module):
    """A wide block behind a narrow one, so that one layer is kept as what it is made of; it can end after some runs."""

    def __init__(self, runs=None, end=UsersError):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.conv, self.wide = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 16, 1)
        self.runs, self.end = runs, end

    def forward(self, images):
        if len(images) > 2 and self.runs is not None:
            self.runs -= 1
            if self.runs == 0:
                outcome = self.end()
                if isinstance(outcome, BaseException):
                    raise outcome
        return self.wide(self.conv(images).relu())


class Rows(IterableDataset):
    """One after the other."""

    def __init__(self, images=IMAGES):
        self.images = images

    def __iter__(self):
        yield from self.images


def collect(net=None, images=IMAGES, **options):
    return probe.collect(net or Net(), images, batch_size=4, progress=False, **options)


def tensors_of(state):
    """All tensors in nested dicts and lists."""
    if isinstance(state, torch.Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [tensor for part in parts for tensor in tensors_of(part)]


def assert_same_bits(first, second):
    for sums, others in ((first.grams, second.grams), (first.moments, second.moments)):
        assert {key: type(one) for key, one in sums.items()} == {key: type(one) for key, one in others.items()}
        for key in sums:
            mine, theirs = tensors_of(sums[key].state()), tensors_of(others[key].state())
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert first.images == second.images
    assert first.facts.images_digest == second.facts.images_digest
    assert first.facts.n_images == second.facts.n_images


def interrupted(path, runs=5, **options):
    """Leave a checkpoint of two batches of the first stimulus and of the second."""
    with pytest.raises(UsersError):
        collect(Net(runs), checkpoint=path, checkpoint_every=1, **options)


@pytest.mark.parametrize("runs", [3, 5, 6, 11])
def test_the_same_call_goes_on_to_the_same_bits(runs, tmp_path):
    path = tmp_path / "sums.ck"
    interrupted(path, runs)
    net = Net(1000)
    assert_same_bits(collect(net, checkpoint=path), collect())
    n_batches = 6
    assert 1000 - net.runs == 2 * (n_batches - (runs - 1) // 2)  # two stimuli


def test_a_run_that_had_ended_is_not_read_again(tmp_path):
    path = tmp_path / "sums.ck"
    first = probe.layerwise(Net(), IMAGES, maps="conv", checkpoint=path, progress=False)
    net = Net(1)
    again = probe.layerwise(net, IMAGES, maps="conv", checkpoint=path, progress=False)
    assert net.runs == 1
    assert first.drop_attrs().identical(again.drop_attrs())
    assert again.attrs["n_images"] == 23


def test_a_generator_is_read_along_from_its_beginning(tmp_path):
    path = tmp_path / "sums.ck"
    interrupted(path, images=iter(IMAGES.split(4)), positions=9)
    net = Net(1000)
    rest = collect(net, iter(IMAGES.split(4)), checkpoint=path, positions=9)
    assert_same_bits(rest, collect(images=iter(IMAGES.split(4)), positions=9))
    assert 1000 - net.runs == 8


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_of_rows_goes_past_what_was_read(num_workers, tmp_path):
    path, shown = tmp_path / "sums.ck", []

    def note(image):
        shown.append(image)
        return image

    options = {"positions": 9, "transform": note, "num_workers": num_workers}
    interrupted(path, images=Rows(), **options)  # after images 0 to 7
    shown.clear()
    rest = collect(images=Rows(), checkpoint=path, **options)
    assert len(shown) == (0 if num_workers else 1 + 23 - 8)
    assert_same_bits(rest, collect(images=Rows(), positions=9))


def test_rows_of_groups_and_workers(tmp_path):
    path, options = tmp_path / "sums.ck", {"groups": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9] * 2 + [0], "first_image": 0}
    interrupted(path, images=TensorDataset(IMAGES), **options)
    rest = collect(images=TensorDataset(IMAGES), checkpoint=path, num_workers=1, **options)
    assert_same_bits(rest, collect(images=TensorDataset(IMAGES), **options))


def test_files_that_cannot_be_read(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(23):
        pixels = (IMAGES[index].permute(1, 2, 0).sigmoid() * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    (folder / "05.png").write_bytes(b"no image")
    path = tmp_path / "sums.ck"
    with pytest.warns(ProbeWarning, match=r"05\.png cannot be read"):
        interrupted(path, images=folder)
        statistics = collect(Net().double(), folder, checkpoint=tmp_path / "other.ck")
    with pytest.warns(ProbeWarning, match=r"05\.png cannot be read"):
        rest = collect(images=folder, checkpoint=path)
    assert list(rest.facts.corrupt) == list(statistics.facts.corrupt) == [str(folder / "05.png")]
    assert rest.facts.images_digest == statistics.facts.images_digest
    assert rest.facts.n_images == 22
    assert rest.images == rest.expected == [range(23)]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"net": Net().double()}, "weights_digest differs"),
        ({"net": padded_net(depth=1)}, "model differs, 'Net' there and 'Sequential' here"),
        ({"seed": 1}, "seed differs, 0 there and 1 here"),
        ({"folds": 4}, "folds differs"),
        ({"layers": "conv"}, "cells_per_image differs|target_offsets differs|layers differs"),
        ({"stimuli": "natural"}, r"stimuli differs, \['rolled'\] there"),
        ({"positions": 7}, r"cells_per_image differs, \{'input': None\} there and \{'input': 7\} here"),
        ({"first_image": 3}, "the first image differs"),
        ({"images": IMAGES[:20]}, "number of images differs, 23 there and 20 here"),
        ({"images": IMAGES.flip(0)}, "the first image differs"),
        ({"images": IMAGES.index_fill(0, torch.tensor([16]), 0.5)}, "image 16 differs"),
    ],
)  # fmt: skip
def test_another_run_is_refused_by_name(options, name, tmp_path):
    path = tmp_path / "sums.ck"
    interrupted(path, runs=9)  # images 0, 5, 10, 15; 20, 1, 6, 11; 16, 21, 2, 7; 12, 17, 22, 3
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=rf"checkpoint: .*sums\.ck is of another run: ({name}).*delete it"):
        collect(checkpoint=path, **options)
    assert path.read_bytes() == before


@pytest.mark.parametrize("as_images", [Rows, lambda images: iter(images.split(4))], ids=["rows", "batches"])
@pytest.mark.parametrize(
    ("images", "name"),
    [
        (IMAGES.index_fill(0, torch.tensor([5]), 0.5), "image 5 differs"),
        (IMAGES[[0, *range(22, 0, -1)]], "image 1 differs"),
        (IMAGES[:5], "number of images differs, 'more than 7' there and 5 here"),
    ],
    ids=["one is another", "another order", "fewer"],
)
def test_a_stream_that_changed_is_refused_as_it_goes_past(as_images, images, name, tmp_path):
    path = tmp_path / "sums.ck"
    interrupted(path, images=as_images(IMAGES), positions=9)  # after images 0 to 7
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=rf"checkpoint: .*sums\.ck is of another run: {name}.*delete it"):
        collect(images=as_images(images), checkpoint=path, positions=9)
    assert path.read_bytes() == before


def test_what_is_kept_is_part_of_it(tmp_path):
    path = tmp_path / "sums.ck"
    probe.layerwise(Net(), IMAGES, checkpoint=path, progress=False)
    with pytest.raises(ArgumentError, match="kept differs"):
        probe.channelwise(Net(), IMAGES, checkpoint=path, progress=False)


def test_each_shard_has_a_file_of_its_own(tmp_path):
    path = tmp_path / "sums.ck"
    for place in (1, 2):
        collect(checkpoint=path, shard=(place, 2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["sums.ck.1-of-2", "sums.ck.2-of-2"]


def test_a_link_to_another_file_system(tmp_path, monkeypatch):
    """A file is moved within a folder alone, as if each were a file system."""
    replace = Path.replace

    def replace_within(self, target):
        if self.parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_within)
    (tmp_path / "scratch").mkdir()
    link, path = tmp_path / "sums.ck", tmp_path / "scratch" / "sums.ck"
    link.symlink_to(path)
    collect(checkpoint=link)
    assert link.is_symlink()
    assert [file.name for file in path.parent.iterdir()] == ["sums.ck"]
    net = Net(1)
    collect(net, checkpoint=link)
    assert net.runs == 1


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9])
def test_a_truncated_file_is_refused_and_stays(share, tmp_path, left_as_found):
    path = tmp_path / "sums.ck"
    interrupted(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ResultFileError, match=r"sums\.ck: .*"), left_as_found():
        collect(checkpoint=path)


def test_a_file_of_which_one_byte_changed_is_refused(tmp_path, request):
    """Also where the user has told torch to leave the checksums out."""
    path = tmp_path / "sums.ck"
    request.addfinalizer(lambda: torch.serialization.set_crc32_options(True))
    torch.serialization.set_crc32_options(False)
    interrupted(path)
    assert not torch.serialization.get_crc32_options()
    content, sums = path.read_bytes(), max(tensors_of(torch.load(path)), key=lambda one: one.nbytes)
    at = content.index(sums.numpy().tobytes()) + sums.nbytes // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(ResultFileError, match=r"sums\.ck: is damaged: the checksum of .*Delete it to begin anew"):
        collect(checkpoint=path)
    path.write_bytes(content)
    assert_same_bits(collect(checkpoint=path), collect())


def test_two_runs_of_one_file(tmp_path):
    path = tmp_path / "sums.ck"
    with (
        open_checkpoint(path, Share(), None, "cpu"),
        pytest.raises(ArgumentError, match=r"sums\.ck is in use by another run"),
    ):
        collect(checkpoint=path)
    collect(checkpoint=path)
    assert [file.name for file in tmp_path.iterdir()] == ["sums.ck"]


def test_a_lock_that_is_removed_while_it_is_waited_for(tmp_path, monkeypatch):
    """The run that held it ends between the opening of the file and the lock."""
    path, lock = tmp_path / "sums.ck", fcntl.flock
    removed = []

    def lock_late(file, how):
        if not removed:
            removed.append(os.fstat(file.fileno()).st_ino)
            (tmp_path / "sums.ck.lock").unlink()
            (tmp_path / "sums.ck.lock").touch()
        lock(file, how)

    monkeypatch.setattr(checkpoints.fcntl, "flock", lock_late)
    with open_checkpoint(path, Share(), None, "cpu"), pytest.raises(ArgumentError, match="in use by another run"):
        collect(checkpoint=path)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(checkpoints.fcntl, "flock", refuse)
    path = tmp_path / "sums.ck"
    with pytest.warns(ProbeWarning, match=r"sums\.ck cannot be locked \(No locks available\)\. See that no other run"):
        interrupted(path)
    with pytest.warns(ProbeWarning, match="cannot be locked"):
        assert_same_bits(collect(checkpoint=path), collect())


def test_a_full_disk_leaves_the_last_good_one(tmp_path, monkeypatch):
    path, sync = tmp_path / "sums.ck", os.fsync
    contents = []

    def fill_up(number):
        if len(contents) >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(number)
        contents.append((tmp_path / ".sums.ck.part").read_bytes())

    monkeypatch.setattr(os, "fsync", fill_up)
    with pytest.warns(ProbeWarning, match=r"sums\.ck: cannot be written: No space left.*the last good one stays"):
        whole = collect(checkpoint=path, checkpoint_every=4)
    assert path.read_bytes() == contents[1]
    assert [file.name for file in tmp_path.iterdir()] == ["sums.ck"]
    monkeypatch.setattr(os, "fsync", sync)
    net = Net(1000)
    assert_same_bits(collect(net, checkpoint=path), whole)
    assert 1000 - net.runs == 2 * (6 - 2)


@pytest.mark.parametrize("room", [0, 10, 3000])
def test_a_disk_that_is_full_in_the_midst_of_writing(room, tmp_path, monkeypatch):
    """What torch makes of the error of the file is not what is told."""
    path = tmp_path / "sums.ck"
    interrupted(path)
    before, opened = path.read_bytes(), Path.open

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    def open_full(self, mode="r", *args, **options):
        return Full(self, mode) if self.suffix == ".part" else opened(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.warns(
        ProbeWarning, match=r"sums\.ck: cannot be written: No space left.*has room\. The reading goes on"
    ):
        collect(checkpoint=path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["sums.ck"]


class TestSIGTERM:
    @staticmethod
    def terminate():
        os.kill(os.getpid(), signal.SIGTERM)

    def test_a_last_one_is_written_and_the_exit_is_143(self, tmp_path):
        path = tmp_path / "sums.ck"
        with pytest.raises(SystemExit) as raised:
            collect(Net(4, self.terminate), checkpoint=path)
        assert raised.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        net = Net(1000)
        assert_same_bits(collect(net, checkpoint=path), collect())
        assert 1000 - net.runs == 2 * (6 - 2)

    def test_a_handler_of_the_users_own_is_called_then_and_decides(self, tmp_path):
        path, called = tmp_path / "sums.ck", []
        previous = signal.signal(signal.SIGTERM, lambda number, frame: called.append(path.exists()))
        try:
            assert_same_bits(collect(Net(4, self.terminate), checkpoint=path), collect())
        finally:
            own = signal.signal(signal.SIGTERM, previous)
        assert called == [True]
        assert "lambda" in own.__name__

    @pytest.mark.parametrize(("row", "n_read"), [(5, 8), (19, 20)], ids=["while rows are gone past", "after the last"])
    def test_one_that_comes_between_batches(self, row, n_read, tmp_path):
        path = tmp_path / "sums.ck"

        class Ending(IterableDataset):
            def __init__(self, row):
                self.row = row

            def __iter__(self):
                for number, image in enumerate(IMAGES[:20]):
                    yield image
                    if number == self.row:
                        TestSIGTERM.terminate()

        interrupted(path, images=Ending(None), positions=9)  # after images 0 to 7
        with pytest.raises(SystemExit) as raised:
            collect(images=Ending(row), checkpoint=path, positions=9)
        assert raised.value.code == 143
        net = Net(1000)
        assert_same_bits(
            collect(net, Ending(None), checkpoint=path, positions=9), collect(images=IMAGES[:20].split(4), positions=9)
        )
        assert 1000 - net.runs == 2 * (20 - n_read) / 4

    def test_one_that_comes_during_the_last_writing(self, tmp_path, monkeypatch):
        path, write = tmp_path / "sums.ck", checkpoints.write_saved

        def write_and_end(*args, **settings):
            self.terminate()
            return write(*args, **settings)

        monkeypatch.setattr(checkpoints, "write_saved", write_and_end)
        with pytest.raises(SystemExit) as raised:
            collect(checkpoint=path)
        assert raised.value.code == 143
        net = Net(1)
        assert_same_bits(collect(net, checkpoint=path), collect())
        assert net.runs == 1

    def test_one_that_the_user_ignores(self, tmp_path):
        previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            collect(Net(4, self.terminate), checkpoint=tmp_path / "sums.ck")
        finally:
            signal.signal(signal.SIGTERM, previous)


def test_it_is_written_about_every_two_minutes_and_for_a_hundredth_of_the_time(tmp_path, monkeypatch):
    """A batch takes a minute here, and writing ten seconds: 1,000 seconds must pass between two."""
    clock = [0.0]
    written = []

    class Late(Net):
        def forward(self, images):
            clock[0] += 30
            return super().forward(images)

    def write(content, path, **settings):
        clock[0] += 10
        written.append(clock[0])

    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoints, "write_saved", write)
    probe.collect(Late(), noise_images(60, 8), batch_size=1, checkpoint=tmp_path / "sums.ck", progress=False)
    steps = [later - earlier for earlier, later in pairwise(written)]
    assert 120 < written[0] <= 300
    assert all(1000 < step <= 1100 for step in steps[:-1])


def test_a_run_that_goes_on_knows_how_long_writing_takes(tmp_path, monkeypatch):
    """A batch takes a minute here, and writing ten seconds."""
    path, write, clock, written = tmp_path / "sums.ck", checkpoints.write_saved, [0.0], []

    class Late(Net):
        def forward(self, images):
            clock[0] += 30
            return super().forward(images)

    def write_late(*args, **settings):
        clock[0] += 10
        written.append(clock[0])
        return write(*args, **settings)

    def run(net):
        return probe.collect(net, noise_images(150, 8), batch_size=3, layers="conv", checkpoint=path, progress=False)

    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoints, "write_saved", write_late)
    with pytest.raises(UsersError):
        run(Late(2 * 25))
    assert len(written) == 2  # the second one holds what the first one took
    start = clock[0]
    run(Late())
    assert 1000 < written[2] - start <= 1100


def test_nothing_is_written_twice(tmp_path, monkeypatch):
    written, write = [], checkpoints.write_saved

    def count(content, path, **settings):
        written.append(content["statistics"]["facts"]["n_images"])
        return write(content, path, **settings)

    monkeypatch.setattr(checkpoints, "write_saved", count)
    for every in (4, 4, None):
        collect(checkpoint=tmp_path / f"{every}.ck", checkpoint_every=every)
    assert written == [4, 8, 12, 16, 20, 23, 23]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint_every": 5}, "checkpoint_every: given without checkpoint="),
        ({"checkpoint_every": 0, "checkpoint": "x"}, "checkpoint_every=0: expected None"),
        ({"checkpoint": "absent/x"}, "cannot be written: No such file"),
        ({"shard": (3, 2)}, r"shard=\(3, 2\): expected \(k, n\)"),
        ({"shard": 3}, r"shard=3: expected \(k, n\)"),
        ({"shard": (0, 2)}, r"shard=0: expected \(k, n\), each a whole number"),
    ],
)
def test_arguments_that_cannot_be(options, message):
    with pytest.raises((ArgumentError, ResultFileError), match=message):
        collect(**options)


KILLED = """
import os, random, signal, sys, time
import torch
import probe
from tests.reading.test_checkpoints import Net, assert_same_bits
from probe.testing import noise_images

torch.set_num_threads(1)
images, folder = noise_images(40, 8), sys.argv[1]
options = {"batch_size": 2, "progress": False, "checkpoint": f"{folder}/sums.ck", "checkpoint_every": 2}

def run():
    child = os.fork()
    if child == 0:
        try:
            probe.collect(Net(), images, **options).save(f"{folder}/done.h5", overwrite=True)
        finally:
            os._exit(0)
    return child

start = time.monotonic()
os.waitpid(run(), 0)
longest = time.monotonic() - start
whole, kills = probe.Statistics.load(f"{folder}/done.h5"), 0
draws = random.Random(0)
while kills < 20:
    os.remove(f"{folder}/sums.ck")
    os.remove(f"{folder}/done.h5")
    while not os.path.exists(f"{folder}/done.h5"):
        child = run()
        time.sleep(draws.uniform(0.1, 0.6) * longest)
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert_same_bits(probe.Statistics.load(f"{folder}/done.h5"), whole)
left = set(os.listdir(folder)) - {"sums.ck", "done.h5", ".sums.ck.part", "sums.ck.lock"}
print(kills, sorted(name for name in left if not name.endswith(".part")))
"""


def test_killed_at_twenty_random_times(tmp_path):
    """In the midst of a batch, of writing or of the lock: the sums are those of a run that was not killed."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    kills, others = done.stdout.split(maxsplit=1)
    assert int(kills) >= 20
    assert others.strip() == "[]"

"""The sums of a reading and what it has read, in a file from which the same call goes on."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from probe.errors import ArgumentError, ResultFileError, warn
from probe.images.digests import pixels_digest
from probe.images.numbering import as_ranges
from probe.images.sources import Batch
from probe.reading.ranks import Share
from probe.reading.reader import Reader
from probe.results import Facts, check_writable
from probe.sums.saved import read_saved, write_saved
from probe.sums.statistics import Statistics, merged_facts

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Checkpoint", "open_checkpoint"]

_FORMAT = "position-probe checkpoint 2"
_SECONDS = 120
_LONGEST_SHARE = 0.01  # of the time, that writing takes
_COMPARED = 16  # images, to know whether they are still the same
_TERMINATED = 143


class Checkpoint:
    """The file of one reading; without a path it does nothing. From `open_checkpoint`.

    Parameters
    ----------
    path
        The file.
    every
        Number of images after which it is written anew; None for about every two minutes, and so seldom that writing
        takes no more than a hundredth of the time, by what the last one took; a run that goes on knows what the last
        but one took. The first one of all, the last one, and one at SIGTERM do not wait for that.
    found
        What an earlier run left in it.

    Attributes
    ----------
    done : frozenset of int
        Numbers of the images that an earlier run has read.
    """

    def __init__(self, path: Path | None, every: int | None, found: dict[str, Any] | None) -> None:
        self.path, self.every = path, every
        self._found = found
        self._earlier = None if found is None else Statistics.of(found["statistics"])
        self.done = frozenset(chain(*self._earlier.images)) if self._earlier else frozenset()
        self._digests: dict[int, str] = {} if found is None else dict(found["digests"])
        self._stride = 1
        self._numbers: list[int] = []
        self._n_batches = self._n_unwritten = 0
        self._identity: dict[str, Any] = {}
        self._written, self._took = time.monotonic(), 0.0 if found is None else found["took"]
        self._is_ending = False
        self._is_there = found is not None

    def restore(self, statistics: Statistics, reader: Reader, identity: dict[str, Any]) -> None:
        """Give statistics that are to be collected what an earlier run has collected, if it was one of the same.

        A few images are compared: here where they can be looked up, and of a stream as they go past.

        Parameters
        ----------
        statistics
            Of no images yet.
        reader
            What will be read.
        identity
            All in which the two runs must agree, by name.

        Raises
        ------
        ArgumentError
            If it was another one: the model, the arguments or the images differ.
        """
        self._identity, self._reader = identity, reader
        if self._found is None or self._earlier is None:
            return
        for name, value in identity.items():
            if self._found["identity"].get(name) != value:
                raise self._differs(name, *_difference(self._found["identity"].get(name), value))
        if reader.image_at is not None:
            for number, digest in self._digests.items():
                image = reader.image_at(number)
                if image is None or pixels_digest([image], [number]) != digest:
                    raise self._differs(f"image {number}", digest, "another one")
        statistics.grams, statistics.moments = self._earlier.grams, self._earlier.moments

    def _check_seen(self) -> None:
        """Raise if the stream is not the one that an earlier run has read, as far as it has come."""
        if self._reader.image_at is not None or not self.done:
            return
        seen, length = self._reader.seen, self._reader.length
        for number, digest in self._digests.items():
            if seen.get(number, digest) != digest:
                raise self._differs(f"image {number}", digest, seen[number])
        if length is not None and max(self.done) - min(seen) >= length:
            raise self._differs("number of images", f"more than {max(self.done) - min(seen)}", length)

    def _differs(self, name: str, old: Any, new: Any) -> ArgumentError:
        return ArgumentError(
            f"checkpoint: {self.path} is of another run: {name} differs, {old!r} there and {new!r} here. Continue with "
            "the same model, arguments and images, name another file, or delete it to begin anew."
        )

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Take SIGTERM, which ends a process, as the wish for a last checkpoint.

        It is written after the batch that runs, if it would hold anything new; then the user's own handler is called,
        or, where there is none, the process exits with 143.
        """
        previous = signal.getsignal(signal.SIGTERM)
        is_main = threading.current_thread() is threading.main_thread()
        if self.path is None or not is_main or previous in (signal.SIG_IGN, None):
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self._is_ending = True
            if not self._n_unwritten:  # no batch may come for long, where those that were read are gone past
                self._end_if_asked()

        self._on_end = previous
        signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)
            self._end_if_asked()

    def _end_if_asked(self) -> None:
        if not self._is_ending:
            return
        self._is_ending = False
        if not callable(self._on_end):
            raise SystemExit(_TERMINATED)
        self._on_end(signal.SIGTERM, None)

    def after(self, batch: Batch, statistics: Statistics, facts: Facts) -> None:
        """Take note of a batch that was read, and write if it is time."""
        self._numbers += batch.numbers
        if self.path is None:
            return
        self._n_unwritten += len(batch.numbers)
        self._check_seen()
        self._remember(batch)
        since = time.monotonic() - self._written
        is_due = self._n_unwritten >= self.every if self.every else since > max(_SECONDS, self._took / _LONGEST_SHARE)
        if is_due or self._is_ending:
            self.write(statistics, facts)
        self._end_if_asked()

    def write(self, statistics: Statistics, facts: Facts) -> None:
        """Write the sums and what was read; where it cannot be written, the last good file stays, with a warning."""
        if self.path is None:
            return
        self._check_seen()
        if self._is_there and not self._n_unwritten:
            return
        start = time.monotonic()
        statistics.images, statistics.facts = self.images, self.facts(facts)
        content = {
            "identity": self._identity,
            "digests": self._digests,
            "took": self._took,
            "statistics": statistics.content(settled=False),
        }
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            write_saved(content, self.path, form=_FORMAT, overwrite=True, temporary=part)
            self._is_there = True
        except ResultFileError as error:
            warn(f"checkpoint: {error} The reading goes on, and the last good one stays.", [])
        self._written, self._n_unwritten = time.monotonic(), 0
        self._took = self._written - start

    @property
    def images(self) -> list[range]:
        """Numbers of the images that this run and earlier ones have read."""
        return as_ranges(chain(*(self._earlier.images if self._earlier else ()), self._numbers))

    def facts(self, facts: Facts) -> Facts:
        """Return the facts of this run and earlier ones."""
        return facts if self._earlier is None else merged_facts(self._earlier.facts, facts)

    def _remember(self, batch: Batch) -> None:
        """Keep the digests of a few images, about evenly spaced over what was read or, of a stream, gone past."""
        if self._reader.image_at is None:
            self._digests |= self._reader.seen
            return
        if self._n_batches % self._stride == 0:
            self._digests[batch.numbers[0]] = pixels_digest(batch.pixels[:1], batch.numbers[:1])
        self._n_batches += 1
        if len(self._digests) > _COMPARED:
            self._digests = dict(list(self._digests.items())[::2])
            self._stride *= 2


@contextmanager
def open_checkpoint(
    path: Path | None, share: Share, every: int | None, device: torch.device | str
) -> Iterator[Checkpoint]:
    """Read the checkpoint of a share, if there is one, and lock it for as long as the context lasts.

    Parameters
    ----------
    path
        The file; None for no checkpoint. Where there are several shares, each has its own beside it.
    share
        What this process reads.
    every
        See `Checkpoint`.
    device
        Where the sums come to lie.

    Raises
    ------
    ArgumentError
        If another run is writing it.
    ResultFileError
        If it cannot be written, or holds something else.
    """
    if path is None:
        yield Checkpoint(None, None, None)
        return
    path = share.beside(path).resolve()  # what is written first must lie on the same file system
    check_writable(path, overwrite=True)
    with _locked(path):
        found = None
        if path.exists():
            cure = "Delete it to begin anew."
            found = read_saved(path, form=_FORMAT, what="checkpoint", cure=cure, device=device)
        yield Checkpoint(path, every, found)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file ``PATH.lock``, which goes free when the process ends in any way."""
    lock = path.with_name(f"{path.name}.lock")
    while True:
        with lock.open("a") as file:
            try:
                if fcntl is None:
                    raise OSError("this system has none")
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArgumentError(
                    f"checkpoint: {path} is in use by another run. Wait for it, or name another file: each run needs "
                    "one of its own."
                ) from None
            except OSError as error:  # as on some network file systems
                reason = error.strerror or error
                warn(f"checkpoint: {path} cannot be locked ({reason}). See that no other run writes it.", [])
            try:
                is_gone = not os.path.samestat(os.fstat(file.fileno()), lock.stat())
            except FileNotFoundError:
                is_gone = True
            if is_gone:  # the run that held it has just ended, and removed it
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _difference(old: Any, new: Any) -> tuple[Any, Any]:
    """Return what differs of two values, of two dicts or lists the first such entry."""
    if isinstance(old, dict) and isinstance(new, dict):
        name = next(name for name in [*old, *new] if old.get(name) != new.get(name))
        return {name: old.get(name)}, {name: new.get(name)}
    if isinstance(old, list) and isinstance(new, list):
        return [entry for entry in old if entry not in new][:1] or old, [e for e in new if e not in old][:1] or new
    return old, new

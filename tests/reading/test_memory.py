"""What would not fit into memory is refused before the work."""

import psutil
import pytest
import torch

import probe
from probe.errors import TooLargeError
from probe.reading.memory import check_memory
from probe.testing import padded_net
from tests.lived_in import run

FREE = 100_000
CPU = torch.device("cpu")


@pytest.fixture
def little_memory(monkeypatch):
    memory = psutil.virtual_memory()._replace(available=FREE)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def test_four_fifths_of_what_is_free_may_be_taken(little_memory):
    check_memory(80_000, CPU, "the sums", "Choose fewer.")
    with pytest.raises(TooLargeError, match=r"^the sums would take 0\.0 GB, and .* free on cpu\. Choose fewer\.$"):
        check_memory(80_001, CPU, "the sums", "Choose fewer.")


def test_on_a_gpu_its_own_memory_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**10))
    gpu = torch.device("cuda", 1)
    check_memory(int(0.8e9), gpu, "the sums", "Choose fewer.")
    with pytest.raises(TooLargeError, match=r"take 0\.9 GB, and 1\.0 GB of memory are free on cuda:1"):
        check_memory(int(0.9e9), gpu, "the sums", "Choose fewer.")


@pytest.mark.parametrize("measure", [probe.collect, probe.layerwise, probe.channelwise])
def test_a_measurement_asks_before_it_reads_all_images(measure, little_memory, left_as_found):
    net, read = padded_net("zeros", depth=2), []

    def batches():
        for start in range(0, 40, 20):
            read.append(start)
            yield torch.zeros(20, 3, 24, 24)

    message = r"the statistics would take 0\.0 GB.* Choose fewer layers=, stimuli= or folds="
    with pytest.raises(TooLargeError, match=message), left_as_found(net):
        run(measure, net, batches())
    assert read == [0]

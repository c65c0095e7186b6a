"""Training, and several networks at a time."""

import ast
import concurrent.futures
import inspect
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from probe.analyses.augshift import study as augshift
from probe.analyses.data.digits import digit_batches, load_digits, place_digits
from probe.analyses.data_efficiency import study as data_efficiency
from probe.analyses.data_efficiency.subsets import OnCanvases
from probe.analyses.nets import small_net
from probe.analyses.patch_matching import cases
from probe.analyses.patch_matching import study as patch_matching
from probe.analyses.predictions import predict
from probe.analyses.shifts import study as shifts
from probe.analyses.training import (
    LEARNING_RATE,
    Recipe,
    side_by_side,
    take_steps,
    train,
    training_bar,
    training_device,
)
from probe.errors import ArgumentError, TooLargeError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_training_learns_and_leaves_evaluation_mode():
    training, held_out = load_digits()
    model = small_net()
    with torch.no_grad():  # as a caller may have it
        train(model, digit_batches(training, steps=60, batch_size=32, seed=0), steps=60)
    assert not any(module.training for module in model.modules())
    images = place_digits(held_out.strokes[:200], generator(9))
    assert (predict(model, images) == held_out.labels[:200]).float().mean() > 0.3  # by chance: 0.1


def test_training_side_by_side_is_training_one_by_one():
    training, _ = load_digits()
    models = [small_net(seed=seed) for seed in range(3)]
    n_threads = torch.get_num_threads()
    with side_by_side() as pool:
        batches = [digit_batches(training, steps=5, batch_size=16, seed=seed) for seed in range(3)]
        done = [pool.submit(train, model, part, steps=5) for model, part in zip(models, batches, strict=True)]
        assert [future.result() for future in done] == [None] * 3
    assert torch.get_num_threads() == n_threads
    for seed, model in enumerate(models):
        alone = small_net(seed=seed)
        train(alone, digit_batches(training, steps=5, batch_size=16, seed=seed), steps=5)
        for name, weights in alone.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("device", "n_at_a_time"), [("cpu", 2), (torch.device("cuda", 0), 1)])
def test_on_a_gpu_one_network_is_trained_at_a_time(device, n_at_a_time):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with side_by_side(device) as pool:
            jobs = [pool.submit(lambda: time.sleep(0.05) or threading.get_ident()) for _ in range(4)]
            assert len({job.result() for job in jobs}) == n_at_a_time
    finally:
        torch.set_num_threads(n_threads)


@pytest.mark.parametrize("name", ["location_dependent", "quadrants"])
def test_studies_that_can_train_on_a_gpu_tell_the_pool_where_the_networks_are(name):
    nodes = list(ast.walk(ast.parse(inspect.getsource(import_module(f"probe.analyses.{name}.study")))))
    (device,) = (n for n in nodes if isinstance(n, ast.Assign) and ast.unparse(n.value) == "training_device(device)")
    (pool,) = (n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "side_by_side")
    assert [ast.unparse(target) for target in device.targets] == [ast.unparse(given) for given in pool.args]


def test_an_error_beside_training_restores_the_threads():
    n_threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), side_by_side() as pool:
        started = [pool.submit(time.sleep, 0.05) for _ in range(100)]
        raise KeyboardInterrupt
    assert torch.get_num_threads() == n_threads
    assert any(future.cancelled() for future in started)


class Linear(nn.Module):
    """Two classes by the sign of one pixel, which can be trained."""

    def __init__(self):
        super().__init__()
        self.classes = nn.Linear(4, 2, bias=False)
        nn.init.zeros_(self.classes.weight)

    def forward(self, images):
        return self.classes(images.flatten(1))


def test_training_is_adamw_on_one_cycle():
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 1, 2, 2, generator=generator), torch.arange(8) % 2) for _ in range(6)]
    model = Linear()
    train(model, iter(batches), steps=6)
    scheduled = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    schedule = torch.optim.lr_scheduler.OneCycleLR(scheduled, LEARNING_RATE, total_steps=6)
    weights, first, second, rates = torch.zeros(2, 4), 0.0, 0.0, []
    for step, (images, labels) in enumerate(batches, start=1):
        rate, (beta, gamma) = scheduled.param_groups[0]["lr"], scheduled.param_groups[0]["betas"]
        x = images.flatten(1)
        gradient = ((x @ weights.T).softmax(dim=1) - torch.eye(2)[labels]).T @ x / len(x)
        first, second = beta * first + (1 - beta) * gradient, gamma * second + (1 - gamma) * gradient**2
        weights = weights * (1 - 0.01 * rate)
        weights = weights - rate * first / (1 - beta**step) / ((second / (1 - gamma**step)).sqrt() + 1e-8)
        scheduled.step()
        schedule.step()
        rates.append(rate)
    assert max(rates) == pytest.approx(0.01, rel=0.05) and rates[-1] < rates[0] < 0.001
    torch.testing.assert_close(model.classes.weight.detach(), weights, rtol=1e-5, atol=1e-6)


def test_networks_are_trained_where_there_is_a_gpu():
    assert training_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert training_device("cpu") == torch.device("cpu")
    with pytest.raises(ArgumentError, match="device='gpu' cannot be used"):
        training_device("gpu")


def test_a_recipe_with_drops_is_sgd_whose_rate_falls_to_a_tenth():
    batches = [(torch.randn(8, 1, 2, 2, generator=generator(step)), torch.arange(8) % 2) for step in range(6)]
    model = Linear()
    train(model, batches, steps=6, recipe=Recipe(rate=0.5, momentum=0.9, weight_decay=0.01, drops=(1 / 3, 2 / 3)))
    weights, speed = torch.zeros(2, 4), torch.zeros(2, 4)
    for (images, labels), rate in zip(batches, (0.5, 0.5, 0.05, 0.05, 0.005, 0.005), strict=True):
        x = images.flatten(1)
        gradient = ((x @ weights.T).softmax(dim=1) - torch.eye(2)[labels]).T @ x / len(x) + 0.01 * weights
        speed = 0.9 * speed + gradient
        weights = weights - rate * speed
    torch.testing.assert_close(model.classes.weight.detach(), weights, rtol=1e-5, atol=1e-6)


def test_another_loss_takes_the_whole_batch():
    seen = []

    def loss(model, first, second, labels):
        seen.append((first.shape, second.shape, labels.shape))
        return model(first).sum()

    train(Linear(), [(torch.ones(2, 1, 2, 2), torch.ones(2, 4), torch.zeros(2))] * 3, steps=3, loss=loss)
    assert seen == [((2, 1, 2, 2), (2, 4), (2,))] * 3


class NeedsMemory(Linear):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, images):
        raise self.error


def test_a_batch_that_does_not_fit_is_told_by_its_shape():
    batches = [(torch.zeros(8, 1, 2, 2), torch.zeros(8, dtype=torch.long))]
    # As torch words them, of a GPU and of a CPU.
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):
        with pytest.raises(TooLargeError, match=r"training: a batch of shape \(8, 1, 2, 2\) does not fit .* of cpu\."):
            train(NeedsMemory(error), batches, steps=1)
    with pytest.raises(RuntimeError, match="another fault"):
        train(NeedsMemory(RuntimeError("another fault")), batches, steps=1)
    with pytest.raises(TooLargeError):
        train(Linear(), [(torch.zeros(1, 1, 2, 2).expand(2**40, -1, -1, -1), torch.zeros(1))], steps=1)


def test_a_test_that_does_not_fit_is_told_by_its_shape():
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    with pytest.raises(TooLargeError, match=r"testing: a batch of shape \(8, 1, 2, 2\) does not fit .* of cpu\."):
        predict(NeedsMemory(error), torch.zeros(8, 1, 2, 2))


def test_whatever_does_not_fit_side_by_side_is_told():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    for work in (lambda: NeedsMemory(error)(None), lambda: torch.zeros(2**50)):
        with (
            pytest.raises(TooLargeError, match="a network, or what it is trained or tested on, does not fit into the"),
            side_by_side() as pool,
        ):
            pool.submit(work).result()
    with pytest.raises(TooLargeError, match="testing: a batch of shape"), side_by_side() as pool:
        pool.submit(predict, NeedsMemory(error), torch.zeros(8, 1, 2, 2)).result()


@pytest.mark.parametrize("study", [augshift, data_efficiency, patch_matching, shifts])
def test_studies_tell_of_tests_that_do_not_fit(study, monkeypatch):
    """What each of them tests with runs out of memory; networks are trained little or not."""
    inside = {
        augshift: (augshift, "shift_consistency"),
        shifts: (shifts, "shift_consistency"),
        patch_matching: (cases, "false_positives"),
    }

    def failing(*args, **given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(study, "train", lambda *args, **given: None, raising=False)
    if study in inside:
        monkeypatch.setattr(*inside[study], failing)
    else:
        monkeypatch.setattr(OnCanvases, "test", failing)
    with pytest.raises(
        TooLargeError, match=r"does not fit into the memory of cpu\. Choose a smaller preset, or another"
    ):
        study.run(preset="tiny", seeds=1, device="cpu", progress=False)


def endless(started):
    while True:
        started.set()
        yield torch.zeros(2, 1, 2, 2), torch.tensor([0, 1])


def test_ctrl_c_stops_training_at_the_next_step_and_says_how_far_it_was():
    started = threading.Event()
    model = Linear()
    with (
        pytest.raises(
            KeyboardInterrupt, match=r"rook: stopped after [1-9][\d,]* of 1,000 steps of training; no result"
        ),
        training_bar("rook", 1000, progress=False) as done,
        side_by_side() as pool,
    ):
        job = pool.submit(train, model, endless(started), steps=1000, done=done)
        assert started.wait(10)
        time.sleep(0.05)
        raise KeyboardInterrupt
    with pytest.raises(concurrent.futures.CancelledError):
        job.result(timeout=10)


def test_without_a_bar_ctrl_c_still_says_what_became_of_it():
    with pytest.raises(KeyboardInterrupt, match="training was stopped; no result was written"), side_by_side():
        raise KeyboardInterrupt


def test_an_optimiser_goes_on_from_epoch_to_epoch():
    batches = list(digit_batches(load_digits()[0], steps=6, batch_size=16, seed=0))
    models = small_net(width=4), small_net(width=4)
    train(models[0], batches, steps=6)
    optimiser, schedule = Recipe().start(models[1], 6)
    for part in (batches[:4], batches[4:]):
        take_steps(models[1], part, optimiser, schedule=schedule)
        assert not any(module.training for module in models[1].modules())
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(one, other)


def test_without_a_schedule_the_rate_stays():
    """Plain descent with the gradient by hand: of the logits x·w, the cross-entropy's is x·(p − y)."""
    model, images = nn.Linear(1, 2, bias=False), torch.ones(1, 1)
    weights = model.weight.detach().clone()
    take_steps(model, [(images, torch.tensor([0]))] * 3, torch.optim.SGD(model.parameters(), lr=0.5))
    for _ in range(3):
        weights -= 0.5 * (weights.softmax(dim=0) - torch.tensor([[1.0], [0.0]]))
    torch.testing.assert_close(model.weight.detach(), weights)


def test_studies_train_in_one_loop_which_ctrl_c_stops():
    """But for the readouts of PosENet, which are fitted side by side to the features of one network."""
    folder = Path(inspect.getfile(take_steps)).parent
    calls = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "backward"
    }
    assert calls == {"training.py", "posenet/readouts.py"}


def test_the_bar_counts_steps_of_all_networks():
    batches = [(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))] * 4
    with pytest.raises(KeyboardInterrupt, match="after 8 of 9 steps"), training_bar("rook", 9, progress=False) as done:
        with side_by_side() as pool:
            jobs = [pool.submit(train, Linear(), batches, steps=4, done=done) for _ in range(2)]
            assert [job.result() for job in jobs] == [None, None]
        raise KeyboardInterrupt

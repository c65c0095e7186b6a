"""Weights are found wherever a training script has put them, and no file runs code."""

import pickle
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import probe
from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.models.weights import load_weights, modules_digest
from probe.testing import padded_net


class RunsCode:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


@pytest.fixture
def net():
    return padded_net(depth=2)


@pytest.fixture
def state():
    return padded_net(depth=2, seed=7).state_dict()


@pytest.fixture
def other():
    return padded_net(depth=2, seed=8).state_dict()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "net.pt"


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def holds(net, state):
    loaded = net.state_dict()
    return list(loaded) == list(state) and all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": under("module.", state)},
        lambda state: under("_orig_mod.module.", state),
        lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}},
        lambda state: {"model": state, "model_ema": {key: value.clone() for key, value in state.items()}},
    ],
    ids=["plain", "state_dict", "model, module.", "_orig_mod.module.", "optimizer", "an average equal to the weights"],
)
def test_what_chooses_nothing_is_loaded_without_a_word(wrap, net, state, file):
    torch.save(wrap(state), file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_weights(net, file, "net") == ""
    assert holds(net, state)


@pytest.mark.parametrize(
    ("wrap", "taken"),
    [
        (lambda state: {"state_dict": under("model.", state)}, "weights under 'state_dict', prefix 'model.'"),
        (lambda state: {"state_dict": under("backbone.", state)}, "weights under 'state_dict', prefix 'backbone.'"),
        (lambda state: under("encoder.", state), "weights, prefix 'encoder.'"),
        (lambda state: {"net": state}, "weights under 'net'"),
        (lambda state: {"a": {"b": {"c.d.e": 1, **under("x.", state)}}}, "weights under 'a.b', prefix 'x.'"),
        (
            lambda state: {"teacher": under("backbone.", state) | {"head.weight": torch.zeros(3)}, "epoch": 1},
            "weights under 'teacher', prefix 'backbone.'; 1 other tensor left out",
        ),
        (
            lambda state: {"state_dict": under("module.encoder_q.", state) | {"module.queue": torch.zeros(2, 2)}},
            "weights under 'state_dict', prefix 'module.encoder_q.'; 1 other tensor left out",
        ),
        # The second has one layer of another shape, so that it is no choice.
        (
            lambda state: {"student": state | {"conv2.bias": torch.zeros(1)}, "teacher": state},
            f"weights under 'teacher'; {len(padded_net(depth=2).state_dict())} other tensors left out",
        ),
    ],
    ids=["Lightning", "mm*", "encoder.", "net", "deep", "teacher", "MoCo", "one of two fits"],
)
def test_weights_are_found_said_and_loaded(wrap, taken, net, state, file):
    torch.save(wrap(state), file)
    with pytest.warns(ProbeWarning) as warned:
        assert load_weights(net, file, "net") == taken
    assert [str(warning.message) for warning in warned] == [f"weights {file}: took {taken}."]
    assert holds(net, state)


def test_weights_of_the_inner_model_fit_a_wrapped_one(net, state, file):
    torch.save(state, file)
    wrapped = nn.Sequential(net)
    with pytest.warns(ProbeWarning, match="took weights, put under '0.'"):
        load_weights(wrapped, file, "net")
    assert holds(net, state)


def test_a_part_is_found_in_a_mapping_too(net, state):
    with pytest.warns(ProbeWarning, match="took weights under 'teacher'"):
        load_weights(net, {"teacher": state}, "net")
    assert holds(net, state)


class TestSeveralPartsFit:
    @pytest.fixture
    def file(self, file, state, other):
        torch.save({"teacher": under("backbone.", state), "student": under("backbone.", other)}, file)
        return file

    def test_it_is_an_error_that_lists_them(self, net, file):
        before = {key: value.clone() for key, value in net.state_dict().items()}
        message = (
            r"2 parts fit net: teacher\.backbone, student\.backbone\. Choose one behind a colon, such as .*net\.pt:"
        )
        with pytest.raises(ArgumentError, match=message):
            load_weights(net, file, "net")
        assert holds(net, before)

    @pytest.mark.parametrize("part", ["student", "student.backbone"])
    def test_one_is_chosen_by_its_name(self, part, net, other, file):
        with pytest.warns(ProbeWarning, match="took weights under 'student', prefix 'backbone.'; 4 other tensors"):
            load_weights(net, f"{file}:{part}", "net")
        assert holds(net, other)

    def test_the_suggested_choice_is_one(self, net, state, file):
        with pytest.raises(ArgumentError) as raised:
            load_weights(net, file, "net")
        suggested = str(raised.value).rpartition("such as ")[2].removesuffix(".")
        with pytest.warns(ProbeWarning):
            load_weights(net, suggested, "net")
        assert holds(net, state)

    def test_a_part_that_is_not_there(self, net, file):
        with pytest.raises(ArgumentError, match=r"has no part 'ema' .* it has 'teacher.backbone', 'student.backbone'"):
            load_weights(net, f"{file}:ema", "net")


def test_a_head_of_another_width_stays_an_error(net, state, file):
    state["conv2.bias"] = torch.zeros(3)
    torch.save({"teacher": under("backbone.", state)}, file)
    message = (
        r"do not fit net: 1 of another shape: conv2.bias \(\(3,\) instead of \(16,\)\) "
        r"\(compared with weights under 'teacher', prefix 'backbone.'\)"
    )
    with pytest.raises(ModelError, match=message):
        load_weights(net, file, "net")


def test_a_missing_head_stays_an_error(net, state, file):
    del state["conv2.weight"]
    torch.save({"state_dict": under("backbone.", state)}, file)
    with pytest.raises(ModelError, match=r"1 missing: conv2.weight \(compared with .* prefix 'backbone.'\)"):
        load_weights(net, file, "net")


def test_what_is_too_much_is_an_error_and_may_be_left_out(net, state, file):
    torch.save(under("module.", state | {"fc.weight": torch.zeros(2, 2)}), file)
    with pytest.raises(ModelError, match=r"1 not in the model: fc\.weight"):
        load_weights(net, file, "net")
    load_weights(net, file, "net", without="fc.")
    assert holds(net, state)


def test_weights_of_another_architecture_are_compared_by_their_own_names(net, file):
    torch.save({"state_dict": nn.Linear(2, 2).state_dict(), "epoch": 1}, file)
    with pytest.raises(ModelError, match=r"4 missing: conv1.weight.*; 2 not in the model: weight, bias"):
        load_weights(net, file, "net")


def test_counters_of_normalisation_may_be_missing(file):
    norm = nn.BatchNorm2d(2)
    state = norm.state_dict()
    state["running_mean"] = torch.tensor([3.0, 4.0])
    del state["num_batches_tracked"]
    torch.save({"net": state}, file)
    with pytest.warns(ProbeWarning):
        load_weights(norm, file, "norm")
    assert norm.running_mean.tolist() == [3, 4]


def test_safetensors(net, state, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    file = tmp_path / "net.safetensors"
    safetensors.save_file(under("backbone.", state), file)
    with pytest.warns(ProbeWarning, match="prefix 'backbone.'"):
        load_weights(net, file, "net")
    assert holds(net, state)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="cannot be read"):
        load_weights(net, file, "net")


def test_without_safetensors_the_cure_is_told(net, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "net.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"pip install safetensors"):
        load_weights(net, tmp_path / "net.safetensors", "net")


@pytest.mark.parametrize("write", [torch.save, lambda content, path: Path(path).write_bytes(pickle.dumps(content))])
@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"teacher": {"conv1.weight": torch.zeros(1), "x": bad}}])
def test_a_pickle_with_code_is_refused_and_nothing_is_run(write, wrap, net, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(wrap(RunsCode()), file)
    with pytest.raises(ModelError, match="refused, and nothing in it was run"):
        load_weights(net, file, "net")
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"no weights at all", "refused, and nothing in it was run: it is damaged"),
        ([1, 2], r"expected a state dict \(names and tensors\), found a list"),
        ({"a": 1}, "found a dict with the keys a"),
    ],
)
def test_files_without_weights(content, message, net, file):
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ModelError, match=message):
        load_weights(net, file, "net")


@pytest.mark.parametrize("content", [b"junk\n", b"not an image", b"", b"\x80\x02]q\x00."], ids=repr)
def test_what_is_no_file_of_weights_at_all(content, net, file):
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights .*: (cannot be read|refused|expected a state dict)"):
        load_weights(net, file, "net")


def test_a_truncated_file(net, state, file):
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(ModelError, match="cannot be read"):
        load_weights(net, file, "net")


def test_no_file(net, tmp_path):
    with pytest.raises(ArgumentError, match="there is no such file"):
        load_weights(net, tmp_path / "absent.pt", "net")


class Unstable(nn.Module):
    """What it prints of itself is another text in each process."""

    def extra_repr(self):
        return str(id(self))


def test_modules_are_told_apart_by_what_is_the_same_in_every_process():
    def net(*more):
        return nn.Sequential(padded_net(depth=2), *more)

    assert modules_digest(net(Unstable())) == modules_digest(net(Unstable())) != modules_digest(net(nn.Identity()))
    plain = net(nn.MaxPool2d(2))
    compiled = net(torch.compile(nn.MaxPool2d(2)))
    digests = [
        modules_digest(model)
        for model in (plain, probe.with_padding(plain, "circular"), probe.with_sampling(plain, "polyphase"))
    ]
    assert len(set(digests)) == 3 and modules_digest(compiled) == digests[0]


def test_borders_of_pooling_alone_are_told_apart():
    net = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 4, 1))
    copies = [probe.with_padding(net, padding) for padding in ("circular", "reflect", "replicate")]
    assert len(set(map(modules_digest, [net, *copies]))) == 4
    assert modules_digest(probe.with_padding(net, "circular")) == modules_digest(copies[0])
    assert modules_digest(copies[0].train()) == modules_digest(copies[0].eval())

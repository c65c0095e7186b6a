"""Position embeddings that tell no position, or a wrong one."""

import copy
import warnings

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import probe
from probe.errors import ArgumentError, ModelError, ProbeWarning
from probe.testing import noise_images, padded_net
from probe.variants.embeddings import POSITION_EMBEDDINGS, with_position_embedding
from tests.conftest import state_of

pytestmark = pytest.mark.usefixtures("one_thread")

PATCH, SIZE, WIDTH = 4, 32, 16
GRID = SIZE // PATCH


def vision_transformer(seed=0):
    """A ViT of torchvision whose table holds the row and the column of each patch, in two of its channels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = torchvision.models.VisionTransformer(SIZE, PATCH, 2, 2, WIDTH, 32, num_classes=3).eval()
        table = 0.1 * torch.randn(1, GRID**2 + 1, WIDTH)
    place = torch.linspace(-1, 1, GRID)
    table[0, 1:] = 0
    table[0, 1:, 0] = 2 * place.repeat_interleave(GRID)
    table[0, 1:, 1] = 2 * place.repeat(GRID)
    model.encoder.pos_embedding = nn.Parameter(table)
    return model


def patches_of(model, images, name="encoder.layers.encoder_layer_1"):
    """The patches behind a layer, shape (image, row, column, channel)."""
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda *given: kept.append(given[2]))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0][:, 1:].unflatten(1, (GRID, GRID))


@pytest.mark.parametrize("embedding", ["zero", "mean"])
def test_a_vit_that_is_told_no_position_moves_with_its_patches(embedding):
    model, images = vision_transformer(), noise_images(2, SIZE)
    told_none = with_position_embedding(model, embedding)
    rolled = images.roll((2 * PATCH, 3 * PATCH), (2, 3))
    torch.testing.assert_close(
        patches_of(told_none, rolled), patches_of(told_none, images).roll((2, 3), (1, 2)), atol=1e-5, rtol=0
    )
    assert not torch.allclose(
        patches_of(model, rolled), patches_of(model, images).roll((2, 3), (1, 2)), atol=1e-2, rtol=0
    )


def test_position_is_read_from_the_table_alone():
    """The readout is at chance without position, and no better than of any permutation where the table is shuffled."""
    model, images = vision_transformer(), noise_images(80, SIZE)
    reading = {
        "layers": ["encoder.dropout", "encoder.layers.encoder_layer_1"],
        "stimuli": ["rolled"],
        "progress": False,
    }
    scores = {"original": probe.layerwise(model, images, **reading)}
    for embedding in POSITION_EMBEDDINGS:
        scores[embedding] = probe.layerwise(with_position_embedding(model, embedding), images, **reading)
    assert (scores["original"].r2.sel(layer="encoder.dropout") > 0.5).all()
    assert (scores["original"].r2 > 0.3).all()
    for embedding in ("zero", "mean"):
        assert (abs(scores[embedding].r2) < np.maximum(4 * scores[embedding].r2_se, 0.02)).all(), embedding
    table = with_position_embedding(model, "shuffled").encoder.pos_embedding.detach()[0, 1:, :2].double()
    row = torch.linspace(-1, 1, GRID, dtype=torch.float64).repeat_interleave(GRID)
    centred = table - table.mean(dim=0)
    # Noise in the table's own channels lowers what a linear readout of the table alone would explain.
    explained = float((centred @ torch.linalg.lstsq(centred, row[:, None]).solution).var() / row.var())
    assert scores["shuffled"].r2.sel(target="row", layer="encoder.dropout").item() < explained + 0.02 < 0.15


@pytest.mark.parametrize("embedding", POSITION_EMBEDDINGS)
def test_only_the_patches_of_the_table_change(embedding):
    model = vision_transformer()
    before, state = state_of(model), torch.get_rng_state()
    original = copy.deepcopy(model.state_dict())
    changed = with_position_embedding(model, embedding).state_dict()
    after = state_of(model)
    for part in ("tensors", "modes", "hooks", "attributes"):
        assert after[part] == before[part]
    assert torch.equal(torch.get_rng_state(), state)
    assert list(changed) == list(original)
    for name, tensor in original.items():
        assert torch.equal(model.state_dict()[name], tensor), name
        assert torch.equal(changed[name], tensor) == (name != "encoder.pos_embedding"), name
    table, made = original["encoder.pos_embedding"], changed["encoder.pos_embedding"]
    assert torch.equal(made[:, 0], table[:, 0]), "the class token"
    patches = table[0, 1:].double()
    if embedding == "shuffled":
        assert sorted(made[0, 1:].tolist()) == sorted(table[0, 1:].tolist())
    else:
        expected = patches.mean(dim=0) if embedding == "mean" else torch.zeros(WIDTH)
        torch.testing.assert_close(made[0, 1:], expected.float().expand(GRID**2, -1), atol=1e-7, rtol=0)


def test_the_seed_tells_how_a_table_is_shuffled():
    model = vision_transformer()
    first, again, other = (
        with_position_embedding(model, "shuffled", seed=seed).encoder.pos_embedding for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# Name, settings, and by name of the table: how many entries stand before and behind those of patches.
TIMM = {
    "vit_tiny_patch16_224": ({}, {"pos_embed": (1, 0)}),
    "deit_tiny_distilled_patch16_224": ({}, {"pos_embed": (2, 0)}),
    "vit_small_patch14_reg4_dinov2": ({"img_size": (28, 42)}, {"pos_embed": (0, 0)}),
    "vit_small_patch14_dinov2": ({"img_size": (28, 70)}, {"pos_embed": (1, 0)}),
    "beit_base_patch16_224": (
        {"embed_dim": 48, "num_heads": 3, "depth": 2},
        {f"blocks.{block}.attn.relative_position_bias_table": (0, 3) for block in (0, 1)},
    ),
    "eva02_tiny_patch14_224": ({"depth": 1}, {"pos_embed": (1, 0)}),
    "swin_tiny_patch4_window7_224": (
        {"depths": (1, 1), "num_heads": (1, 2), "embed_dim": 8},
        {f"layers.{stage}.blocks.0.attn.relative_position_bias_table": (0, 0) for stage in (0, 1)},
    ),
    "convit_tiny": ({"depth": 1}, {"pos_embed": (0, 0)}),
    "crossvit_9_240": ({}, {"pos_embed_0": (1, 0), "pos_embed_1": (1, 0)}),
}


@pytest.mark.parametrize("name", TIMM)
def test_tables_of_timm_are_found_with_their_patches(name):
    settings, tables = TIMM[name]
    model = timm.create_model(name, pretrained=False, **settings)
    with torch.no_grad():
        for table in tables:
            model.get_parameter(table).uniform_(1, 2)
    with warnings.catch_warnings(action="ignore"):
        changed = with_position_embedding(model, "zero").state_dict()
    assert changed.keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        if key not in tables:
            assert torch.equal(changed[key], tensor), key
            continue
        n_before, n_behind = tables[key]
        entries, made = (values.reshape(-1, values.shape[-1]) for values in (tensor, changed[key]))
        stop = len(entries) - n_behind
        assert torch.equal(made[:n_before], entries[:n_before])
        assert torch.equal(made[stop:], entries[stop:])
        assert not made[n_before:stop].any()


@pytest.mark.parametrize(
    ("shape", "axes"), [((1, 6, 6, 5), (1, 2)), ((1, 5, 6, 6), (2, 3)), ((1, 3, 4, 5), (1, 2)), ((12, 5), (0,))]
)
def test_tables_are_read_in_all_their_layouts(shape, axes):
    model = nn.Module()
    model.grid_size = (3, 4)
    model.register_buffer("pos_embed", torch.randn(shape))
    made = with_position_embedding(model, "mean").pos_embed
    torch.testing.assert_close(made, model.pos_embed.mean(axes, keepdim=True).expand(shape))


class Embeddings(nn.Module):
    """As in Hugging Face's ViT, DeiT and DINOv2."""

    def __init__(self, n_before):
        super().__init__()
        self.patch_embeddings = nn.Conv2d(3, 8, 4, stride=4)
        self.patch_embeddings.num_patches = 24
        self.position_embeddings = nn.Parameter(torch.randn(1, 24 + n_before, 8))


class Bias(nn.Module):
    """As in Hugging Face's BEiT."""

    def __init__(self):
        super().__init__()
        self.window_size = (4, 6)
        self.relative_position_bias_table = nn.Parameter(torch.randn(7 * 11 + 3, 2))


class Clip(nn.Module):
    """As in Hugging Face's CLIP, with the table of its text beside that of its patches."""

    def __init__(self):
        super().__init__()
        self.num_patches = 16
        self.position_embedding = nn.Embedding(17, 8)
        self.text_model = nn.Module()
        self.text_model.position_embedding = nn.Embedding(17, 8)


@pytest.mark.parametrize("n_before", [0, 1, 2, 5])
def test_tables_of_hugging_face_keep_what_stands_before_the_patches(n_before):
    model = nn.ModuleDict({"embeddings": Embeddings(n_before)})
    table = model["embeddings"].position_embeddings
    made = with_position_embedding(model, "mean")["embeddings"].position_embeddings
    assert torch.equal(made[:, :n_before], table[:, :n_before])
    torch.testing.assert_close(made[:, n_before:], table[:, n_before:].mean(dim=1, keepdim=True).expand(1, 24, 8))


def test_relative_tables_keep_the_entries_of_the_class_token():
    model = Bias()
    made = with_position_embedding(model, "shuffled").relative_position_bias_table
    table = model.relative_position_bias_table
    assert torch.equal(made[-3:], table[-3:])
    assert sorted(made.tolist()) == sorted(table.tolist())
    assert not torch.equal(made, table)


def test_the_words_of_a_text_keep_their_places():
    model = Clip()
    made = with_position_embedding(model, "zero")
    assert torch.equal(made.text_model.position_embedding.weight, model.text_model.position_embedding.weight)
    assert torch.equal(made.position_embedding.weight[0], model.position_embedding.weight[0])
    assert not made.position_embedding.weight[1:].any()


@pytest.mark.parametrize(("embedding", "is_constant"), [("zero", True), ("mean", True), ("shuffled", False)])
def test_a_table_made_from_coordinates_gives_every_offset_one_bias(embedding, is_constant):
    model = torchvision.models.swin_transformer.ShiftedWindowAttentionV2(8, [4, 4], [0, 0], 2).eval()
    made = with_position_embedding(model, embedding)
    bias = made.get_relative_position_bias()
    assert torch.allclose(bias, bias[..., :1, :1].expand_as(bias)) == is_constant
    assert made.state_dict().keys() == model.state_dict().keys()
    original = model.get_relative_position_bias()
    if not is_constant:
        torch.testing.assert_close(bias.unique(), original.unique())
        assert not torch.allclose(bias, original)


@pytest.mark.parametrize("embedding", ["zero", "mean"])
@pytest.mark.parametrize("version", ["", "v2_"])
def test_windows_of_swin_without_position_do_not_know_their_order(version, embedding):
    kind = torchvision.models.swin_transformer
    attention = kind.ShiftedWindowAttentionV2 if version else kind.ShiftedWindowAttention
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = attention(8, [4, 4], [0, 0], 2).eval()
    if not version:
        nn.init.normal_(model.relative_position_bias_table)
    maps = torch.randn(1, 4, 4, 8)
    order = torch.randperm(16)
    with torch.no_grad():
        permuted = maps.flatten(1, 2)[:, order].unflatten(1, (4, 4))
        for net, is_blind in ((model, False), (with_position_embedding(model, embedding), True)):
            expected = net(maps).flatten(1, 2)[:, order].unflatten(1, (4, 4))
            assert torch.allclose(net(permuted), expected, atol=1e-5) == is_blind


def test_a_bias_that_was_kept_from_an_earlier_run_is_made_anew():
    model = timm.create_model("levit_128s", pretrained=False).eval()
    attention = model.stages[0].blocks[0].attn
    nn.init.normal_(attention.attention_biases)
    device = torch.device("cpu")
    assert attention.get_attention_biases(device).std() > 0
    made = with_position_embedding(model, "mean").stages[0].blocks[0].attn
    assert made.get_attention_biases(device).std(dim=(1, 2)).max() < 1e-6


def test_tied_tables_stay_tied_and_are_changed_once():
    model = nn.ModuleDict({"encoder": Embeddings(1), "decoder": Embeddings(1)})
    table = model["encoder"].position_embeddings
    model["decoder"].position_embeddings = table
    made = with_position_embedding(model, "shuffled", seed=3)
    assert made["encoder"].position_embeddings is made["decoder"].position_embeddings
    alone = with_position_embedding(nn.ModuleDict({"encoder": model["encoder"]}), "shuffled", seed=3)
    assert torch.equal(made["encoder"].position_embeddings, alone["encoder"].position_embeddings)


def test_a_table_that_is_a_plain_tensor_of_sines_is_changed():
    model = nn.Module()
    model.pos_embedding = torch.randn(36, 5)
    assert not with_position_embedding(model, "zero").pos_embedding.any()


def test_tables_in_a_list_are_changed_each():
    model = nn.Module()
    model.pos_embed = nn.ParameterList([torch.randn(1, 17, 4), torch.randn(1, 9, 4)])
    large, small = with_position_embedding(model, "zero").pos_embed
    assert torch.equal(large[:, 0], model.pos_embed[0][:, 0])
    assert not large[:, 1:].any()
    assert not small.any()


def test_what_else_encodes_position_is_listed_in_one_warning():
    model = vision_transformer()
    model.rope = nn.Module()
    model.rope.register_buffer("pos_embed", torch.randn(64, 8))
    model.peg = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    model.dwconv = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    model.register_buffer("alibi_slopes", torch.ones(4))
    model.pos_proj = nn.Linear(3, 2)
    model.pos_embed = nn.Parameter(torch.ones(1, 61, 8))
    with pytest.warns(ProbeWarning) as caught:
        made = with_position_embedding(model, "zero")
    (warning,) = caught
    assert str(warning.message) == (
        "embedding='zero': not converted: pos_embed (which of its 61 entries are patches is not known); "
        "rope (rotary embedding); peg (encoding by convolutions); dwconv (depthwise convolution that pads); "
        "pos_proj (computed in its code); alibi_slopes (ALiBi)."
    )
    assert torch.equal(made.rope.pos_embed, model.rope.pos_embed)
    assert torch.equal(made.pos_embed, model.pos_embed)


def test_a_model_without_tables_is_an_error_that_says_what_was_looked_for():
    with pytest.raises(ModelError, match=r"Looked for were parameters.*Nothing else that encodes position was found"):
        with_position_embedding(padded_net("zeros"), "zero")
    rotary = timm.create_model("vit_small_patch16_dinov3", pretrained=False, depth=1)
    with pytest.raises(ModelError, match=r"not converted: rope \(rotary embedding\)"):
        with_position_embedding(rotary, "zero")


def test_arguments_that_cannot_be_meant_are_errors():
    with pytest.raises(ArgumentError, match="embedding='zeros' is unknown; expected one of zero, mean, shuffled"):
        with_position_embedding(vision_transformer(), "zeros")
    with pytest.raises(ArgumentError, match="seed=1: embedding='zero' draws nothing"):
        with_position_embedding(vision_transformer(), "zero", seed=1)


@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Dinov2", "Beit"])
def test_tables_of_real_hugging_face_models(kind):
    transformers = pytest.importorskip("transformers")
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "Beit":
        settings |= {"use_absolute_position_embeddings": True, "use_relative_position_bias": True}
    config = getattr(transformers, f"{kind}Config")(image_size=32, patch_size=8, **settings)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "position" in name:
                parameter.normal_()
    n_before = 2 if kind == "DeiT" else 1
    images = noise_images(1, 32)
    made = with_position_embedding(model, "zero")
    for net, is_blind in ((model, False), (made, True)):
        with torch.no_grad():
            maps, rolled = (
                net(shown).last_hidden_state[:, n_before:].unflatten(1, (4, 4))
                for shown in (images, images.roll((8, 16), (2, 3)))
            )
        assert torch.allclose(maps.roll((1, 2), (1, 2)), rolled, atol=1e-4) == is_blind

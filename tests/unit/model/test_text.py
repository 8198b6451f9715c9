"""The text tower against sentence-transformers: the same local model directory must give the same embeddings."""

import pytest
import torch
from torch import nn

from clippy_core.errors import ConfigError
from clippy_core.model.config import TextConfig
from clippy_core.model.text import TextTower, unit
from clippy_core.model.tokenizer import Tokenizer

SENTENCES = [
    "a photo of a dog.",
    "dog",
    "",
    "the unusually quick red dog on the green grass, and a castle in the sky and two dogs and the grass.",
    "Castles, zebras",
    "a photo of the sky in red and green.",
]
MAX_TOKENS = 20  # fewer than the fourth sentence has

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

# encoder, pooling, then (width, bias, activation) of a dense module or None
DIRECTORIES = {
    "bert mean": ("bert", "mean", None),
    "bert cls": ("bert", "cls", None),
    "bert mean, dense with bias and tanh": ("bert", "mean", (24, True, "tanh")),
    "bert cls, dense without bias": ("bert", "cls", (48, False, "identity")),
    "t5 mean": ("t5", "mean", None),
    "t5 mean, dense without bias, as Sentence-T5": ("t5", "mean", (24, False, "identity")),
    "mpnet mean": ("mpnet", "mean", None),
    "distilbert mean": ("distilbert", "mean", None),
}


def save_sentence_transformer(folder, encoder_config, tokenizer_json, pool, dense, disturb):
    """Assemble a random model from sentence-transformers' own modules and save it as its users would."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, PreTrainedTokenizerFast

    encoder_folder = folder / "encoder"
    arguments = dict(encoder_config)
    kind = arguments.pop("model_type")
    torch.manual_seed(0)
    make = AutoModel if kind == "mpnet" else AutoModelForTextEncoding
    disturb(make.from_config(AutoConfig.for_model(kind, **arguments))).save_pretrained(encoder_folder)
    (encoder_folder / "tokenizer.json").write_bytes(tokenizer_json)
    PreTrainedTokenizerFast(
        tokenizer_file=str(encoder_folder / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(encoder_folder)
    transformer = Transformer(str(encoder_folder), max_seq_length=MAX_TOKENS)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=pool)]
    if dense:
        width, bias, activation = dense
        function = nn.Tanh() if activation == "tanh" else nn.Identity()
        layer = Dense(transformer.get_embedding_dimension(), width, bias=bias, activation_function=function)
        modules.append(disturb(layer, seed=1))
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "saved"), create_model_card=False)
    return folder / "saved"


def tower_from(saved, pool, dense):
    """A tower of ours with the weights of a saved model, read from its files alone."""
    import json

    from safetensors.torch import load_file

    kinds = [module["type"].rsplit(".", 1)[-1] for module in json.loads((saved / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling"] + ["Dense"] * bool(dense)
    width, bias, activation = dense or (None, False, "identity")
    config = TextConfig(
        json.loads((saved / "config.json").read_text()),
        pool=pool,
        dense=width,
        dense_bias=bias,
        dense_activation=activation,
        max_tokens=MAX_TOKENS,
    )
    tower = TextTower(config).eval()
    encoder = {key: value for key, value in load_file(saved / "model.safetensors").items() if "pooler" not in key}
    missing, unexpected = tower.encoder.load_state_dict(encoder, strict=False)
    assert not unexpected
    assert set(missing) <= {"encoder.embed_tokens.weight"}, "only what is tied to a loaded weight may be left out"
    if dense:
        state = {
            key.removeprefix("linear."): value for key, value in load_file(next(saved.glob("2_*/*.safe*"))).items()
        }
        tower.dense.load_state_dict(state, strict=True)
    return tower


@pytest.fixture(scope="module", params=DIRECTORIES)
def case(request, tmp_path_factory, encoders, tokenizer_json, disturb):
    """A saved sentence-transformers model as that library loads it, our tower of it, and our tokenizer."""
    from sentence_transformers import SentenceTransformer

    kind, pool, dense = DIRECTORIES[request.param]
    folder = tmp_path_factory.mktemp("sentence-transformer")
    saved = save_sentence_transformer(folder, encoders[kind], tokenizer_json, pool, dense, disturb)
    reference = SentenceTransformer(str(saved), device="cpu", local_files_only=True)
    return reference, tower_from(saved, pool, dense), Tokenizer(saved / "tokenizer.json", MAX_TOKENS)


def embed(tower, tokenizer, texts):
    ids_BL, mask_BL = tokenizer(texts)
    with torch.no_grad():
        return tower(torch.from_numpy(ids_BL), torch.from_numpy(mask_BL))


def test_embeddings_agree_with_sentence_transformers(case):
    reference, tower, tokenizer = case
    expected = reference.encode(SENTENCES, convert_to_tensor=True, batch_size=len(SENTENCES))
    actual = embed(tower, tokenizer, SENTENCES)
    assert actual.shape == (len(SENTENCES), tower.width)
    assert expected.std() > 0.01
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_unit_embeddings_agree_with_sentence_transformers(case):
    reference, tower, tokenizer = case
    expected = reference.encode(SENTENCES, convert_to_tensor=True, normalize_embeddings=True)
    torch.testing.assert_close(unit(embed(tower, tokenizer, SENTENCES)), expected, atol=1e-5, rtol=1e-5)


def test_padding_does_not_change_an_embedding(case):
    _, tower, tokenizer = case
    together = embed(tower, tokenizer, SENTENCES)
    alone = torch.cat([embed(tower, tokenizer, [text]) for text in SENTENCES])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_sentences_differ(case):
    _, tower, tokenizer = case
    distances = torch.cdist(*[embed(tower, tokenizer, SENTENCES)] * 2)
    assert (distances + torch.eye(len(SENTENCES))).min() > 1e-3


def test_which_number_padding_has_does_not_matter(encoders):
    tower = TextTower(TextConfig(encoders["bert"])).eval()
    mask_BL = torch.tensor([[1, 1, 1, 0, 0]])
    with torch.no_grad():
        first = tower(torch.tensor([[2, 7, 3, 0, 0]]), mask_BL)
        second = tower(torch.tensor([[2, 7, 3, 9, 12]]), mask_BL)
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-6)


def test_a_projection_maps_into_the_image_space(encoders):
    tower = TextTower(TextConfig(encoders["bert"], dense=16, dense_activation="tanh", projection=40)).eval()
    plain = TextTower(TextConfig(encoders["bert"], dense=16, dense_activation="tanh")).eval()
    plain.load_state_dict({key: value for key, value in tower.state_dict().items() if "projection" not in key})
    ids_BL = torch.tensor([[2, 7, 3]])
    with torch.no_grad():
        actual = tower(ids_BL, torch.ones_like(ids_BL))
        expected = plain(ids_BL, torch.ones_like(ids_BL)) @ tower.projection.weight.T
    assert tower.width == 40
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_number_format_of_a_published_file_does_not_decide_how_it_is_computed(encoders, key):
    tower = TextTower(TextConfig({**encoders["bert"], key: "float16"}))
    assert {parameter.dtype for parameter in tower.parameters()} == {torch.float32}


def test_the_unused_pooler_is_left_out(encoders):
    assert not [name for name, _ in TextTower(TextConfig(encoders["bert"])).named_parameters() if "pooler" in name]


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"model_type": "bertt"}, "model_type 'bertt', which transformers does not know; did you mean bert"),
        ({"model_type": 5}, "model_type 5, which transformers does not know"),
        ({"model_type": "vit", **SMALL}, "type 'vit' is not a text encoder"),
        ({"model_type": "clip", "text_config": SMALL, "vision_config": SMALL}, "type 'clip' is not a text encoder"),
        ({"model_type": "bert", "hidden_size": "x"}, "type 'bert' cannot be built: .*'hidden_size' expected int"),
        ({"model_type": "bert", "hidden_size": 33, "num_attention_heads": 4}, "cannot be built: .*33.*not a multiple"),
        ({"model_type": "bert", "hidden_act": "nope"}, "cannot be built: KeyError: 'nope'"),
    ],
)
def test_an_encoder_that_cannot_be_built_says_why(encoder, message, encoders):
    small = {"num_hidden_layers": 1, "vocab_size": 10} if encoder["model_type"] == "bert" else {}
    with pytest.raises(ConfigError, match=message) as caught:
        TextTower(TextConfig({**small, **encoder}))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_unit_vectors_are_float32_of_length_one(dtype):
    vectors = unit(torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype))
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(5))


def test_the_unit_vector_of_zero_is_zero():
    assert unit(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]

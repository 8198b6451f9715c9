"""Presets of the paper's model and its successors, as data. Imports no torch.

Each says where training starts (``init_vision``, ``init_text``) and what is published about its quality. The towers
are named as timm and the Hugging Face hub name them.
"""

from typing import Any

from clippy_core.model.cache import model_folder
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.presets import BUNDLED, Preset, PublishedWeights

SENTENCE_T5 = "sentence-transformers/sentence-t5-base"
T5_BASE: dict[str, Any] = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 3072,
    "num_layers": 12,
    "num_heads": 12,
    "relative_attention_num_buckets": 32,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "is_encoder_decoder": False,
    "use_cache": False,
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def clippy_b_16() -> Preset:
    """The published checkpoint: max over all 197 tokens, CLS included, as its code pools."""
    config = _paper(
        "clippy-B-16",
        VisionConfig("vit_base_patch16_224", pool_prefix=True),
        "ViT-B/16 (DINO) and Sentence-T5 base, 5,000 steps on CC-12M; pools over CLS as well",
        "published: ImageNet top-1 44.98, VOC mIoU 42.1 (on VOC train, with masks that do not line up)",
    )
    weights = PublishedWeights("https://github.com/kahnchana/clippy/releases/download/v1.0/clippy_5k.pt", None)
    return _preset(
        config, "vit_base_patch16_224.dino", 196_017_025, "github.com/kahnchana/clippy, release v1.0", weights
    )


def clippy_b_16_paper() -> Preset:
    """The paper's recipe: max over the 196 patches only; to be trained."""
    config = _paper(
        "clippy-B-16-paper",
        VisionConfig("vit_base_patch16_224"),
        "ViT-B/16 (DINO) and Sentence-T5 base, max over patches as in the paper",
        "paper, CC-12M: ImageNet top-1 45.3, VOC mIoU 50.8, VOC JS 47.5; no weights were published",
    )
    return _preset(config, "vit_base_patch16_224.dino", 196_017_025)


def clippy_s_16() -> Preset:
    """A quarter of the image tower, with a projection into the text tower's width."""
    config = _paper(
        "clippy-S-16",
        VisionConfig("vit_small_patch16_224", projection=768),
        "ViT-S/16 (DINO) with a projection, and Sentence-T5 base",
    )
    return _preset(config, "vit_small_patch16_224.dino", 132_178_945)


def clippy_b_14_dinov2() -> Preset:
    """DINOv2 with four register tokens, patch 14."""
    vision = VisionConfig("vit_base_patch14_reg4_dinov2", 448, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    config = _paper("clippy-B-14-dinov2", vision, "ViT-B/14 with registers (DINOv2) and Sentence-T5 base")
    return _preset(config, "vit_base_patch14_reg4_dinov2.lvd142m", 196_800_385)


def clippy_b_16_dinov3() -> Preset:
    """DINOv3 with four register tokens and rotary positions, patch 16."""
    vision = VisionConfig("vit_base_patch16_dinov3", 448, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    config = _paper("clippy-B-16-dinov3", vision, "ViT-B/16 with registers (DINOv3) and Sentence-T5 base")
    return _preset(config, "vit_base_patch16_dinov3.lvd1689m", 195_859_585)


def clippy_micro() -> Preset:
    """Small enough to train from nothing in minutes on a CPU.

    Weights this narrow begin larger than the usual 0.02, or the first hundreds of steps do little else than grow them.
    """
    config = ModelConfig(
        name="clippy-micro",
        vision=VisionConfig(
            "vit_tiny_patch16_224",
            size=64,
            projection=128,
            trunk_args={
                "img_size": 64,
                "patch_size": 8,
                "embed_dim": 64,
                "depth": 4,
                "num_heads": 2,
                "weight_init": "jax",
            },
        ),
        text=TextConfig(
            {
                "model_type": "bert",
                "vocab_size": 30522,
                "hidden_size": 128,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "intermediate_size": 512,
                "max_position_embeddings": 64,
                "initializer_range": 0.05,
            },
            max_tokens=32,
        ),
        description="4-layer ViT on 64×64 pictures and a 1-layer BERT, for experiments",
        quality="trained on shapes for 1,872 steps: mIoU 33 %, JS 42 % on 1,000 held-out scenes (docs/pooling.md)",
        licence="Apache-2.0",
    )
    return Preset(
        config,
        None,
        "train it with your data",
        tokenizer=str(BUNDLED / "clippy-lite"),
        parameters=4_338_625,
        training={
            "model": {"patch_dropout": 0.75},
            "optim": {"lr": 3e-3, "warmup": 0.05},
            "run": {"batch_size": 64, "epochs": 6},
        },
    )


def _paper(name: str, vision: VisionConfig, description: str, quality: str = "not trained yet") -> ModelConfig:
    text = TextConfig(T5_BASE, dense=768, max_tokens=77)
    return ModelConfig(
        name, vision, text, ("a photo of a {}.",), description=description, quality=quality, licence="see its source"
    )


def _preset(
    config: ModelConfig,
    init_vision: str,
    parameters: int,
    source: str = "train it with your data",
    weights: PublishedWeights | None = None,
) -> Preset:
    folder = model_folder(config.name)
    directory = folder if (folder / "manifest.json").is_file() else None
    return Preset(
        config,
        directory,
        source,
        weights,
        init_vision=f"timm:{init_vision}",
        init_text=f"hf:{SENTENCE_T5}",
        tokenizer=SENTENCE_T5,
        parameters=parameters,
    )

"""Makes the small networks of timm and Hugging Face that the tests of weight files read.

    python weight_fixtures.py ../../crates/dinolab-nn/tests/fixtures/weights

Each folder gets the library's own files, and `expected.safetensors` with what the library makes
of the images in `images.safetensors`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from weights import class_tokens, enliven

SIZES = ((28, 28), (42, 21), (14, 49))


def images() -> dict[str, torch.Tensor]:
    """One random image of each size."""
    random = torch.Generator().manual_seed(1)
    return {f"{h}x{w}": torch.randn(1, 3, h, w, generator=random) for h, w in SIZES}


def expect(folder: Path, network: torch.nn.Module) -> None:
    """Records the class tokens of all images."""
    features = class_tokens(network)
    found = {size: features(image).contiguous() for size, image in images().items()}
    save_file(found, folder / "expected.safetensors")


def main() -> None:
    """Writes all folders."""
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    save_file(images(), root / "images.safetensors")
    for name, extra in (
        ("timm", {}),
        ("timm_registers", {"init_values": 1e-5, "reg_tokens": 2, "no_embed_class": True}),
        # Registers with position embeddings of their own, which timm can have, too.
        ("timm_placed_registers", {"init_values": 1e-5, "reg_tokens": 2}),
        ("timm_no_bias", {"qkv_bias": False, "no_embed_class": True}),
    ):
        args = {"img_size": 28, "patch_size": 7, "embed_dim": 16, "depth": 2, "num_heads": 2, **extra}
        network = enliven(VisionTransformer(num_classes=3, dynamic_img_size=True, **args))
        folder = root / name
        folder.mkdir(exist_ok=True)
        save_file(network.state_dict(), folder / "model.safetensors")
        prepared = {"input_size": [3, 28, 28], "crop_pct": 0.875, "mean": [0.5] * 3, "std": [0.25] * 3}
        config = {
            "architecture": "vit_small_patch16_224",
            "model_args": args,
            "pretrained_cfg": prepared,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        expect(folder, network)
    common = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
    }
    for name, kind, config in (
        ("hf_vit", transformers.ViTModel, transformers.ViTConfig(**common, intermediate_size=64)),
        ("hf_dinov2", transformers.Dinov2Model, transformers.Dinov2Config(**common)),
        (
            "hf_dinov2_with_registers",
            transformers.Dinov2WithRegistersModel,
            transformers.Dinov2WithRegistersConfig(**common, num_register_tokens=2),
        ),
    ):
        network = enliven(kind(config))
        network.save_pretrained(root / name)
        size, crop = {"shortest_edge": 32}, {"height": 28, "width": 28}
        processor = transformers.BitImageProcessor(
            size=size, crop_size=crop, image_mean=[0.5] * 3, image_std=[0.25] * 3
        )
        processor.save_pretrained(root / name)
        expect(root / name, network)


if __name__ == "__main__":
    main()

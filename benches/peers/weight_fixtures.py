"""Makes the small networks of timm and Hugging Face that the tests of weight files read.

    python weight_fixtures.py ../../crates/dinolab-nn/tests/fixtures/weights [NAME ...]

Each folder gets the library's own files, and `expected.safetensors` with what the library makes
of the images in `images.safetensors`. Folders of networks that DINO did not have also get
`gradients.safetensors`: the gradient of every parameter, by the library's names and in double
precision, of one loss: the sum over the images of the class token's product with `direction`. With
NAME, only these folders are made.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.layers import LayerNorm
from timm.models.eva import Eva
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


def gradients(folder: Path, network: torch.nn.Module) -> None:
    """Records the gradients of one loss over images of three sizes."""
    original, network = network, copy.deepcopy(network).double()
    random = torch.Generator().manual_seed(2)
    direction = torch.randn(16, generator=random)
    loss = torch.zeros((), dtype=torch.float64)
    for image in images().values():
        if isinstance(network, transformers.PreTrainedModel):
            tokens = network(image.double()).last_hidden_state
        else:
            tokens = network.forward_features(image.double())
        loss = loss + (tokens[:, 0] * direction.double()).sum()
    loss.backward()
    # In place of the values, so that they get the names that the values have in files.
    holder = copy.deepcopy(original)
    with torch.no_grad():
        for ours, theirs in zip(holder.parameters(), network.parameters(), strict=True):
            ours.copy_(torch.zeros_like(theirs) if theirs.grad is None else theirs.grad)
    if isinstance(holder, transformers.PreTrainedModel):
        with tempfile.TemporaryDirectory() as temporary:
            holder.save_pretrained(temporary)
            found = load_file(Path(temporary) / "model.safetensors")
    else:
        found = holder.state_dict()
    save_file({**found, "direction": direction}, folder / "gradients.safetensors")


def of_dinov3(root: Path, chosen: set[str]) -> None:
    """DINOv3's networks in both libraries, with and without gates, and DINOv2's with gates."""
    common = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
    }
    dinov3 = {**common, "intermediate_size": 24, "num_register_tokens": 2}
    gated = {"use_gated_mlp": True, "hidden_act": "silu"}
    for name, kind, config in (
        ("hf_dinov3", transformers.DINOv3ViTModel, transformers.DINOv3ViTConfig(**dinov3)),
        (
            "hf_dinov3_gated",
            transformers.DINOv3ViTModel,
            transformers.DINOv3ViTConfig(**{**dinov3, "num_register_tokens": 0}, **gated),
        ),
        (
            "hf_dinov2_gated",
            transformers.Dinov2Model,
            transformers.Dinov2Config(**common, use_swiglu_ffn=True),
        ),
    ):
        if chosen and name not in chosen:
            continue
        network = enliven(kind(config))
        network.save_pretrained(root / name)
        expect(root / name, network)
        gradients(root / name, network)
    for name, extra in (
        ("timm_dinov3", {}),
        ("timm_dinov3_gated", {"swiglu_mlp": True, "swiglu_align_to": 8}),
        ("timm_dinov3_no_bias", {"qkv_bias": False}),
    ):
        if chosen and name not in chosen:
            continue
        args = {
            "img_size": 28,
            "patch_size": 7,
            "embed_dim": 16,
            "depth": 2,
            "num_heads": 2,
            "mlp_ratio": 2,
            "num_reg_tokens": 2,
            "init_values": 1e-5,
            **extra,
        }
        rotary = {"rope_type": "dinov3", "rope_temperature": 100.0, "rope_rotate_half": True}
        network = Eva(
            num_classes=0,
            dynamic_img_size=True,
            use_rot_pos_emb=True,
            use_abs_pos_emb=False,
            use_fc_norm=False,
            norm_layer=partial(LayerNorm, eps=1e-5),
            **rotary,
            **args,
        )
        network = enliven(network)
        folder = root / name
        folder.mkdir(exist_ok=True)
        save_file(network.state_dict(), folder / "model.safetensors")
        config = {"architecture": "vit_small_patch16_dinov3_qkvb", "model_args": args}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        expect(folder, network)
        gradients(folder, network)


def main() -> None:
    """Writes all folders."""
    root, chosen = Path(sys.argv[1]), set(sys.argv[2:])
    root.mkdir(parents=True, exist_ok=True)
    save_file(images(), root / "images.safetensors")
    of_dinov3(root, chosen)
    for name, extra in (
        ("timm", {}),
        ("timm_registers", {"init_values": 1e-5, "reg_tokens": 2, "no_embed_class": True}),
        # Registers with position embeddings of their own, which timm can have, too.
        ("timm_placed_registers", {"init_values": 1e-5, "reg_tokens": 2}),
        ("timm_no_bias", {"qkv_bias": False, "no_embed_class": True}),
    ):
        if chosen and name not in chosen:
            continue
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
        if name == "timm_registers":
            gradients(folder, network)
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
        if chosen and name not in chosen:
            continue
        network = enliven(kind(config))
        network.save_pretrained(root / name)
        size, crop = {"shortest_edge": 32}, {"height": 28, "width": 28}
        processor = transformers.BitImageProcessor(
            size=size, crop_size=crop, image_mean=[0.5] * 3, image_std=[0.25] * 3
        )
        processor.save_pretrained(root / name)
        expect(root / name, network)
        if "dinov2" in name:
            gradients(root / name, network)


if __name__ == "__main__":
    main()

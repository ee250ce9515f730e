"""The settings of `dinolab.train`, for editors and type checkers. `dinolab.settings()` describes them."""

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

Path = str | os.PathLike[str]
Size = int | tuple[int, int] | str

class Settings(TypedDict, total=False):
    # Recipe
    recipe: Literal["paper", "resnet50", "small", "shapes"] | None
    time: str | None
    # Model
    method: Literal["dino", "lejepa", "visreg", "simdino", "dinov2", "distill"] | None
    weights: Path | None
    resize_pos_embed: bool | None
    arch: str | None
    patch_size: int | None
    width: int | None
    depth: int | None
    heads: int | None
    image_size: int | None
    stem: Literal["patchify", "conv"] | None
    registers: int | None
    layer_scale: bool | None
    ffn: Literal["mlp", "swiglu"] | None
    ffn_width: int | None
    positions: Literal["learned", "rope"] | None
    position_rule: Literal["dino", "ratio", "ratio-antialias"] | None
    rope_theta: float | None
    rope_shift: float | None
    rope_jitter: float | None
    rope_rescale: float | None
    layer_norm_eps: float | None
    feature: Literal["class", "patches", "both"] | None
    head_hidden_dim: int | None
    head_layers: int | None
    drop_path_rate: float | None
    patch_drop_rate: float | None
    precision: Literal["f32", "bf16"] | None
    device: str | None
    # DINO, DINOv2 and SimDINO
    head_bottleneck_dim: int | None
    momentum_teacher: float | None
    momentum_teacher_end: float | None
    evaluated: Literal["teacher", "average"] | None
    # SimDINO
    coding_rate_weight: float | None
    coding_rate_epsilon: float | None
    # DINO and DINOv2
    out_dim: int | None
    norm_last_layer: bool | None
    teacher_temp: float | None
    warmup_teacher_temp: float | None
    warmup_teacher_temp_epochs: int | None
    student_temp: float | None
    centering: Literal["centre", "sinkhorn"] | None
    center_momentum: float | None
    freeze_last_layer: int | None
    koleo_weight: float | None
    # DINO
    use_bn_in_head: bool | None
    # DINOv2
    ibot_weight: float | None
    ibot_head: Literal["apart", "shared"] | None
    ibot_out_dim: int | None
    mask_ratio: tuple[float, float] | None
    mask_sample_probability: float | None
    # Distillation
    teacher_weights: Path | None
    teacher_size: int | None
    fixed_crops: int | None
    teacher_feature_weight: float | None
    teacher_patch_weight: float | None
    # SIGReg and VISReg
    sigreg_weight: float | None
    visreg_weight: float | None
    directions: int | None
    # LeJEPA and VISReg
    proj_dim: int | None
    # Average
    average_momentum: float | None
    average_momentum_end: float | None
    # Optimisation
    optimizer: Literal["adamw", "sgd", "lars", "muon"] | None
    epochs: float | None
    batch_size: int | None
    accumulate: int | None
    reproducible_ranks: int | None
    lr: float | None
    min_lr: float | None
    warmup_epochs: float | None
    weight_decay: float | None
    weight_decay_end: float | None
    clip_grad: float | None
    # Adapting weights
    layer_decay: float | None
    patch_embed_lr_scale: float | None
    freeze_backbone_epochs: float | None
    preserve: float | None
    lora_rank: int | None
    lora_alpha: float | None
    # Augmentation
    global_crops_size: Size | None
    global_crops_scale: tuple[float, float] | None
    local_crops_number: int | None
    local_crops_size: Size | None
    low_resolution_epochs: int | None
    local_crops_scale: tuple[float, float] | None
    flip_probability: float | None
    jitter_probability: float | None
    brightness: float | None
    contrast: float | None
    saturation: float | None
    hue: float | None
    greyscale_probability: float | None
    blur_probability: tuple[float, float, float] | None
    blur_radius: tuple[float, float] | None
    blur_crop_size: int | None
    solarise_probability: tuple[float, float, float] | None
    # Data
    in_chans: int | None
    pixels: Literal["rgb", "stored"] | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    num_workers: int | None
    read_ahead: int | None
    cache_mb: int | None
    shuffle_buffer: int | None
    scaled_decoding: bool | None
    max_unusable_percent: float | None
    max_pixels: int | None
    shapes_images: int | None
    shapes_size: int | None
    # Evaluation
    val: Path | None
    holdout: float | None
    eval_every: int | None
    eval_resize: Size | None
    eval_crop: Size | None
    knn_k: int | None
    knn_temp: float | None
    attention_size: Size | None
    attention_images: int | None
    # Run
    seed: int | None
    stop_after_epochs: float | None
    checkpoint_every: int | None
    checkpoint_every_steps: int | None
    saveckp_freq: int | None
    log_every: int | None
    tensorboard: bool | None

"""Settings of a training run that every recipe has; `fvgen.distillation.configs` names whole sets of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from fvgen.checks import require

Precision = Literal["fp32", "bf16"]
OptimizerKind = Literal["adamw", "adamw8bit"]
Backbone = Literal["full", "shared"]
Sampler = Literal["few_step", "ddim"]


@dataclass(frozen=True)
class OptimizerConfig:
    """One role's optimiser."""

    kind: OptimizerKind = "adamw"
    """Optimiser. adamw8bit keeps its moments in 8 bits and needs bitsandbytes."""
    lr: float = 5e-5
    """Highest learning rate."""
    spatial_lr_scale: float = 1.0
    """Learning rate of a video network's 2D layers, those within frames, as a share of that of its motion layers."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    weight_decay: float = 0.01
    """Decoupled weight decay, for each step and unit of learning rate."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly."""
    decay_steps: int = 0
    """Step at which the learning rate reaches 0 along a cosine. 0 keeps it constant."""
    max_grad_norm: float = 1.0
    """Norm that the gradients of a role are clipped to."""

    def __post_init__(self) -> None:
        require(self.lr > 0, "lr", "be positive", self.lr, "5e-5 is the paper's.")
        scale = self.spatial_lr_scale
        require(scale >= 0, "spatial_lr_scale", "be 0 or more", scale, "1 trains all layers alike.")
        low, high = min(self.betas), max(self.betas)
        require(low >= 0 and high < 1, "betas", "lie in [0, 1)", self.betas, "0.9 and 0.999 are usual.")
        require(self.weight_decay >= 0, "weight_decay", "be 0 or more", self.weight_decay, "0 switches it off.")
        require(self.max_grad_norm > 0, "max_grad_norm", "be positive", self.max_grad_norm, "1 is usual.")
        for name in ("warmup_steps", "decay_steps"):
            require(getattr(self, name) >= 0, name, "be 0 or more", getattr(self, name), "0 switches it off.")


@dataclass(frozen=True)
class MeterConfig:
    """What a run logs, and how often. Nothing here changes the weights."""

    log_every: int = 10
    """Steps between records in log.jsonl and TensorBoard."""
    samples_every: int = 500
    """Steps between pictures and held-out errors. 0 switches them off."""
    tensorboard: bool = True
    """Log to TensorBoard."""
    wandb: bool = False
    """Log to Weights & Biases, too."""
    video: bool = True
    """Write sample clips as mp4 beside the PNG grid."""

    def __post_init__(self) -> None:
        require(self.log_every >= 1, "log_every", "be at least 1", self.log_every, "10 is usual.")
        require(self.samples_every >= 0, "samples_every", "be 0 or more", self.samples_every, "0 switches it off.")


@dataclass(frozen=True)
class CheckpointConfig:
    """What a run keeps. Nothing here changes the weights."""

    every: int = 250
    """Steps between checkpoints. The last step and SIGTERM save, too."""
    keep: int = 2
    """Number of newest checkpoints to keep. The one with the smallest held-out error stays beside them."""

    def __post_init__(self) -> None:
        require(self.every >= 1, "every", "be at least 1", self.every, "250 is usual.")
        require(self.keep >= 1, "keep", "be at least 1", self.keep, "2 is usual.")


@dataclass(frozen=True)
class TrainConfig:
    """Settings that every recipe has."""

    steps: int = 4000
    """Updates of the student."""
    global_batch: int = 4
    """Clips in each update, over all processes, accumulated over micro-batches where they do not fit at once."""
    micro_batch: int = 1
    """Clips in each forward pass. The gradients of a process's share are accumulated."""
    seed: int = 0
    """Random seed: order of clips, noise, new weights."""
    precision: Precision = "bf16"
    """Precision. bf16 keeps trained weights in float32 under autocast, and frozen ones in bfloat16."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass instead of keeping them."""
    ema_decay: float = 0.0
    """Decay of the student's moving average, which is exported. 0 exports the student itself."""
    held_out: int = 0
    """Clips at the end of the data set that are never trained on. They give pictures and the held-out error."""
    sampling_steps: int = 4
    """Sampling steps of a teacher in training, for pictures and the held-out error. A student has its own timesteps."""
    student: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser of the student."""
    critic: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser of the fake score and the discriminator."""
    discriminator_lr_scale: float = 1.0
    """Learning rate of the discriminator as a multiple of the critic's. It starts from nothing, while a fake score
    starts as the teacher."""
    meters: MeterConfig = field(default_factory=MeterConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "global_batch", "micro_batch", "sampling_steps"):
            require(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name), "Give a count.")
        for name in ("seed", "held_out"):
            require(getattr(self, name) >= 0, name, "be 0 or more", getattr(self, name), "Give a count.")
        scale = self.discriminator_lr_scale
        require(scale > 0, "discriminator_lr_scale", "be positive", scale, "1 trains all critics alike.")
        require(0 <= self.ema_decay < 1, "ema_decay", "lie in [0, 1)", self.ema_decay, "0.999 is usual, 0 is none.")


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of a new video network. Its channels and its context follow from the data."""

    model_channels: int = 64
    """Width at the finest resolution."""
    channel_mult: tuple[int, ...] = (1, 2, 2)
    """Width at each resolution, in multiples of model_channels."""
    num_res_blocks: int = 1
    """Residual blocks at each resolution of the encoder. The decoder has one more."""
    attention_resolutions: tuple[int, ...] = (2, 4)
    """Downsampling factors at which there is attention."""
    num_head_channels: int = 32
    """Width of an attention head."""
    norm_num_groups: int = 16
    """Groups of every group normalisation."""
    initial_attention_heads: int = 2
    """Heads of the temporal attention right after the first convolution."""
    gated_inputs: int = 0
    """Groups of input channels that go straight into the prediction: the noisy latents, then the condition."""
    base_scale: float = 1.0
    """Base scale of the noise schedule's dynamic rescale."""


def optimizer_of(role: str, config: TrainConfig) -> OptimizerConfig:
    """The settings that a role is trained by."""
    if role == "discriminator":
        return replace(config.critic, lr=config.critic.lr * config.discriminator_lr_scale)
    return config.student if role == "student" else config.critic


_FREE = ("steps", "meters", "checkpoints", "micro_batch", "gradient_checkpointing")
"""What may change when a run is continued: its length, what it logs and keeps, how it uses memory."""


def identity(config: TrainConfig, **others: Any) -> dict[str, Any]:
    """What makes a run this run: all settings that its weights depend on, as plain JSON.

    ``others``: the objective's settings, the data's hash, where the networks came from.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in _FREE}
    return json.loads(json.dumps({**settings, **others}))


def config_hash(settings: dict[str, Any]) -> str:
    """16 hexadecimal digits of an `identity`."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

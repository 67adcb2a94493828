"""Settings of a training run that every recipe has; `fvgen.distillation.configs` names whole sets of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fvgen.checks import require

Precision = Literal["fp32", "bf16"]
OptimizerKind = Literal["adamw", "adamw8bit"]


@dataclass(frozen=True)
class OptimizerConfig:
    """One role's optimiser."""

    kind: OptimizerKind = "adamw"
    """adamw8bit keeps its moments in 8 bits (needs bitsandbytes)"""
    lr: float = 5e-5
    """highest learning rate"""
    betas: tuple[float, float] = (0.9, 0.999)
    """decay of the moments' running means, first and second"""
    weight_decay: float = 0.01
    """decoupled, per step and unit of learning rate"""
    warmup_steps: int = 0
    """the learning rate rises linearly over this many steps"""
    decay_steps: int = 0
    """the learning rate falls along a cosine to 0 at this step; 0 keeps it constant"""
    max_grad_norm: float = 1.0
    """gradients of a role are clipped to this norm"""

    def __post_init__(self) -> None:
        require(self.lr > 0, "lr", "be positive", self.lr, "5e-5 is the paper's.")
        low, high = min(self.betas), max(self.betas)
        require(low >= 0 and high < 1, "betas", "lie in [0, 1)", self.betas, "0.9 and 0.999 are usual.")
        require(self.weight_decay >= 0, "weight_decay", "be 0 or more", self.weight_decay, "0 switches it off.")
        require(self.max_grad_norm > 0, "max_grad_norm", "be positive", self.max_grad_norm, "1 is usual.")
        for name in ("warmup_steps", "decay_steps"):
            require(getattr(self, name) >= 0, name, "be 0 or more", getattr(self, name), "0 switches it off.")


@dataclass(frozen=True)
class MeterConfig:
    """What a run tells about itself, and how often. Nothing here changes the weights."""

    log_every: int = 10
    """steps between records in log.jsonl and TensorBoard"""
    samples_every: int = 500
    """steps between pictures and held-out errors; 0 for none"""
    tensorboard: bool = True
    """log to TensorBoard"""
    wandb: bool = False
    """log to Weights & Biases, too"""
    video: bool = True
    """write sample clips as mp4 beside the PNG grid"""

    def __post_init__(self) -> None:
        require(self.log_every >= 1, "log_every", "be at least 1", self.log_every, "10 is usual.")
        require(self.samples_every >= 0, "samples_every", "be 0 or more", self.samples_every, "0 switches it off.")


@dataclass(frozen=True)
class CheckpointConfig:
    """What a run keeps. Nothing here changes the weights."""

    every: int = 250
    """steps between checkpoints; the last step and SIGTERM save, too"""
    keep: int = 2
    """newest checkpoints kept; the best one by held-out error is kept beside them"""

    def __post_init__(self) -> None:
        require(self.every >= 1, "every", "be at least 1", self.every, "250 is usual.")
        require(self.keep >= 1, "keep", "be at least 1", self.keep, "2 is usual.")


@dataclass(frozen=True)
class TrainConfig:
    """How any objective is trained."""

    steps: int = 4000
    """student updates"""
    global_batch: int = 4
    """clips per update, over all processes"""
    micro_batch: int = 1
    """clips per forward pass; the rest of a process's share is accumulated"""
    seed: int = 0
    """of the clips' order, all noise and all weights that start at random"""
    precision: Precision = "bf16"
    """bf16: trained weights in float32 under autocast, frozen ones in bfloat16"""
    gradient_checkpointing: bool = True
    """compute activations again in the backward pass instead of keeping them"""
    ema_decay: float = 0.0
    """of the averaged student that is exported; 0 for none"""
    held_out: int = 0
    """clips at the data set's end that are never trained on: pictures and the held-out error are theirs"""
    sampling_steps: int = 4
    """steps of the sampler for pictures and the held-out error"""
    student: OptimizerConfig = field(default_factory=OptimizerConfig)
    critic: OptimizerConfig = field(default_factory=OptimizerConfig)
    """of the fake score and the discriminator"""
    meters: MeterConfig = field(default_factory=MeterConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "global_batch", "micro_batch", "sampling_steps"):
            require(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name), "Give a count.")
        for name in ("seed", "held_out"):
            require(getattr(self, name) >= 0, name, "be 0 or more", getattr(self, name), "Give a count.")
        require(0 <= self.ema_decay < 1, "ema_decay", "lie in [0, 1)", self.ema_decay, "0.999 is usual, 0 is none.")


@dataclass(frozen=True)
class NetworkConfig:
    """A video network that is made anew; its channels and its context follow from the data."""

    model_channels: int = 64
    """width at the finest resolution"""
    channel_mult: tuple[int, ...] = (1, 2, 2)
    """width at each resolution over model_channels"""
    num_res_blocks: int = 1
    """stages per resolution in the encoder; the decoder has one more"""
    attention_resolutions: tuple[int, ...] = (2, 4)
    """downsampling factors at which frames attend"""
    num_head_channels: int = 32
    """width of an attention head"""
    norm_num_groups: int = 16
    """groups of every normalisation"""
    initial_attention_heads: int = 2
    """heads of the attention over time right after the first convolution"""
    gated_inputs: int = 0
    """groups of channels that go straight into the prediction: the noisy latents, then those of the condition"""
    base_scale: float = 1.0
    """of the noise schedule's dynamic rescale"""


_FREE = ("steps", "meters", "checkpoints", "micro_batch", "gradient_checkpointing")
"""What may change when a run is continued: how long it goes, what it tells and keeps, how it uses memory."""


def identity(config: TrainConfig, **others: Any) -> dict[str, Any]:
    """What makes a run this run: all settings that its weights depend on, as plain JSON.

    ``others``: the objective's settings, the data's hash, where the networks came from.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in _FREE}
    return json.loads(json.dumps({**settings, **others}))


def config_hash(settings: dict[str, Any]) -> str:
    """16 hexadecimal digits of an `identity`."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

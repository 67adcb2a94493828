"""FVGen's two stages on a toy: a tiny random teacher, clips of moving waves, both students in seconds.

python examples/two_stage_distillation.py OUTPUT [STEPS]
"""

import sys
from pathlib import Path

import torch

import fvgen
from fvgen.clip import Conditions, TrainBatch
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.settings import MeterConfig, OptimizerConfig, TrainConfig, identity

FRAMES, CHANNELS, SIZE, CONTEXT = 4, 3, 8, 8


class Waves:
    """A `ClipSource`: waves that move; their condition is the same waves, fainter."""

    meta = {"latent_channels": CHANNELS}  # noqa: RUF012
    config_hash = "waves"

    def __len__(self) -> int:
        return 16

    def batch(self, keys: list[int]) -> TrainBatch:
        x = torch.arange(SIZE) / SIZE + torch.arange(FRAMES)[:, None, None, None] / 8
        clips = torch.stack([torch.sin(6.3 * (x + key / 16)).expand(FRAMES, CHANNELS, SIZE, SIZE) for key in keys])
        tokens = torch.zeros(len(keys), 3, CONTEXT)
        return TrainBatch(clips.clone(), Conditions(0.5 * clips, tokens, torch.full((len(keys),), 10), tokens))


def main(output: Path, steps: int = 4) -> torch.Tensor:
    """Train both stages; a clip [1, F, C, h, w] that the second student draws in four steps."""
    torch.manual_seed(0)
    widths = {"model_channels": 8, "channel_mult": (1, 2), "attention_resolutions": (2,), "num_head_channels": 8}
    others = {"norm_num_groups": 4, "context_dim": CONTEXT, "text_context_length": 2, "image_tokens_per_frame": 2}
    teacher, schedule = fvgen.VideoUNet(2 * CHANNELS, CHANNELS, **widths, **others), fvgen.NoiseSchedule()
    one = FVGenStage1(critic_steps=1)
    two = FVGenStage2(critic_steps=1, matching=DistributionMatching(guidance_scale=1.0, guidance_rescale=0.0))
    fast, quiet = OptimizerConfig(lr=1e-3), MeterConfig(log_every=1, samples_every=0, tensorboard=False)
    config = TrainConfig(steps=steps, micro_batch=4, precision="fp32", student=fast, critic=fast, meters=quiet)
    first = fvgen.build_roles(one, teacher, schedule)
    fvgen.train(config, Waves(), first, one, output=output / "stage1", settings=identity(config, stage=1))
    second = fvgen.build_roles(two, teacher, schedule, student=first.student, discriminator=first.discriminator)
    fvgen.train(config, Waves(), second, two, output=output / "stage2", settings=identity(config, stage=2))
    denoise = conditional_denoiser(second.student, Waves().batch([0]).conditions, schedule)
    with torch.no_grad():
        noise = torch.randn(1, FRAMES, CHANNELS, SIZE, SIZE)
        return fvgen.sample_few_step(denoise, noise, two.timesteps, schedule, randn_like=torch.randn_like)


if __name__ == "__main__":
    print(f"A clip of shape {list(main(Path(sys.argv[1]), *map(int, sys.argv[2:3])).shape)}")

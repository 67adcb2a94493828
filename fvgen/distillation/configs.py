"""Presets: whole runs by name, with what was measured beside each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.avdm2 import AVDM2
from fvgen.distillation.objectives.causvid import CausVid, CausVidRegression
from fvgen.distillation.objectives.diffusion import Diffusion
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.dmd2 import DMD2
from fvgen.distillation.objectives.draws import StudentInput
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.objectives.regression import Regression
from fvgen.distillation.settings import MeterConfig, NetworkConfig, OptimizerConfig, TrainConfig

PresetName = Literal[
    "fvgen-stage1",
    "fvgen-stage2",
    "fvgen-simulated-stage1",
    "fvgen-simulated-stage2",
    "dmd2",
    "causvid-init",
    "causvid",
    "avdm2",
    "avdm2-video-score",
    "avdm2-gan-alone",
    "ablation-no-gan",
    "ablation-no-gan-reverse-kl",
    "ablation-gan-only",
    "ablation-gan-dmd",
    "ablation-gan-dmd-softened",
    "tiny-teacher",
    "tiny-stage1",
    "tiny-stage2",
    "tiny-no-gan",
    "tiny-no-gan-reverse-kl",
    "tiny-gan-dmd",
]


@dataclass(frozen=True)
class Preset:
    """A recipe with all its settings."""

    about: str
    """Line of the list of presets."""
    objective: Objective
    train: TrainConfig
    starts_from: Literal["nothing", "teacher", "student"] = "teacher"
    """What the trained network is at first; a student comes from another run."""
    network: NetworkConfig | None = None
    """Architecture of a network that starts from nothing."""


# The paper: AdamW, 5e-5 for all, batch 4, 4000 and 5000 iterations, 16 frames at 320x512. Iterations are taken for
# updates of the student. By arithmetic its day on 8 H100 is 32 clips an update, 4 a GPU, and not 4 in all: the batch
# is 32, accumulated clip by clip. On one H100 both stages are then about 18 days by the measured steps; --global-batch
# 1 makes them 13 hours. The paper's teacher is the sparse one for 576x1024; viewcrafter-512 has the paper's size.
_PAPER = TrainConfig(steps=4000, global_batch=32, held_out=8)
_PAPER_STAGE2 = replace(_PAPER, steps=5000)
_PAPER_STAGE1 = FVGenStage1()
_FROZEN = FVGenStage2(discriminator_every=0)  # the paper keeps its stages apart
_SIMULATED_STAGE1 = FVGenStage1(student_input="backward_simulation")
_SIMULATED_STAGE2 = FVGenStage2(student_input="backward_simulation", discriminator_every=2)  # see mixture_2d

_JOINT = replace(_PAPER, steps=9000)  # one run in place of FVGen's two
_SLOW = OptimizerConfig(lr=2e-6)
_CAUSVID = replace(_PAPER_STAGE2, student=_SLOW, critic=_SLOW)
_ODE = replace(_CAUSVID, steps=3000)  # CausVid's number
_WARMED_UP = OptimizerConfig(lr=2e-5, warmup_steps=500, weight_decay=0.01)
_AVDM2 = replace(  # 2e-5 for motion layers, discriminator and fake score, 4e-6 for the student's 2D layers
    _PAPER, steps=10_000, global_batch=16, student=replace(_WARMED_UP, spatial_lr_scale=0.2), critic=_WARMED_UP
)

_AVDM2_VIDEO = AVDM2(score="video", video_matching=replace(AVDM2().video_matching, guidance_scale=7.5))

_TINY_OPTIMIZER = OptimizerConfig(lr=2e-4, warmup_steps=20, decay_steps=400)
_TINY = TrainConfig(
    steps=400,
    global_batch=4,
    micro_batch=4,
    gradient_checkpointing=False,
    ema_decay=0.99,
    held_out=8,
    student=_TINY_OPTIMIZER,
    critic=_TINY_OPTIMIZER,
    meters=MeterConfig(samples_every=200),
)
# A discriminator starts from nothing and needs some 240 updates of 8 clips at 1e-3 before it is right on two thirds of
# either side; a fake score starts as the teacher and stays near it. In a second stage that rate would throw the first
# one's discriminator off within three updates.
_TINY_FIRST = replace(_TINY, discriminator_lr_scale=5.0)
_TINY_SECOND = replace(
    _TINY,
    steps=240,
    student=replace(_TINY_OPTIMIZER, lr=4e-4, decay_steps=240),
    critic=replace(_TINY_OPTIMIZER, decay_steps=240),
    meters=MeterConfig(samples_every=120),
)
# Narrow, on patches of 4 x 4 pixels: what it is shown goes straight to its output through gates.
_TINY_NETWORK = NetworkConfig(
    model_channels=32, channel_mult=(1, 2, 4, 4), attention_resolutions=(8,), initial_attention_heads=1, gated_inputs=4
)
_TINY_TEACHER = replace(
    _TINY,
    steps=2400,
    ema_decay=0.995,
    sampling_steps=25,
    student=OptimizerConfig(lr=1e-3, warmup_steps=100, decay_steps=2400),
    meters=MeterConfig(samples_every=600),
)

# The bundled codec has no towers, so there is nothing to guide by.
_TINY_SOFTENED = DistributionMatching(guidance_scale=1.0, guidance_rescale=0.0)
# What goes through the gates need not go through the middle block, so that has little of contrast and texture, which
# is what a tiny student gets wrong: a discriminator over it alone stays at chance, and one that sees the finest maps,
# too, does best.
_TINY_ADVERSARIAL = Adversarial(features="multiscale", scales=4)
# Noised real clips come back with two thirds of the data's deviation, simulated ones with one third: the first hardly
# differ from real ones, the second are what is drawn in use.
_TINY_INPUT: StudentInput = "backward_simulation"
# Regression to the real clips: without it a network of this size leaves grain where it has no confidence.
_TINY_STAGE1 = FVGenStage1(student_input=_TINY_INPUT, adversarial=_TINY_ADVERSARIAL, regression=Regression(weight=1.0))
_TINY_STAGE2 = FVGenStage2(
    student_input=_TINY_INPUT,
    matching=_TINY_SOFTENED,
    adversarial=_TINY_ADVERSARIAL,
    regression=Regression(weight=3.0),
    discriminator_every=2,  # a frozen one goes stale: farther from the data in 8 of 8 seeds of benchmarks/mixture_2d.py
)
_TINY_PLAIN_STAGE2 = FVGenStage2(student_input=_TINY_INPUT, matching=replace(_TINY_SOFTENED, divergence="reverse_kl"))
_TINY_NO_GAN = FVGenStage2(
    student_input=_TINY_INPUT, matching=_TINY_SOFTENED, adversarial=_TINY_ADVERSARIAL, discriminator_every=1
)
_REVERSE_KL = DistributionMatching(divergence="reverse_kl")

PRESETS: Mapping[PresetName, Preset] = {
    # Not measured yet: the teacher's weights and 8 H100 for a day are needed.
    "fvgen-stage1": Preset("FVGen, first stage: GAN initialisation of the student", _PAPER_STAGE1, _PAPER),
    # Not measured yet. The paper reports PSNR 16.28 (mip-NeRF 360) and 18.72 (Tanks and Temples) after it.
    "fvgen-stage2": Preset(
        "FVGen, second stage: softened reverse KL, after fvgen-stage1", _FROZEN, _PAPER_STAGE2, "student"
    ),
    # Not measured yet. Both stages simulate the student's input from noise, as it will be used; the paper does not.
    "fvgen-simulated-stage1": Preset("fvgen-stage1 on simulated input", _SIMULATED_STAGE1, _PAPER),
    "fvgen-simulated-stage2": Preset(
        "fvgen-stage2 on simulated input, after fvgen-simulated-stage1", _SIMULATED_STAGE2, _PAPER_STAGE2, "student"
    ),
    # Not measured yet. The paper reports 9.29 and 10.27 for DMD2 on its teacher. As DMD2's code, but for a classifier
    # over the teacher's architecture, whose 2D head sees every frame, and the teacher's guidance.
    "dmd2": Preset("DMD2: reverse KL and a classifier on the fake score, jointly", DMD2(), _JOINT),
    # Not measured yet. As CausVid's code, but for pairs that are made anew in every update instead of a fixed set of
    # some 1500, and a student that looks both ways in time, as its teacher does.
    "causvid-init": Preset("CausVid, first run: regression on the teacher's ODE", CausVidRegression(), _ODE),
    # Not measured yet. The paper reports 15.77 and 17.33 for CausVid on its teacher. No backward simulation, as in
    # CausVid's configuration; the student looks both ways in time.
    "causvid": Preset("CausVid, second run: reverse KL, after causvid-init", CausVid(), _CAUSVID, "student"),
    # Not measured yet. The weights of the two terms are ours: the paper names none.
    "avdm2": Preset("AVDM2: multi-scale discriminator and an image model's score", AVDM2(), _AVDM2),
    "avdm2-video-score": Preset("AVDM2 with the video teacher's score", _AVDM2_VIDEO, _AVDM2),
    "avdm2-gan-alone": Preset("AVDM2's Figure 4: the discriminator alone", AVDM2(score="none"), _AVDM2),
    # The paper's Table 3: PSNR 8.62 for the softened reverse KL without a first stage. Its r then comes from a
    # discriminator that starts untrained and learns along. Not measured at full size yet; its like: tiny-no-gan.
    "ablation-no-gan": Preset(
        "Table 3: softened reverse KL straight from the teacher", FVGenStage2(discriminator_every=1), _PAPER_STAGE2
    ),
    # No row of the paper's. Not measured at full size yet; its like for a small teacher: tiny-no-gan-reverse-kl.
    "ablation-no-gan-reverse-kl": Preset(
        "Plain reverse KL straight from the teacher", FVGenStage2(matching=_REVERSE_KL), _PAPER_STAGE2
    ),
    # The paper's Table 3: PSNR 16.23. Not measured at full size yet; its like for a small teacher: tiny-stage1.
    "ablation-gan-only": Preset("Table 3: the first stage alone", _PAPER_STAGE1, _PAPER),
    # The paper's Table 3: PSNR 16.85. Not measured at full size yet; its like for a small teacher: tiny-gan-dmd.
    "ablation-gan-dmd": Preset(
        "Table 3: second stage with plain reverse KL, after fvgen-stage1",
        FVGenStage2(matching=_REVERSE_KL), _PAPER_STAGE2, "student",
    ),
    # The paper's Table 3: PSNR 17.50. Not measured at full size yet; its like for a small teacher: tiny-stage2.
    "ablation-gan-dmd-softened": Preset(
        "Table 3: second stage with softened reverse KL, after fvgen-stage1", _FROZEN, _PAPER_STAGE2, "student"
    ),
    # Measured by benchmarks/tiny_video.py before its present recipe, on 20 procedural clips of other seeds, 96 pixels:
    # PSNR whole / covered / holes and sharpness (1: real frames'), one run each of 80 updates of 2 clips at a
    # student's learning rate of 2e-5, 2 critic steps, when the first stages still took noised real input and three
    # scales; their discriminators are at chance after so few updates. To hold them against: the teacher at 25 steps
    # 26.61 / 27.68 / 27.09, 1.95; its weights in 4 steps, where all students start, 28.45 / 29.40 / 29.51, 0.67; the
    # warp 29.04 / 29.85 / 30.83, 0.53.
    "tiny-teacher": Preset(
        "A small teacher from nothing, by v-prediction", Diffusion(shift=3.0), _TINY_TEACHER, "nothing", _TINY_NETWORK
    ),
    # 80 steps without the regression: 27.82 / 28.90 / 28.47, 0.88. Discriminator: 68 % of real, 38 % of fake right; as
    # it is set now, after 48 steps of 8 clips at 32 pixels: 64 % and 59 %, h = .504 +- .114. After 88 more by the rates
    # of benchmarks/tiny_video_runs.py, below half of all noise: 69 % and 67 %, h = .588 +- .185.
    "tiny-stage1": Preset(
        "fvgen-stage1 for a small teacher (and Table 3's GAN only)", _TINY_STAGE1, _TINY_FIRST
    ),
    # 40 + 40 steps: 28.65 / 29.55 / 29.83, 0.68; without the regressions 28.01 / 28.97 / 28.77, 0.78. As bundled, 400 +
    # 240 steps of 4 clips at up to 4e-4 and a discriminator over the middle block: 28.96 / 29.80 / 30.12, 0.56.
    "tiny-stage2": Preset(
        "fvgen-stage2 for a small teacher, after tiny-stage1",
        _TINY_STAGE2, _TINY_SECOND, "student",
    ),
    "tiny-no-gan": Preset(
        "ablation-no-gan for a small teacher", _TINY_NO_GAN, replace(_TINY_SECOND, discriminator_lr_scale=5.0)
    ),
    # 80 steps: 27.09 / 28.14 / 27.62, 1.02.
    "tiny-no-gan-reverse-kl": Preset(
        "ablation-no-gan-reverse-kl for a small teacher", _TINY_PLAIN_STAGE2, _TINY_SECOND
    ),
    # 40 + 40 steps without any regression: 28.01 / 28.96 / 28.77, 0.78.
    "tiny-gan-dmd": Preset(
        "ablation-gan-dmd for a small teacher, after tiny-stage1",
        _TINY_PLAIN_STAGE2, _TINY_SECOND, "student",
    ),
}  # fmt: skip
"""Recipes by name."""

"""The networks of a pipeline: which belong together, how they are kept in a folder, and how they run on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from diffusers import DiffusionPipeline
from torch import nn
from transformers import CLIPTextModel, CLIPVisionModel

from fvgen.checks import require
from fvgen.conditioning.conditions import FPS
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.conditioning.residual import ResidualSpace, residual_condition_channels
from fvgen.devices import default_device, is_gpu
from fvgen.diffusion.sampling import check_timesteps
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.call_checks import check_numbers
from fvgen.generation.fixed_frames import fixed_frames
from fvgen.generation.sampler_settings import SAMPLING, Sampler
from fvgen.models.codec import Codec, SpaceToDepth, SpaceToDepthCodec, codec_for
from fvgen.models.folder import align_weights
from fvgen.models.image_projector import ImageProjector
from fvgen.models.recorded import Recorded
from fvgen.models.unet_3d import VideoUNet, VideoUNetOutput

if TYPE_CHECKING:
    from typing_extensions import Self


def lossless(codec: Codec) -> SpaceToDepthCodec:
    """The codec of a network that corrects warps: it is made with no other, which mypy cannot know."""
    assert isinstance(codec, SpaceToDepthCodec)
    return codec


class PipelineNetworks(DiffusionPipeline):
    """A video diffusion network with its codec, schedule and towers.

    Args:
        unet: teacher or student.
        vae: `AutoencoderKL`, `AutoencoderTiny` or `SpaceToDepth` (see `fvgen.models.codec`).
        schedule: the one ``unet`` was trained with.
        image_encoder, image_projector: CLIP's image tower and what maps its tokens; both or neither.
        text_encoder: CLIP's text tower without its last block; None for networks trained without text.
        sampler: ``few_step`` for a distilled student, ``ddim`` for a teacher; saved with the pipeline.
        residual: fields of the `ResidualSpace` of a network that corrects warps; None for one that is shown renders
            alone, as ViewCrafter's is.
        timesteps: largest first, that a student was trained at; None for evenly spaced ones.
        frames: number of frames of the clips that ``unet`` was trained on; None takes its own ``sample_frames``.

    Attributes:
        codec_chunk: frames encoded or decoded at a time; None for all. Where a GPU's memory does not suffice, one at a
            time once.
        tokenizer_folder: a CLIP tokenizer, for prompts other than ViewCrafter's one.
    """

    _optional_components = ["image_encoder", "image_projector", "text_encoder"]  # noqa: RUF012 (read by diffusers)
    _exclude_from_cpu_offload = ["schedule"]  # noqa: RUF012 (read by diffusers)
    model_cpu_offload_seq = "text_encoder->image_encoder->image_projector->unet->vae"

    def __init__(
        self,
        unet: VideoUNet,
        vae: nn.Module,
        schedule: NoiseSchedule,
        image_encoder: CLIPVisionModel | None = None,
        image_projector: ImageProjector | None = None,
        text_encoder: CLIPTextModel | None = None,
        sampler: str = "ddim",
        residual: dict[str, float] | None = None,
        timesteps: list[int] | None = None,
        frames: int | None = None,
    ) -> None:
        super().__init__()
        require(sampler in SAMPLING, "sampler", f"be one of {get_args(Sampler)}", sampler, "Name one of them.")
        self.register_modules(
            unet=unet,
            vae=vae,
            schedule=schedule,
            image_encoder=image_encoder,
            image_projector=image_projector,
            text_encoder=text_encoder,
        )
        require(
            residual is None or isinstance(vae, SpaceToDepth),
            "vae",
            "be SpaceToDepth for a network that corrects warps",
            type(vae).__name__,
            "Load the folder's own.",
        )
        if timesteps is not None:
            check_numbers(None, timesteps, FPS)
            check_timesteps(timesteps, schedule)
        trained = unet.config.sample_frames if frames is None else frames
        self.register_to_config(sampler=sampler, residual=residual, timesteps=timesteps, frames=trained)
        self.residual = None if residual is None else ResidualSpace(**residual)
        self.tokenizer_folder: Path | None = None
        self.codec_chunk: int | None = 4  # frames at a time: a whole clip at 576x1024 would need tens of GiB
        self._tokens: TokenEncoder | None = None
        self._recorded: Recorded | None = None
        self._replayed: Codec | None = None

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> Self:
        """As diffusers loads a pipeline, with weights that give the same results as before they were saved.

        `fvgen.generation.load_pipeline` also checks them.
        """
        pipeline = super().from_pretrained(*args, **options)
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                align_weights(part)
        return pipeline

    def enable_low_memory(self) -> None:
        """Encode and decode one frame at a time and, on a GPU, keep only the layer at work in its memory."""
        self.codec_chunk = 1
        if is_gpu(default_device()):
            self.enable_sequential_cpu_offload()

    def prepare_for_gpu(self, graphs: bool = False) -> None:
        """Bring the networks into the form in which a GPU runs them fastest; results differ by rounding alone.

        Maps channels-last from the first convolution to the last, queries, keys and values by one product.

        Args:
            graphs: replay the kernels of a UNet call, of encoding and of decoding as graphs, recorded at the first call
                of each shape. Weights may then be changed in place only, and the memory of one call per shape stays
                taken.
        """
        for network in (self.unet, self.vae):
            network.to(memory_format=torch.channels_last)
        self.unet.join_projections()
        self._recorded = Recorded(lambda *inputs: self.unet(*inputs).sample) if graphs else None
        self._replayed = self._codec_on(self._execution_device).replayed(Recorded) if graphs else None

    @property
    def codec(self) -> Codec:
        """Pixels <-> latents on the device the pipeline computes on."""
        return self._codec_on(self._execution_device)

    def _codec_on(self, device: torch.device) -> Codec:
        known = self._replayed
        if known is not None and (known.vae, known.chunk, known.device) == (self.vae, self.codec_chunk, device):
            return known
        return codec_for(self.vae, self.codec_chunk, device)

    @property
    def multiple(self) -> int:
        """Height and width of images go through the networks in multiples of this."""
        return codec_for(self.vae).downscale * 2 ** (len(self.unet.config.channel_mult) - 1)

    def timesteps(self, steps: int | None = None) -> list[int]:
        """Timesteps of so many steps, largest first: those trained at, or evenly spaced ones of another number."""
        own = self.config.timesteps
        if own is not None and steps in (None, len(own)):
            return list(own)
        return self.schedule.timesteps(steps or SAMPLING[self.config.sampler].num_inference_steps)

    @property
    def fixed_frames(self) -> int | None:
        """Frames that a clip must have; None where any number goes (see `check_frames`)."""
        return fixed_frames(self.config.frames, self.image_projector is not None)

    def token_encoder(self) -> TokenEncoder:
        """The towers behind one call; what it has encoded is kept as long as the towers stay the same."""
        towers = (self.image_encoder, self.image_projector, self.text_encoder)
        known = self._tokens
        if known is None or (known.image_encoder, known.image_projector, known.text_encoder) != towers:
            known = TokenEncoder(
                *towers,
                context_dim=self.unet.config.context_dim,
                text_length=self.unet.config.text_context_length,
                tokenizer_folder=self.tokenizer_folder,
            )
            self._tokens = known
        return known

    def _check_networks(self, guided: bool) -> None:
        """Refuse a UNet of another codec, and guidance without anything to guide by."""
        codec = codec_for(self.vae)
        channels = codec.latent_channels
        condition = channels if self.residual is None else residual_condition_channels(lossless(codec))
        expected = {"in_channels": channels + condition, "out_channels": channels}
        given = {name: self.unet.config[name] for name in expected}
        next_step = "Load unet and vae of one checkpoint."
        require(given == expected, "unet", f"have {expected} for this codec", given, next_step)
        guidable = not guided or self.token_encoder().has_conditions
        rule = "be 1 for a network without text and image towers"
        require(guidable, "guidance_scale", rule, "another", "Leave it out.")

    def _predict(self, *inputs: Any) -> VideoUNetOutput:
        return self.unet(*inputs) if self._recorded is None else VideoUNetOutput(sample=self._recorded(*inputs))

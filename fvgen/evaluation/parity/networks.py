"""Networks against their reference outputs: UNet, image projector, autoencoder, CLIP towers and preprocessing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fvgen.conditioning.clip_preprocess import clip_preprocess
from fvgen.evaluation.parity.vectors import Comparisons, VectorFile
from fvgen.models.convert_openclip import text_tower, vision_tower
from fvgen.models.convert_vae import load_vae, vae_config
from fvgen.models.convert_viewcrafter_unet import load_unet_vector, viewcrafter_modules
from fvgen.models.image_projector import ImageProjector
from fvgen.models.unet_3d import VideoUNet

NETWORK_TOLERANCE = 2e-5
"""float32 against float32 on another machine or thread count: 1e-6 to 5e-6 seen."""
FLOAT64_TOLERANCE = 1e-9
"""float64 against float64: 1e-14 seen. No other formula fits in here."""


def swap_axes(clip: Tensor) -> Tensor:
    """[B, C, F, h, w] of the references <-> [B, F, C, h, w] of this package."""
    return clip.transpose(-4, -3)


def single_precision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as the networks run here: half precision widened to float32, float64 kept."""
    half = (torch.float16, torch.bfloat16)
    return {name: tensor.float() if tensor.dtype in half else tensor for name, tensor in state.items()}


def _dtype(module: nn.Module) -> torch.dtype:
    return next(p.dtype for p in module.parameters())


def _predict(unet: VideoUNet, vector: VectorFile, with_fps: bool) -> tuple[Tensor, Tensor]:
    """Output [B, C, F, h, w] and middle block [B*F, C, h', w'] for the file's inputs."""
    parts = [vector[name] for name in ("in.x", "in.c_concat") if name in vector]
    sample = swap_axes(torch.cat(parts, dim=1)).to(_dtype(unet))
    fps = vector["in.fs"] if with_fps else None
    output = unet(sample, vector["in.timesteps"], vector["in.context"].to(sample), fps, return_features="middle")
    return swap_axes(output.sample), output.middle.flatten(0, 1)


def check_unet(vector: VectorFile) -> Comparisons:
    """Output, middle block, every traced module, the default frame rate, and a float64 run."""
    unet = load_unet_vector(vector.config, single_precision(vector.below("sd.")))
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: seen.__setitem__(name, output))
        for name, module in viewcrafter_modules(unet).items()
    ]
    y, middle = _predict(unet, vector, with_fps="in.fs" in vector)
    for hook in hooks:
        hook.remove()
    inner = {"out.middle_block": middle} | {f"trace.{name}": output for name, output in seen.items()}
    yield vector.compare("out.y", y, NETWORK_TOLERANCE)
    for name in [name for name in inner if name in vector]:
        yield vector.compare(name, inner[name], NETWORK_TOLERANCE)
    if "out.y_default_fs" in vector:
        yield vector.compare("out.y_default_fs", _predict(unet, vector, with_fps=False)[0], NETWORK_TOLERANCE)
    if "out.y_f64" in vector:
        yield vector.compare(
            "out.y_f64", _predict(unet.double(), vector, with_fps="in.fs" in vector)[0], FLOAT64_TOLERANCE
        )


def check_resampler(vector: VectorFile) -> Comparisons:
    """The image projector's tokens."""
    config = vector.config.get("config", vector.config)
    projector = ImageProjector(**{name: value for name, value in config.items() if name not in ("seed", "note")})
    projector.load_state_dict(single_precision(vector.below("sd.")), assign=True)
    projector.eval()
    yield vector.compare("out.y", projector(vector["in.x"].to(_dtype(projector))), NETWORK_TOLERANCE)


def check_vae(vector: VectorFile) -> Comparisons:
    """Posterior moments, mode and sample; decoding of given latents and of the mode."""
    config = vae_config(vector.setting("ddconfig"), int(vector.setting("embed_dim")))
    vae = load_vae(single_precision(vector.below("sd.")), config)
    dtype = _dtype(vae)
    posterior = vae.encode(vector["in.x"].to(dtype)).latent_dist
    outputs = {"out.moments": posterior.parameters, "out.mode": posterior.mode()}
    if "in.noise" in vector:
        outputs["out.sample"] = posterior.mean + posterior.std * vector["in.noise"].to(dtype)
    if "in.z" in vector:
        outputs["out.dec"] = vae.decode(vector["in.z"].to(dtype)).sample
    outputs["out.recon_from_mode"] = vae.decode(posterior.mode()).sample
    for name, output in outputs.items():
        if name in vector:
            yield vector.compare(name, output, NETWORK_TOLERANCE)


def check_openclip(vector: VectorFile) -> Comparisons:
    """Text tokens before the last block, image tokens after the last block."""
    if "text.out" in vector:
        text = text_tower(single_precision(vector.below("text.sd.model.")), vector.setting("text_cfg"))
        yield vector.compare("text.out", text(vector["text.in.ids"].long()).last_hidden_state, NETWORK_TOLERANCE)
    if "image.out" in vector:
        image = vision_tower(single_precision(vector.below("image.sd.model.")), vector.setting("vision_cfg"))
        pixels = vector["image.in.pixels"].to(_dtype(image))
        yield vector.compare("image.out", image(pixels).last_hidden_state, NETWORK_TOLERANCE)


def check_clip_preprocess(vector: VectorFile) -> Comparisons:
    """The pixels CLIP's image tower is shown."""
    # Either bytes, or the original's own [-1, 1].
    images = vector["in.image_u8"].float() / 255 if "in.image_u8" in vector else (vector["in.image"].float() + 1) / 2
    yield vector.compare("out.pixels", clip_preprocess(images, vector["out.pixels"].shape[-1]), NETWORK_TOLERANCE)

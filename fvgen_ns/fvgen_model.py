"""Splatfacto with a choice of rasterizer, confidence-weighted loss and sizes from local density; runs without a GPU."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from nerfstudio.utils.colors import get_color
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from fvgen.checks import require
from fvgen.metrics import picture_scores, psnr
from fvgen.rendering.photometric_loss import photometric_loss
from fvgen.rendering.splat_rasterizer import SplatRender, resolve
from fvgen.splats.gaussians import Gaussians
from fvgen.types import Cameras as PinholeCameras
from fvgen_ns.checkpoint import usable_splat
from fvgen_ns.frames import to_fvgen
from fvgen_ns.short_forms import short_forms
from fvgen_ns.splat.initial_gaussians import initial_gaussians, start_points
from fvgen_ns.splat.opacity_dropout import drop
from fvgen_ns.splat.parameters import gaussians_of
from fvgen_ns.splat.pose_refinement import moved_for
from fvgen_ns.splat.regularizers import regularizers
from fvgen_ns.splat.strategy import splat_strategy

if TYPE_CHECKING:
    from fvgen_ns.viewer.support import ViewerSupport

FEW_PHOTOS = 3
"""So few photos leave most of the scene to one of them: dropout helps, and without a background Gaussians that grow
fast become fog."""
_FLAGS = ("is_background", "is_guess")
"""Buffers with a flag of each Gaussian; they follow it when it is split or removed."""
VIEWER_GREY = (0.1490, 0.1647, 0.2157)
"""The viewer's own background, used where a random background was trained."""


@dataclass
@short_forms()
class FVGenModelConfig(SplatfactoModelConfig):
    """Splatfacto for few photos: starts dense, so it needs less densification and shorter schedules."""

    _target: type = field(default_factory=lambda: FVGenModel)
    rasterizer: Literal["auto", "gsplat", "numba", "torch"] = "auto"
    """What draws the Gaussians: gsplat needs CUDA, numba is the fast one on CPUs, torch is the slow oracle."""
    initial_opacity: float = 0.4
    """Opacity that every Gaussian starts with."""
    initial_size: float = 1.0
    """Size that Gaussians start with, in mean distances to the three nearest neighbours."""
    opacity_penalty: float = 0.01
    """Weight of the mean opacity in the loss: fades out what no photo needs, such as fog between the cameras."""
    size_penalty: float = 0.01
    """Weight of the mean size in the loss, relative to the scene: keeps huge Gaussians from passing for background."""
    dropout: float = 0.2
    """Share of the Gaussians that a training step leaves out in the end, where there are three photos or fewer: none
    can then rely on those in front of it. With more photos it gains nothing and is not done."""
    dropout_rise: int = 600
    """Steps over which the dropout rises from 0."""
    size_growth: float = 1.0
    """Factor on the learning rate of sizes, except with three photos or fewer and no background. In a short run
    Gaussians of the dense cloud, which start as small as a pixel, must grow faster to close what it left empty."""
    photo_colour: Literal["off", "affine"] = "off"
    """Whether each photo gets its own affine colour map in training, which helps where exposure drifts."""
    lpips: bool = False
    """Whether ns-eval also reports LPIPS. That downloads the pretrained AlexNet (233 MB, from PyTorch's hub, BSD-3)."""

    def check(self, device: torch.device | str) -> None:
        """Refuse options that cannot work.

        Raises:
            InputError: a number out of its range, or a rasterizer that does not run on ``device``.
        """
        ranges = {
            "initial_opacity": ("lie between 0 and 1", 0 < self.initial_opacity < 1),
            "initial_size": ("be positive", self.initial_size > 0),
            "opacity_penalty": ("not be negative", self.opacity_penalty >= 0),
            "size_penalty": ("not be negative", self.size_penalty >= 0),
            "dropout": ("lie in [0, 1)", 0 <= self.dropout < 1),
            "dropout_rise": ("be at least 1", self.dropout_rise >= 1),
            "size_growth": ("be positive", self.size_growth > 0),
            "sh_degree": ("be 0, 1, 2 or 3", 0 <= self.sh_degree <= 3),
            "sh_degree_interval": ("be at least 1", self.sh_degree_interval >= 1),
        }
        for name, (rule, holds) in ranges.items():
            flag = "--pipeline.model." + name.replace("_", "-")
            require(holds, flag, rule, getattr(self, name), "Leave it out for the method's own.")
        resolve(self.rasterizer, device)


class FVGenModel(SplatfactoModel):
    """`SplatfactoModel` that draws with any `SplatRasterizer`.

    Nerfstudio gives it in ``metadata``: ``num_photos``, ``scene_scale``, ``num_background`` and ``num_guesses``
    (`fvgen_ns.densify`).
    """

    config: FVGenModelConfig
    is_background: Tensor
    """[N] bool: Gaussians of the background (`fvgen.geometry.background`)."""
    is_guess: Tensor
    """[N] bool: those of the background whose depth no other photo confirms."""
    viewer_support: ViewerSupport | None = None
    """What a viewer shows of the splat beside its picture; None without a viewer."""

    def populate_modules(self) -> None:
        metadata = self.kwargs["metadata"]
        self.num_photos: int = metadata.get("num_photos", self.num_train_data)
        self.scene_scale: float = metadata.get("scene_scale", 1.0)
        self.starts_with_background: bool = metadata.get("num_background", 0) > 0
        seeds = None if self.config.random_init else self.seed_points
        means, colours = start_points(self.config, seeds)
        from_end = len(means) - torch.arange(len(means))  # the background's are the last of the seeds, its guesses last
        for flag, count in (("is_background", "num_background"), ("is_guess", "num_guesses")):
            self.register_buffer(flag, from_end <= (0 if seeds is None else metadata.get(count, 0)))
        self.gauss_params = nn.ParameterDict(
            initial_gaussians(self.config, means, colours, self.is_background, self.scene_scale)
        )
        self.camera_optimizer = self.config.camera_optimizer.setup(num_cameras=self.num_train_data, device="cpu")
        if self.config.photo_colour == "affine":
            self.photo_colours = nn.Parameter(torch.eye(3, 4).repeat(self.num_photos, 1, 1))
        self.step = 0
        self.crop_box: OrientedBox | None = None
        random_background = self.config.background_color == "random"
        self.background_color = (
            torch.tensor(VIEWER_GREY) if random_background else get_color(self.config.background_color)
        )
        self.strategy = splat_strategy(self.config, self.num_photos)
        self.strategy_state = self.strategy.initialize_state(scene_scale=self.scene_scale)

    def step_post_backward(self, step: int) -> None:
        # The strategy resets opacities at multiples of its period, and 0 is one: it would fade out the dense start.
        if step > 0:
            self.strategy_state |= {flag: getattr(self, flag) for flag in _FLAGS}  # changed as the Gaussians are
            if (gradients := self.strategy_state["grad2d"]) is not None:
                gradients[self.is_background] = 0  # none of these is split
            super().step_post_backward(step)
            for flag in _FLAGS:
                setattr(self, flag, self.strategy_state[flag])

    @property
    def size_growth(self) -> float:
        """Factor on the learning rate of sizes (`FVGenModelConfig.size_growth`)."""
        becomes_fog = self.num_photos <= FEW_PHOTOS and not self.starts_with_background
        return 1.0 if becomes_fog else self.config.size_growth

    def gaussians(self) -> Gaussians:
        """The splat as data, detached."""
        part = {name: value.detach() for name, value in self.gauss_params.items()}
        return gaussians_of(part, self.config.sh_degree)

    def load_state_dict(self, dict: dict[str, Tensor], **kwargs) -> None:  # type: ignore[override]  # as SplatfactoModel
        """Load a checkpoint, without Gaussians that are not finite, and with as many photos as it was trained on."""
        dict, broken = usable_splat(dict)
        if broken:
            CONSOLE.log(f"[yellow]Left out {broken}: their numbers are not finite.")
        for flag in _FLAGS:
            setattr(self, flag, torch.zeros_like(dict[flag], device=self.device))
        for name, parameter in self.named_parameters():
            stored = dict.get(name)
            if not name.startswith("gauss_params.") and stored is not None and stored.shape[1:] == parameter.shape[1:]:
                parameter.data = parameter.data.new_zeros(stored.shape)  # the views or the capture may be gone since
        super().load_state_dict(dict, **kwargs)

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = super().get_param_groups()
        if self.config.photo_colour == "affine":
            groups["photo_colours"] = [self.photo_colours]
        return groups

    def get_outputs(self, camera: Cameras) -> dict[str, Any]:  # type: ignore[override]  # as SplatfactoModel
        """The picture that ``camera`` (a batch of one) sees: rgb, depth, accumulation and background, each [H, W, ..].

        In training at the reduced resolution of the schedule, and in the colours of the photo it is compared with.
        """
        height, width, view = self._view(camera)
        background = self._get_background_color()
        beside = None if self.training else self.viewer_support
        learning = {"scales": self.trained_scales, "features_rest": self._trained(self.features_rest)}
        own = dict(self.gauss_params) | learning
        gaussians = own if beside is None else beside.shown_gaussians(own)
        chosen = self._visible_in_crop(gaussians["means"])
        if chosen is not None and not chosen.any():
            return self.get_empty_outputs(width, height, background)
        gaussians = {name: value if chosen is None else value[chosen] for name, value in gaussians.items()}
        picture = self.rasterize(self._as_refined_pose_sees(gaussians, camera), view, background)
        if self.training:
            self.info = picture.info
            self.strategy.step_pre_backward(
                self.gauss_params, self.optimizers, self.strategy_state, self.step, self.info
            )
        rgb, alpha, depth = picture.rgb[0], picture.alpha[0], picture.depth[0]
        return {
            "rgb": self._in_photo_colours(rgb, camera).clamp(0, 1),
            "depth": torch.where(alpha > 0, depth, depth.detach().max()),
            "accumulation": alpha,
            **({} if beside is None else beside.outputs(view)),
            "background": background if self.training else background.expand(height, width, 3),
        }

    def rasterize(
        self, gaussians: Mapping[str, Tensor], view: PinholeCameras, background: Tensor, sh: Tensor | None = None
    ) -> SplatRender:
        """Draw Gaussians as this model draws its own.

        Args:
            gaussians: parameters as in ``gauss_params``, N rows each.
            view: a batch of one.
            background: [3]
            sh: [N, 1, 3] colours (harmonics of degree 0) in place of the Gaussians' own.
        """
        splat = gaussians_of(gaussians, self.config.sh_degree)
        degree = min(self.step // self.config.sh_degree_interval, self.config.sh_degree)
        return resolve(self.config.rasterizer, self.device).rasterize(
            splat.means,
            splat.quats,
            torch.exp(splat.scales),
            self._after_dropout(torch.sigmoid(splat.opacities)),
            splat.sh if sh is None else sh,
            view,
            degree if sh is None else 0,
            background,
            absgrad=self.strategy.absgrad,
        )

    def _trained(self, parameter: Tensor) -> Tensor:
        """A parameter [N, ..] that learns nothing of guesses: sharpened, and coloured by the direction of view, a guess
        is a photo learnt by heart."""
        if not self.training:
            return parameter
        return torch.where(self.is_guess.view(-1, *[1] * (parameter.dim() - 1)), parameter.detach(), parameter)

    @property
    def trained_scales(self) -> Tensor:
        """[N, 3] logarithms of the sizes; guesses keep theirs."""
        return self._trained(self.scales)

    def _after_dropout(self, opacities: Tensor) -> Tensor:
        config = self.config
        if not self.training or self.num_photos > FEW_PHOTOS:
            return opacities
        return drop(opacities, config.dropout * min((self.step + 1) / config.dropout_rise, 1))

    def _view(self, camera: Cameras):
        """Height, width and camera at the resolution of the schedule."""
        factor = self._get_downscale_factor()
        camera.rescale_output_resolution(1 / factor)
        height, width = int(camera.height.item()), int(camera.width.item())
        view = to_fvgen(camera, height, width).to(self.device)
        camera.rescale_output_resolution(factor)
        return height, width, view

    def _photo_in_training(self, camera: Cameras) -> int | None:
        """Number of the photo that ``camera`` took; None for generated views, and outside training."""
        index = (camera.metadata or {}).get("cam_idx")
        return index if self.training and index is not None and index < self.num_photos else None

    def _as_refined_pose_sees(self, gaussians: dict[str, Tensor], camera: Cameras) -> dict[str, Tensor]:
        """In training with camera optimizer: the Gaussians as a photo's refined pose sees them."""
        if self.config.camera_optimizer.mode == "off" or self._photo_in_training(camera) is None:
            return gaussians
        return moved_for(gaussians, camera.camera_to_worlds[0], self.camera_optimizer.apply_to_camera(camera)[0])

    def _visible_in_crop(self, means: Tensor) -> Tensor | None:
        if self.crop_box is None or self.training:
            return None
        return self.crop_box.within(means).squeeze(-1)

    def _in_photo_colours(self, rgb: Tensor, camera: Cameras) -> Tensor:
        index = self._photo_in_training(camera)
        if self.config.photo_colour == "off" or index is None:
            return rgb
        # relative to the mean of all photos, so that the splat keeps the capture's common exposure
        matrix = self.photo_colours[index] - self.photo_colours.mean(dim=0) + torch.eye(3, 4, device=self.device)
        return rgb @ matrix[:, :3].T + matrix[:, 3]

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        target, where = self._target(outputs, batch), batch.get("mask")
        if where is not None:
            where = (self._downscale_if_required(where.float()) > 0.5).to(self.device).permute(2, 0, 1)
        first, second = outputs["rgb"].detach().permute(2, 0, 1), target.permute(2, 0, 1)
        return {"psnr": psnr(first, second, where), "gaussian_count": self.num_points}

    def get_loss_dict(self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict=None) -> dict[str, Tensor]:
        """Photos count fully (inside their mask), generated views by the weight map that stands in the batch."""
        del metrics_dict
        weight = batch.get("weight", batch.get("mask"))
        if weight is not None:
            weight = self._downscale_if_required(weight.float()).to(self.device)
        losses = {
            "main_loss": photometric_loss(
                outputs["rgb"], self._target(outputs, batch), weight, self.config.ssim_lambda
            ),
            **regularizers(self.config, self.trained_scales, self.opacities, self.step, self.scene_scale),
        }
        if self.training:
            self.camera_optimizer.get_loss_dict(losses)
        return losses

    def _target(self, outputs: dict[str, Any], batch: dict[str, Any]) -> Tensor:
        return self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])

    def get_image_metrics_and_images(
        self, outputs: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR, SSIM, PSNR after an affine colour fit, ST-LPIPS and AVGE (`fvgen.metrics`), inside the photo's mask
        where it has one; photo and picture side by side."""
        target, prediction = self._target(outputs, batch), outputs["rgb"]
        first, second = prediction.permute(2, 0, 1), target.permute(2, 0, 1)
        where = batch["mask"].permute(2, 0, 1).to(first.device) if "mask" in batch else None
        if where is not None:  # what a mask hides must not enter the windows beside it
            first = torch.where(where, first, second)
        metrics = picture_scores(first, second, where)
        if self.config.lpips:
            metrics["lpips"] = float(_lpips(self.device)(first[None], second[None]))
        return metrics, {"img": torch.cat([target, prediction], dim=1)}


@functools.cache
def _lpips(device: torch.device) -> nn.Module:
    """The metric, loaded when it is first asked for and no part of a checkpoint."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(normalize=True).to(device)

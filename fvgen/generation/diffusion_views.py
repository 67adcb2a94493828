"""The generators with a network: a student of a few steps or its teacher, window by window along the path.

The network is shown what it was trained on: the teacher's point render, with a photo wherever one stands. A clip longer
than the network's is cut into windows that share a frame: the last one that a window draws is the first key frame of
the next, so the windows of a clip hang together; clips share nothing but photos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require
from fvgen.devices import default_device, default_dtype, free_memory, is_gpu, out_of_memory
from fvgen.generation.confidence import (
    depth_agreement,
    generated_pixel_confidence,
    generated_view_confidence,
    seed_disagreement,
)
from fvgen.generation.fixed_frames import check_fixed_clips, fixed_frames_of
from fvgen.generation.load_pipeline import load_pipeline
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.generation.reprojection import PhotosBeside
from fvgen.generation.restart import Restart, low_levels
from fvgen.generation.tiny_codec import CodecCost, codec_cost, load_tiny_codec
from fvgen.generation.view_generator import blank_drawing, check_path, join_with_photos
from fvgen.generation.warp import WarpCorrection, resized
from fvgen.geometry.trajectory import clips_of
from fvgen.models.codec import codec_for, load_codec
from fvgen.models.find import find_model
from fvgen.rendering.point_renderer import TEACHER_RADIUS, resolve
from fvgen.types import CameraPath, Cameras, Capture, GeneratedViews, Progress, SceneGeometry, no_progress


@dataclass(frozen=True)
class DiffusionViews:
    """Frames from a video diffusion network. The weights are loaded at the first frame and kept until `free`."""

    kind: Literal["student", "teacher"] = "student"
    """Whose sampler the model must have been saved with: a student's or a teacher's."""
    model: str | Path | None = None
    """Pipeline folder, name of a converted variant, or id of a hub repository in the local cache."""
    steps: int | None = None
    """Steps of the sampler; by default a student's own (4 are usual), and 50 for a teacher."""
    window: int | None = None
    """Most frames drawn at once; by default as many as the network was trained on."""
    size: Literal["trained", "working"] = "trained"
    """Draw at about as many pixels as the network was trained on, or at the capture's working size."""
    confidence_seeds: int = 0
    """Further samples of every frame, whose disagreement lowers its confidence."""
    tiny_codec: Path | None = None
    """Folder of a TAESD that encodes and decodes in place of the Stable Diffusion autoencoder."""
    low_memory: bool = False
    """On a GPU keep only the layer at work in its memory; encode and decode frame by frame."""

    def __post_init__(self) -> None:
        require(
            self.window is None or self.window >= 2, "window", "be at least 2 frames", self.window, "Use more frames."
        )
        require(
            self.confidence_seeds >= 0, "confidence_seeds", "be 0 or more", self.confidence_seeds, "0 draws one sample."
        )

    @cached_property
    def pipeline(self) -> FVGenPipeline:
        """The model, loaded.

        Raises:
            InputError: it is not there, damaged, or of another kind.
        """
        device = default_device()
        pipeline = load_pipeline(find_model(self.kind, self.model), default_dtype(device))
        if self.tiny_codec is not None:
            pipeline.vae = load_tiny_codec(self.tiny_codec, pipeline.codec).to(pipeline.unet.dtype)
        if self.low_memory:
            pipeline.enable_low_memory()
            return pipeline
        pipeline.to(device)
        if is_gpu(device):
            pipeline.prepare_for_gpu()
        return pipeline

    @cached_property
    def fixed_frames(self) -> int | None:
        """Frames that every clip of a path must have, photos at both ends counted; None where any number goes.

        Raises:
            InputError: the model is not there, or is of another kind.
        """
        return fixed_frames_of(find_model(self.kind, self.model))

    def codec_cost(self, photos: Tensor) -> CodecCost | None:
        """What the tiny codec costs on photos [N, 3, H, W]; None without one.

        Raises:
            InputError: the model or the codec is not there.
        """
        if self.tiny_codec is None:
            return None
        own = load_codec(find_model(self.kind, self.model))
        tiny = load_tiny_codec(self.tiny_codec, own)
        device = default_device()
        return codec_cost(codec_for(own.vae.to(device), own.chunk), codec_for(tiny.to(device), own.chunk), photos)

    def free(self) -> None:
        """Release the weights; the next call of `generate` loads them again."""
        self.__dict__.pop("pipeline", None)
        free_memory()

    def generate(
        self,
        capture: Capture,
        geometry: SceneGeometry,
        path: CameraPath,
        seed: int = 0,
        progress: Progress = no_progress,
        restart: Restart | None = None,
    ) -> GeneratedViews:
        """See `fvgen.generation.view_generator.ViewGenerator.generate`.

        With ``restart``, pictures of the path's F frames at the capture's size, sampling starts from these.
        Noise follows from (seed, the two photos of the clip, frame), so a clip is the same alone and within its path.
        """
        check_path(capture, path)
        check_keys(path)
        check_fixed_clips(path, self.fixed_frames)
        out = blank_drawing(capture, len(path.drawn))
        clips = [frames for frames in clips_of(path) if bool((path.photo[frames] < 0).any())]
        if not clips:
            return join_with_photos(capture, geometry, path, out)
        count_step = self._step_counter([path.photo[frames] for frames in clips], progress, restart is not None)
        photos = PhotosBeside(capture, geometry, path.ends)
        place_of = (torch.cumsum(path.photo < 0, dim=0) - 1).tolist()  # among the drawn frames
        view_confidence = torch.zeros(len(path.drawn))
        for frames in clips:
            clip = path.part(frames)
            render = resolve("teacher").render(geometry.points, clip.drawn, TEACHER_RADIUS)
            first = None if restart is None else restart[frames.to(restart.rgb.device)]
            samples = self._samples(capture, geometry, clip, render.rgb, seed, count_step, first)
            disagreement = seed_disagreement(samples) if self.confidence_seeds else None
            for i, at in enumerate((clip.photo < 0).nonzero()[:, 0].tolist()):
                place, rgb, covered = place_of[int(frames[at])], samples[0, at : at + 1], render.depth[i] > 0
                spread = None if disagreement is None else disagreement[at : at + 1]
                depth, there = photos.reprojected(render.depth[i : i + 1], clip.cameras[at], clip.ends[at])
                confidence = generated_pixel_confidence(rgb, render[i], depth_agreement(there), spread)
                out.rgb[place], out.depth[place] = rgb[0], depth[0]
                out.covered[place], out.confidence[place] = covered, confidence[0]
                view_confidence[place] = generated_view_confidence(rgb, covered[None], there)
        views = join_with_photos(capture, geometry, path, out)
        views.view_confidence[~views.is_photo] = view_confidence.to(views.view_confidence)
        return views

    def _samples(
        self,
        capture: Capture,
        geometry: SceneGeometry,
        clip: CameraPath,
        renders: Tensor,
        seed: int,
        progress: Progress,
        restart: Restart | None,
    ) -> Tensor:
        """[N, L, 3, H, W] samples of a clip of L frames at the capture's size; frames with a photo hold the photo.

        ``renders`` [D, 3, H, W] are the point renders of the frames without a photo.
        """
        height, width = self.network_size(capture.cameras)
        small = clip.cameras.resized(height, width)
        here = (clip.photo >= 0).to(capture.photos.device)
        photos = capture.photos[clip.photo[clip.photo >= 0].to(capture.photos.device)]
        start_frames = photos.new_zeros(len(clip), 3, height, width)
        start_frames[here] = resized(photos, height, width)
        correction = None
        if self.pipeline.residual is not None:
            correction = WarpCorrection.of(capture, geometry, clip, renders, height, width)
            start_frames[~here] = correction.small.render[0, ~here]
        else:  # a network for whole frames is shown points of its own size
            if renders.shape[2:] != (height, width):
                renders = resolve("teacher").render(geometry.points, replace(clip, cameras=small).drawn).rgb
            start_frames[~here] = renders.clamp(0, 1)
        if restart is not None:
            restart = Restart(resized(restart.rgb, height, width), resized(restart.opacity, height, width))
        drawn = int((clip.photo < 0).nonzero()[0, 0])
        start, end = clip.ends[drawn].tolist()
        samples = []
        for sample in range(1 + self.confidence_seeds):
            frames = start_frames.clone()
            known = clip.photo >= 0
            number = (sample * len(capture) + start) * len(capture) + end
            for at in self.windows(clip.photo):
                window = torch.arange(at.start, at.stop)
                self._draw(frames, known, small, window, seed, number, progress, correction, restart)
            whole = correction.enlarge(frames) if correction else resized(frames, *capture.photos.shape[2:])
            whole[here] = photos
            samples.append(whole)
        return torch.stack(samples)

    def _draw(
        self,
        frames: Tensor,
        known: Tensor,
        cameras: Cameras,
        window: Tensor,
        seed: int,
        number: int,
        progress: Progress,
        correction: WarpCorrection | None,
        restart: Restart | None,
    ) -> None:
        """Draw a window [n] of frames [L, 3, h, w] in place, where known [L] says no, and mark them known."""
        keys = known[window].nonzero()[:, 0].tolist()
        clip = frames[window.to(frames.device)]
        try:
            result = self.pipeline(
                clip[None],
                clip[keys][None],
                cameras[window.to(cameras.c2w.device)],
                warps=None if correction is None else correction.window(frames, known, window),
                restart=None if restart is None else restart[window].with_known(clip, known[window]),
                photo_frames=keys,
                num_inference_steps=self.steps,
                seed=seed,
                clips=[number],
                first_frame=int(window[0]),
                progress=progress,
            )
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            rows, columns = clip.shape[2:]
            drawn = f"{len(clip)} frames of {rows}x{columns}"
            next_step = "Set low_memory (--low-memory True), or a smaller window."
            raise InputError(complaint("window", "fit in the GPU's memory", drawn, next_step)) from error
        new = window[~known[window]]
        frames[new.to(frames.device)] = result.frames[0, ~known[window]].to(frames)
        known[new] = True

    def windows(self, photo: Tensor) -> list[range]:
        """The windows of a clip, photo [L] as in `CameraPath`: as few and as even as can be, neighbours share a frame.

        A last pair of a frame that the window before has drawn and a photo leaves nothing to draw, and is left out.
        """
        most, last = self.window or int(self.pipeline.config.frames), len(photo) - 1
        count = max(-(-last // (max(most, 2) - 1)), 1)
        cuts = [round(i * last / count) for i in range(count + 1)]
        windows = [range(a, b + 1) for a, b in pairwise(cuts)]
        return windows[:-1] if count > 1 and len(windows[-1]) == 2 and photo[-1] >= 0 else windows

    def network_size(self, cameras: Cameras) -> tuple[int, int]:
        """Height and width at which frames of these cameras are drawn: their shape, at the size asked for.

        The longer side is one that the network takes as it is; the shorter one is padded by the pipeline.
        """
        height, width = cameras.height, cameras.width
        if self.size == "working":
            return height, width
        pipeline = self.pipeline
        rows, columns = pipeline.unet.config.sample_size
        scale = (rows * columns * codec_for(pipeline.vae).downscale ** 2 / (height * width)) ** 0.5
        longest, multiple = max(height, width), pipeline.multiple
        scale = max(round(scale * longest / multiple), 1) * multiple / longest
        return max(round(scale * height), 1), max(round(scale * width), 1)

    def _step_counter(self, clips: list[Tensor], progress: Progress, restarts: bool) -> Progress:
        """A `Progress` for the pipeline's steps that counts them over all windows of these clips, each photo [L]."""
        windows = sum(len(self.windows(photo)) for photo in clips) * (1 + self.confidence_seeds)
        timesteps = self.pipeline.timesteps(self.steps)
        steps = len(low_levels(timesteps) if restarts else timesteps)
        count: Iterator[int] = iter(range(1, windows * steps + 1))
        what = f"drawing views ({self.kind}), steps"

        def count_step(done: int, total: int, of: str) -> None:
            progress(next(count), windows * steps, what)

        return count_step


def check_keys(path: CameraPath) -> None:
    """Refuse a path whose clips hold no photo: the network fills in between photos that it is shown.

    Raises:
        InputError: naming the paths that do.
    """
    for clip in clips_of(path):
        held = int((path.photo[clip] >= 0).sum())
        next_step = "Use the path between or viewcrafter; orbit and spiral are for points and warp."
        require(held > 0, "a clip of a network generator", "hold a photo", "none", next_step)

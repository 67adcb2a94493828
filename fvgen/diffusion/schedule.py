"""The noise schedule: every formula that joins x_t, x0, noise and v, and nothing else.

Letters: z clean latents; x0 = scale(t)·z, what a network with dynamic rescale learns at timestep t;
x_t = sqrt(ᾱ_t)·x0 + sqrt(1-ᾱ_t)·ε; v = sqrt(ᾱ_t)·ε - sqrt(1-ᾱ_t)·x0 (Salimans & Ho, arXiv 2202.00512, appendix D).
Without dynamic rescale (``base_scale`` 1) x0 and z are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from numpy.typing import NDArray
from torch import Tensor, nn

from fvgen.checks import InputError, complaint, require
from fvgen.diffusion.prediction import OutputKind

Spacing = Literal["uniform", "uniform_trailing", "quad"]

CHECKPOINT_BUFFERS = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "scale_arr",
)
"""The schedule's tables as a ViewCrafter checkpoint stores them at its top level."""


def scaled_linear_betas(num_train_timesteps: int, beta_start: float, beta_end: float) -> NDArray[Any]:
    """[T] float64: betas whose square roots are evenly spaced (the latent-diffusion schedule)."""
    # torch's float64 linspace differs from numpy's in the last bit; checkpoints hold torch's.
    roots = torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float64, device="cpu")
    return (roots**2).numpy()


def zero_terminal_snr(betas: NDArray[Any]) -> NDArray[Any]:
    """[T] float64 betas shifted and scaled so that sqrt(ᾱ) ends at exactly 0 (Lin et al., arXiv 2305.08891)."""
    roots = np.sqrt(np.cumprod(1.0 - betas))
    first, last = roots[0], roots[-1]
    roots = (roots - last) * (first / (first - last))
    alphas_cumprod = roots**2
    alphas: NDArray[Any] = np.concatenate([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
    shifted: NDArray[Any] = np.subtract(1.0, alphas)
    return shifted


class NoiseSchedule(nn.Module, SchedulerMixin, ConfigMixin):
    """ViewCrafter's schedule: scaled-linear betas with zero terminal SNR and dynamic rescale.

    Args:
        num_train_timesteps: T; timesteps run from 0 (almost clean) to T-1 (pure noise).
        beta_start, beta_end: ends of the scaled-linear betas before the zero-terminal-SNR shift.
        base_scale: scale(t) falls linearly from 1 to this over ``scale_ramp_steps`` and stays there: 0.7 for the
            320x512 ViewCrafter, 0.3 for the 576x1024 ones, 1 for none.
        scale_ramp_steps: length of that fall.
        rescale_to_zero_snr: False keeps the scaled-linear betas as they are, as Stable Diffusion's image models do.

    The tables are float32 and stay so when a pipeline is cast to half precision.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        base_scale: float = 1.0,
        scale_ramp_steps: int = 400,
        rescale_to_zero_snr: bool = True,
    ) -> None:
        super().__init__()
        require(num_train_timesteps >= 2, "num_train_timesteps", "be at least 2", num_train_timesteps, "Give 1000.")
        require(
            0 < beta_start <= beta_end < 1,
            "beta_start and beta_end",
            "satisfy 0 < start <= end < 1",
            (beta_start, beta_end),
            "Give 0.00085 and 0.012.",
        )
        require(0 < base_scale <= 1, "base_scale", "lie in (0, 1]", base_scale, "Give 0.7, 0.3, or 1 for none.")
        tables = self.tables()
        for name in ("alphas_cumprod", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "scale_arr"):
            self.register_buffer(name, tables[name], persistent=False)
        # A DDIM step's few numbers come from here, so that an accelerator is never waited for.
        self._alphas_cumprod = tables["alphas_cumprod"].numpy()

    config: Any
    alphas_cumprod: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    scale_arr: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NoiseSchedule:
        # pipe.to(bfloat16) casts every module; 1 - ᾱ near t = 0 would not survive it, so follow the device alone.
        super()._apply(lambda table: table.to(fn(table).device), recurse)
        return self

    @property
    def device(self) -> torch.device:
        """Where the tables are; pipelines ask every component."""
        return self.alphas_cumprod.device

    @property
    def dtype(self) -> torch.dtype:
        """float32, always; pipelines ask every component."""
        return self.alphas_cumprod.dtype

    @property
    def num_train_timesteps(self) -> int:
        """T."""
        return int(self.config.num_train_timesteps)

    def tables_float64(self) -> dict[str, NDArray[Any]]:
        """[T] float64 ``betas_before_rescale``, ``betas`` and ``alphas_cumprod``, before any cast."""
        before = scaled_linear_betas(self.config.num_train_timesteps, self.config.beta_start, self.config.beta_end)
        betas = zero_terminal_snr(before) if self.config.rescale_to_zero_snr else before
        return {"betas_before_rescale": before, "betas": betas, "alphas_cumprod": np.cumprod(1.0 - betas)}

    def tables(self) -> dict[str, Tensor]:
        """Every float32 table of a ViewCrafter checkpoint by name (`CHECKPOINT_BUFFERS`), and ``lvlb_weights``.

        ``lvlb_weights`` is not stored in checkpoints; with v-prediction it weighs all timesteps alike.
        """
        exact = self.tables_float64()
        betas, acp = exact["betas"], exact["alphas_cumprod"]
        acp_prev = np.append(1.0, acp[:-1])
        posterior_variance = betas * (1.0 - acp_prev) / (1.0 - acp)
        ramp, base = self.config.scale_ramp_steps, self.config.base_scale
        named = {
            "betas": betas,
            "alphas_cumprod": acp,
            "alphas_cumprod_prev": acp_prev,
            "sqrt_alphas_cumprod": np.sqrt(acp),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - acp),
            "log_one_minus_alphas_cumprod": np.log(1.0 - acp),
            # 1/sqrt(ᾱ) is infinite at the last timestep; v-prediction needs neither, and checkpoints hold zeros.
            "sqrt_recip_alphas_cumprod": np.zeros_like(acp),
            "sqrt_recipm1_alphas_cumprod": np.zeros_like(acp),
            "posterior_variance": posterior_variance,
            "posterior_log_variance_clipped": np.log(np.maximum(posterior_variance, 1e-20)),
            "posterior_mean_coef1": betas * np.sqrt(acp_prev) / (1.0 - acp),
            "posterior_mean_coef2": (1.0 - acp_prev) * np.sqrt(1.0 - betas) / (1.0 - acp),
            "scale_arr": np.concatenate([np.linspace(1.0, base, ramp), np.full(len(acp), base)]),
            "lvlb_weights": np.ones_like(acp),
        }
        return {name: torch.from_numpy(table.astype(np.float32)) for name, table in named.items()}

    # ---- algebra; x0, x_t, eps, v and outputs share one shape [B, ...], t is [B] or one int -------------------------

    def _at(self, table: Tensor, t: Tensor | int, like: Tensor) -> Tensor:
        """The table's values at t, float32, shaped to multiply ``like`` [B, ...]."""
        if isinstance(t, int):
            self.check_timesteps([t])
        elif t.device.type == "cpu" and t.numel():  # on an accelerator the look-up itself asserts, without a sync
            self.check_timesteps([int(t.min()), int(t.max())])
        index = t if isinstance(t, int) else t.to(table.device)
        return table[index].to(like.device).reshape(-1, *[1] * (like.ndim - 1))

    def check_timesteps(self, timesteps: Sequence[int]) -> None:
        """Raise `InputError` unless every timestep lies in 0 .. T-1."""
        wrong = [t for t in timesteps if not 0 <= t < self.num_train_timesteps]
        require(
            not wrong,
            "timestep",
            f"lie in 0 .. {self.num_train_timesteps - 1}",
            wrong[:4],
            "Use the timesteps of this schedule.",
        )

    def scale(self, t: Tensor | int, like: Tensor) -> Tensor:
        """scale(t), float32, shaped to multiply ``like`` [B, ...]."""
        return self._at(self.scale_arr, t, like)

    def scale_latents(self, z: Tensor, t: Tensor | int) -> Tensor:
        """x0 = scale(t)·z."""
        return z * self.scale(t, z)

    def unscale_latents(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """z = x0 / scale(t)."""
        return x0 / self.scale(t, x0)

    def move_x0(self, x0: Tensor, t: Tensor | int, to: Tensor | int) -> Tensor:
        """x0 as it stands at timestep ``t``, as it stands at timestep ``to``."""
        return x0 * (self.scale(to, x0) / self.scale(t, x0))

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """x_t."""
        return (
            self._at(self.sqrt_alphas_cumprod, t, x0) * x0 + self._at(self.sqrt_one_minus_alphas_cumprod, t, x0) * eps
        )

    def to_v(self, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """v, the target of a v-predicting network."""
        return (
            self._at(self.sqrt_alphas_cumprod, t, x0) * eps - self._at(self.sqrt_one_minus_alphas_cumprod, t, x0) * x0
        )

    def to_x0(self, output: Tensor, x_t: Tensor, t: Tensor | int, kind: OutputKind = "v") -> Tensor:
        """x0 from a network's output of the given kind. From ``epsilon`` it is infinite at T-1."""
        signal = self._at(self.sqrt_alphas_cumprod, t, x_t)
        noise = self._at(self.sqrt_one_minus_alphas_cumprod, t, x_t)
        if kind == "x0":
            return output
        if kind == "v":
            return signal * x_t - noise * output
        self._check_kind(kind)
        return (x_t - noise * output) / signal

    def to_eps(self, output: Tensor, x_t: Tensor, t: Tensor | int, kind: OutputKind = "v") -> Tensor:
        """The noise in x_t from a network's output of the given kind."""
        signal = self._at(self.sqrt_alphas_cumprod, t, x_t)
        noise = self._at(self.sqrt_one_minus_alphas_cumprod, t, x_t)
        if kind == "epsilon":
            return output
        if kind == "v":
            return signal * output + noise * x_t
        self._check_kind(kind)
        return (x_t - signal * output) / noise

    @staticmethod
    def _check_kind(kind: str) -> None:
        require(kind in get_args(OutputKind), "kind", f"be one of {get_args(OutputKind)}", kind, "Name one of them.")

    # ---- DDIM -------------------------------------------------------------------------------------------------------

    def timesteps(self, num_steps: int, spacing: Spacing = "uniform_trailing") -> list[int]:
        """Timesteps in sampling order, largest first.

        ``uniform_trailing`` starts at T-1 and has ``num_steps`` entries; ``uniform`` can have more when ``num_steps``
        does not divide T (30 gives 31), ``quad`` is dense near 0. Only ``uniform_trailing`` starts from pure noise.

        Raises:
            InputError: for another spacing, or more steps than it has timesteps for.
        """
        total = self.num_train_timesteps
        require(1 <= num_steps <= total, "num_steps", f"lie in 1 .. {total}", num_steps, "4 and 50 are usual.")
        if spacing == "uniform_trailing":
            # The float step makes arange one entry too long for some counts (61, 103, ..): the surplus would be t = -1.
            ascending = np.round(np.arange(total, 0, -total / num_steps))[:num_steps][::-1].astype(np.int64) - 1
        elif spacing == "uniform":
            ascending = np.arange(0, total, total // num_steps) + 1
        elif spacing == "quad":
            ascending = (np.linspace(0, np.sqrt(total * 0.8), num_steps) ** 2).astype(np.int64) + 1
        else:
            raise InputError(complaint("spacing", f"be one of {get_args(Spacing)}", spacing, "Name one of them."))
        require(
            int(ascending[-1]) < total,
            "num_steps",
            f"keep {spacing} timesteps below {total}",
            num_steps,
            "Use fewer steps, or uniform_trailing.",
        )
        return [int(t) for t in ascending[::-1]]

    def ddim_sigma(self, t: int, t_prev: int, eta: float) -> float:
        """Standard deviation of the noise a DDIM step from ``t`` to ``t_prev`` adds (Song et al., eq. 16), float64."""
        alpha, alpha_prev = self._alphas_cumprod[t], float(self._alphas_cumprod[t_prev])
        # The division by 1-ᾱ_t is a float32 reciprocal in the original; the rest is float64.
        inverse = float(np.float32(1) / (np.float32(1) - alpha))
        return float(eta * np.sqrt((1 - alpha_prev) * inverse * (1 - float(alpha) / alpha_prev)))

    def ddim_step(
        self, x0: Tensor, eps: Tensor, t: int, t_prev: int, eta: float = 0.0, noise: Tensor | None = None
    ) -> Tensor:
        """x at ``t_prev`` from the x0 and noise predicted at ``t`` (Song et al., arXiv 2010.02502, eq. 12).

        Args:
            x0: [B, ...] predicted at ``t``, so scaled for ``t``.
            eps: [B, ...] predicted noise.
            t_prev: the next timestep down; 0 for the last step, which leaves the schedule's smallest noise.
            eta: 0 deterministic, 1 ancestral.
            noise: [B, ...] standard normal; needed when ``eta`` > 0.
        """
        self.check_timesteps([t, t_prev])
        alpha_prev = self._alphas_cumprod[t_prev]
        sigma = np.float32(self.ddim_sigma(t, t_prev, eta))
        # 1-ᾱ_prev-σ² is 0 at the first trailing step with eta 1, and rounds below it for some counts (7, 11, 25, ..).
        direction = np.sqrt(np.maximum(np.float32(1) - alpha_prev - sigma * sigma, np.float32(0)))
        x_prev = float(np.sqrt(alpha_prev)) * self.move_x0(x0, t, t_prev) + float(direction) * eps
        return x_prev if noise is None else x_prev + float(sigma) * noise

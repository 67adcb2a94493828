"""A folder of views -> a Gaussian splat as a PLY file, without Nerfstudio.

python examples/views_to_splat.py VIEWS SPLAT.ply
"""

import sys
from pathlib import Path

import torch
from scipy.spatial import cKDTree

from fvgen import Gaussians, load_views, resolve, write_splat
from fvgen.generation.views_reading import load_cloud
from fvgen.geometry.points import voxel_thin
from fvgen.metrics import psnr, ssim

RATES = {"means": 1e-3, "quats": 1e-3, "scales": 5e-3, "opacities": 0.05, "sh": 2.5e-3}
GENERATED_WEIGHT = 0.3
"""Loss weight of a generated pixel of full confidence; a photo's has 1."""


def main(folder: Path, output: Path, steps: int = 600, voxel: float = 0.01) -> None:
    """Fit Gaussians that start at the dense cloud to photos and views, each pixel by its confidence."""
    torch.manual_seed(0)
    views, cloud = load_views(folder), voxel_thin(load_cloud(folder), voxel)
    distances, _ = cKDTree(cloud.xyz.numpy()).query(cloud.xyz.numpy(), k=4)
    sizes = torch.from_numpy(distances[:, 1:].mean(axis=1)).float().clamp_min(1e-5)
    start = {
        "means": cloud.xyz.float(),
        "quats": torch.tensor([1.0, 0, 0, 0]).repeat(len(cloud), 1),
        "scales": sizes.log()[:, None].repeat(1, 3),
        "opacities": torch.zeros(len(cloud)),
        "sh": ((cloud.rgb - 0.5) / 0.28209479)[:, None],
    }
    splat = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.Adam([{"params": [splat[name]], "lr": rate} for name, rate in RATES.items()], eps=1e-15)
    share = torch.where(views.is_photo, 1.0, GENERATED_WEIGHT)[:, None, None, None]
    weight = views.pixel_confidence * views.view_confidence[:, None, None, None] * share

    def render(i: int) -> torch.Tensor:
        opacities, scales = splat["opacities"].sigmoid(), splat["scales"].exp()
        args = (splat["means"], splat["quats"], scales, opacities, splat["sh"], views.cameras[i], 0)
        return resolve("auto", "cpu").rasterize(*args, torch.rand(3)).rgb[0].permute(2, 0, 1)

    for step in range(steps):
        i = int(torch.randint(len(views), ()))
        picture, target = render(i), views.rgb[i]
        mixed = weight[i] * picture + (1 - weight[i]) * target  # what has no weight costs nothing
        loss = 0.8 * (weight[i] * (picture - target)).abs().mean() + 0.2 * (1 - ssim(mixed, target))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step + 1 == steps:
            print(f"step {step}: loss {loss.item():.4f}, PSNR {float(psnr(picture.detach(), target)):.2f} dB")
    write_splat(output, Gaussians(**{name: value.detach() for name, value in splat.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

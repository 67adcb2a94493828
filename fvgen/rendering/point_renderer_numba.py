"""Point rendering on the CPU by compiled loops: the pictures of `fvgen.rendering.point_renderer_torch`, in a quarter of
the time and without gradients."""

from __future__ import annotations

import math

import numpy as np
import torch

from fvgen.numba_compile import exact_kernel
from fvgen.types import Cameras, PointCloud, PointRender


def draw(
    points: PointCloud, camera: Cameras, reach: float, per_pixel: int, thickness: float | None, out: PointRender
) -> None:
    """Draw a cloud as one camera sees it.

    Args:
        points: P points on the CPU.
        camera: one camera.
        reach: radius of a disc in pixels.
        per_pixel: most points that count in a pixel.
        thickness: of the front surface as a share of its depth, for its mean; None lays points over each other.
        out: of one frame, zeros; written.
    """
    w2c = torch.linalg.inv(camera.c2w[0])
    height, width = camera.height, camera.width
    count = len(points)
    uv, z, index = np.empty((count, 2)), np.empty(count, np.float32), np.empty(count, np.int64)
    seen = project_seen(
        points.xyz.contiguous().numpy(),
        w2c[2].float().numpy(),
        w2c.double().numpy(),
        camera.K[0].double().numpy(),
        reach,
        height,
        width,
        uv,
        z,
        index,
    )
    order = torch.from_numpy(z[:seen]).argsort(stable=True).numpy()  # equal depths stay in the cloud's order
    row, share = np.empty((height * width, per_pixel), np.int64), np.empty((height * width, per_pixel), np.float32)
    filled = np.zeros(height * width, np.int64)
    deal(uv, order, reach, math.floor(2 * reach) + 1, width, row, share, filled)
    maps = (part[0].flatten(1).numpy() for part in (out.rgb, out.alpha, out.depth, out.confidence))
    blend(
        row,
        share,
        filled,
        z,
        index,
        points.rgb.float().contiguous().numpy(),
        points.confidence.float().numpy(),
        -1.0 if thickness is None else thickness,
        *maps,
    )


@exact_kernel
def project_seen(xyz, depth_row, w2c, K, reach, height, width, uv, z, index):
    """Positions in pixels, depths and rows of the points whose disc touches the picture; returns how many.

    Args:
        xyz: [P, 3].
        depth_row: [4] float32 of the world-to-camera matrix: depth is rounded as in PyTorch3D, so that ties sort alike.
        w2c: [4, 4] float64.
        K: [3, 3] float64.
        reach: radius in pixels.
        height, width: of the picture.
        uv: [P, 2] float64, written.
        z: [P] float32, written.
        index: [P] int64, written.
    """
    count = 0
    for i in range(len(xyz)):
        a, b, c = np.float32(xyz[i, 0]), np.float32(xyz[i, 1]), np.float32(xyz[i, 2])
        depth = depth_row[0] * a + depth_row[1] * b + depth_row[2] * c + depth_row[3]
        if not depth > 0:
            continue
        x, y, d = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        x, y, d = (
            w2c[0, 0] * x + w2c[0, 1] * y + w2c[0, 2] * d + w2c[0, 3],
            w2c[1, 0] * x + w2c[1, 1] * y + w2c[1, 2] * d + w2c[1, 3],
            w2c[2, 0] * x + w2c[2, 1] * y + w2c[2, 2] * d + w2c[2, 3],
        )
        u = (K[0, 0] * x + K[0, 1] * y + K[0, 2] * d) / d
        v = (K[1, 0] * x + K[1, 1] * y + K[1, 2] * d) / d
        if -reach < u < width + reach and -reach < v < height + reach:
            uv[count, 0], uv[count, 1], z[count], index[count] = u, v, depth, i
            count += 1
    return count


@exact_kernel
def deal(uv, order, reach, window, width, row, share, filled):
    """Deal discs to the pixels whose centres they cover, until these have as many as they may.

    Args:
        uv: [N, 2] float64, in pixels.
        order: [N] int64 rows of uv, nearest first.
        reach: radius in pixels.
        window: pixel centres in a row that a disc can cover.
        width: of the picture.
        row: [H * W, K] int64, written up to ``filled``: row of uv.
        share: [H * W, K] float32, written likewise: squared distance from pixel centre over squared radius.
        filled: [H * W] int64, zeros: how many discs each pixel has.
    """
    height = len(filled) // width
    per_pixel = row.shape[1]
    radius = np.float32(reach)
    squared = np.empty(window, np.float32)
    for i in order:
        first_x = math.ceil(uv[i, 0] - (reach + 0.5))
        first_y = math.ceil(uv[i, 1] - (reach + 0.5))
        for step in range(window):
            distance = np.float32((first_x + 0.5 - uv[i, 0]) + step) / radius
            squared[step] = distance * distance
        for down in range(window):
            y = int(first_y) + down
            if y < 0 or y >= height:
                continue
            distance = np.float32((first_y + 0.5 - uv[i, 1]) + down) / radius
            y_squared = distance * distance
            for step in range(window):
                x = int(first_x) + step
                d2 = y_squared + squared[step]
                if x < 0 or x >= width or not d2 < 1:
                    continue
                pixel = y * width + x
                slot = filled[pixel]
                if slot < per_pixel:
                    row[pixel, slot] = i
                    share[pixel, slot] = d2
                    filled[pixel] = slot + 1


@exact_kernel
def blend(row, share, filled, z, index, colours, confidences, thickness, rgb, alpha, depth, confidence):
    """Make pictures of what `deal` found.

    Args:
        row, share, filled: as from `deal`.
        z, index: as from `project_seen`.
        colours: [P, 3] float32.
        confidences: [P] float32.
        thickness: of the front surface whose mean is taken; negative lays points over each other.
        rgb: [3, H * W] float32, zeros, written.
        alpha, depth, confidence: [1, H * W] float32, zeros, written.
    """
    one = np.float32(1)
    for pixel in range(len(filled)):
        if filled[pixel] == 0:
            continue
        nearest = z[row[pixel, 0]]
        behind = nearest * np.float32(1 + thickness)
        left, total = one, np.float32(0)
        for slot in range(filled[pixel]):
            i = row[pixel, slot]
            if thickness < 0:
                weight = left * (one - share[pixel, slot])
                left *= share[pixel, slot]
            elif z[i] <= behind:
                weight = max(one - share[pixel, slot], np.float32(1e-3))
            else:
                break
            total += weight
            for c in range(3):
                rgb[c, pixel] += weight * colours[index[i], c]
            confidence[0, pixel] += weight * confidences[index[i]]
        depth[0, pixel] = nearest
        if thickness < 0:
            alpha[0, pixel] = total
            continue
        alpha[0, pixel] = one
        confidence[0, pixel] /= total
        for c in range(3):
            rgb[c, pixel] /= total

"""Numba kernels: 3D Gaussians to 2D splats and back (EWA splatting, Zwicker et al. 2001; 3DGS, Kerbl et al. 2023).

The conventions are those of gsplat 1.4.0's ``fully_fused_projection``. Per camera the kernels read 19 numbers: the
world-to-camera rotation (9, row by row), its translation (3), fx, fy, cx, cy, and the camera's position (3). A splat is
eight numbers: the inverse 2D covariance (xx, xy, yy), opacity, red, green, blue, depth.

What belongs together comes as one tuple: ``gaussians`` are means [N, 3], quaternions [N, 4], scales [N, 3] and
opacities [N]; ``size`` is (width, height) in pixels.

All arithmetic is float64: it costs nothing in scalar code, and the determinant of a long thin Gaussian needs it.
"""

from __future__ import annotations

import math

import numpy as np

from fvgen.numba_compile import kernel, kernel_part


@kernel_part
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel_part
def _combine(s, a, t, b):
    """s a + t b for scalars s, t and 3-vectors a, b."""
    return (s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2])


@kernel_part
def _row(array, i):
    return (np.float64(array[i, 0]), np.float64(array[i, 1]), np.float64(array[i, 2]))


@kernel_part
def _view(camera):
    """Rows of the world-to-camera rotation, and its translation."""
    return (
        (camera[0], camera[1], camera[2]),
        (camera[3], camera[4], camera[5]),
        (camera[6], camera[7], camera[8]),
        (camera[9], camera[10], camera[11]),
    )


@kernel_part
def _quaternion(quats, i):
    """The unit quaternion (w, x, y, z) and one over the norm it had."""
    w, x, y, z = np.float64(quats[i, 0]), np.float64(quats[i, 1]), np.float64(quats[i, 2]), np.float64(quats[i, 3])
    inverse_norm = 1.0 / math.sqrt(w * w + x * x + y * y + z * z)
    return (w * inverse_norm, x * inverse_norm, y * inverse_norm, z * inverse_norm), inverse_norm


@kernel_part
def _rotation_columns(quaternion):
    """Columns of the rotation matrix: the Gaussian's axes in the world."""
    w, x, y, z = quaternion
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)),
        (2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)),
        (2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@kernel_part
def _clamped_slopes(camera, x_over_z, y_over_z, width, height):
    """x/z and y/z held near the image: the linearised projection is meaningless far outside it."""
    fx, fy, cx, cy = camera[12], camera[13], camera[14], camera[15]
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    return (
        min((width - cx) / fx + margin_x, max(-cx / fx - margin_x, x_over_z)),
        min((height - cy) / fy + margin_y, max(-cy / fy - margin_y, y_over_z)),
    )


@kernel_part
def _jacobian_rows(camera, slope_x, slope_y, inverse_z):
    """The two rows of J W: how a pixel position answers to a step in the world."""
    row_x, row_y, row_z, _ = _view(camera)
    fx, fy = camera[12] * inverse_z, camera[13] * inverse_z
    return _combine(fx, row_x, -fx * slope_x, row_z), _combine(fy, row_y, -fy * slope_y, row_z)


@kernel_part
def _scaled_axes(jacobian, axes, scale):
    """Rows u, v of J W R S, a 2x3 matrix whose outer product is the 2D covariance."""
    u = (
        scale[0] * _dot(jacobian[0], axes[0]),
        scale[1] * _dot(jacobian[0], axes[1]),
        scale[2] * _dot(jacobian[0], axes[2]),
    )
    v = (
        scale[0] * _dot(jacobian[1], axes[0]),
        scale[1] * _dot(jacobian[1], axes[1]),
        scale[2] * _dot(jacobian[1], axes[2]),
    )
    return u, v


@kernel_part
def _determinants(u, v, eps2d):
    """Determinant of the 2D covariance before and after the blur.

    |u|^2 |v|^2 - (u.v)^2 = |u x v|^2 (Lagrange): a sum of squares, so nothing cancels for thin Gaussians.
    """
    a, b, c = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
    sharp = a * a + b * b + c * c
    return sharp, sharp + eps2d * (_dot(u, u) + _dot(v, v)) + eps2d * eps2d


@kernel_part
def _pixel_box(x, y, radius, extent_x, extent_y, width, height, tile, box):
    """First and one-past-last column and row of the pixel centres a splat can reach: [x0, x1, y0, y1].

    The extents say exactly where alpha falls under 1/255; gsplat also draws nothing in tiles that its 3-sigma square
    does not touch, so the same tiles are left out here.
    """
    box[0] = max(math.ceil(x - extent_x - 0.5), tile * math.floor((x - radius) / tile), 0)
    box[1] = min(math.floor(x + extent_x - 0.5) + 1, tile * math.ceil((x + radius) / tile), width)
    box[2] = max(math.ceil(y - extent_y - 0.5), tile * math.floor((y - radius) / tile), 0)
    box[3] = min(math.floor(y + extent_y - 0.5) + 1, tile * math.ceil((y + radius) / tile), height)


@kernel_part
def _project_one(c, i, gaussians, cameras, size, limits, antialiased, seen):
    means, quats, scales, opacities = gaussians
    width, height = size
    near, far, eps2d, alpha_min, tile = limits
    means2d, splats, radii, boxes = seen
    camera, mean = cameras[c], _row(means, i)
    row_x, row_y, row_z, shift = _view(camera)
    z = _dot(row_z, mean) + shift[2]
    if not (near <= z <= far):
        return
    slope_x, slope_y = (_dot(row_x, mean) + shift[0]) / z, (_dot(row_y, mean) + shift[1]) / z
    x, y = camera[12] * slope_x + camera[14], camera[13] * slope_y + camera[15]
    clamped_x, clamped_y = _clamped_slopes(camera, slope_x, slope_y, width, height)
    jacobian = _jacobian_rows(camera, clamped_x, clamped_y, 1.0 / z)
    quaternion, _ = _quaternion(quats, i)
    u, v = _scaled_axes(jacobian, _rotation_columns(quaternion), _row(scales, i))
    sharp, determinant = _determinants(u, v, eps2d)
    xx, xy, yy = _dot(u, u) + eps2d, _dot(u, v), _dot(v, v) + eps2d
    half_trace = 0.5 * (xx + yy)
    spread = math.sqrt(max(0.01, half_trace * half_trace - determinant))
    radius = np.ceil(3.0 * math.sqrt(half_trace + spread))
    if not (radius < 1e9 and x + radius > 0 and x - radius < width and y + radius > 0 and y - radius < height):
        return
    opacity = np.float64(opacities[i])
    if antialiased:
        opacity *= math.sqrt(sharp / determinant)
    means2d[c, i, 0], means2d[c, i, 1] = x, y
    splat = splats[c, i]
    splat[0], splat[1], splat[2] = yy / determinant, -xy / determinant, xx / determinant
    splat[3], splat[7] = opacity, z
    radii[c, i] = radius
    if opacity >= alpha_min:
        # The small addition outweighs the rounding of float32 pixel arithmetic.
        reach = math.sqrt(2.0 * math.log(opacity / alpha_min) + 1e-4)
        extent_x, extent_y = reach * math.sqrt(xx), reach * math.sqrt(yy)
        _pixel_box(x, y, radius, extent_x, extent_y, width, height, tile, boxes[c, i])


@kernel
def project(first, last, gaussians, cameras, size, limits, antialiased, seen):
    """Project Gaussians ``first`` to ``last`` into every camera.

    ``limits`` are the near and far plane, the blur in square pixels, the least alpha that is drawn, and a tile's side.
    Fills ``seen``: ``means2d`` [C, N, 2], ``splats`` [C, N, 8] except colours, ``radii`` [C, N] and pixel ``boxes``
    [C, N, 4]. A Gaussian that is not seen, or not finite, keeps radius 0, and its other outputs stay as they are.
    """
    for i in range(first, last):
        for c in range(len(cameras)):
            _project_one(c, i, gaussians, cameras, size, limits, antialiased, seen)


@kernel_part
def _covariance_gradient(u, v, sharp, determinant, eps2d, grad, grad_log_dimming):
    """dL/d(xx, xy, yy) of the 2D covariance; xy stands for both off-diagonal entries together."""
    xx, xy, yy = _dot(u, u), _dot(u, v), _dot(v, v)
    a, b, c = (yy + eps2d) / determinant, -xy / determinant, (xx + eps2d) / determinant
    ga, gb, gc = np.float64(grad[0]), 0.5 * np.float64(grad[1]), np.float64(grad[2])
    # d(inverse) = -inverse d(cov) inverse
    p, q, r, s = a * ga + b * gb, a * gb + b * gc, b * ga + c * gb, b * gb + c * gc
    gxx, gxy, gyy = -(p * a + q * b), -2.0 * (p * b + q * c), -(r * b + s * c)
    if grad_log_dimming != 0.0:
        # dimming = sqrt(sharp / determinant): d(log dimming) = (d(log sharp) - d(log determinant)) / 2
        weight = 0.5 * grad_log_dimming
        gxx += weight * (yy / sharp - a)
        gyy += weight * (xx / sharp - c)
        gxy -= 2.0 * weight * (xy / sharp + b)
    return gxx, gxy, gyy


@kernel_part
def _quaternion_gradient(quaternion, inverse_norm, g0, g1, g2, out):
    """Add to ``out`` the gradient of the raw quaternion, from that of the rotation's columns ``g0, g1, g2``."""
    w, x, y, z = quaternion
    gw = 2.0 * (z * (g0[1] - g1[0]) + y * (g2[0] - g0[2]) + x * (g1[2] - g2[1]))
    gx = 2.0 * (y * (g1[0] + g0[1]) + z * (g2[0] + g0[2]) + w * (g1[2] - g2[1]) - 2.0 * x * (g1[1] + g2[2]))
    gy = 2.0 * (x * (g1[0] + g0[1]) + z * (g2[1] + g1[2]) + w * (g2[0] - g0[2]) - 2.0 * y * (g0[0] + g2[2]))
    gz = 2.0 * (x * (g2[0] + g0[2]) + y * (g2[1] + g1[2]) + w * (g0[1] - g1[0]) - 2.0 * z * (g0[0] + g1[1]))
    along = gw * w + gx * x + gy * y + gz * z
    out[0] += inverse_norm * (gw - along * w)
    out[1] += inverse_norm * (gx - along * x)
    out[2] += inverse_norm * (gy - along * y)
    out[3] += inverse_norm * (gz - along * z)


@kernel_part
def _mean_gradient(camera, slopes, clamped, inverse_z, grad_jacobian, grad_mean2d, grad_z, out):
    """Add to ``out`` the gradient of the mean, through the pixel position, the Jacobian and the depth."""
    row_x, row_y, row_z, _ = _view(camera)
    fx, fy = camera[12] * inverse_z, camera[13] * inverse_z
    # entries of J: (fx/z, -fx tx/z) and (fy/z, -fy ty/z)
    jx, jxz = _dot(grad_jacobian[0], row_x), _dot(grad_jacobian[0], row_z)
    jy, jyz = _dot(grad_jacobian[1], row_y), _dot(grad_jacobian[1], row_z)
    gz = grad_z - inverse_z * (fx * (jx - clamped[0] * jxz) + fy * (jy - clamped[1] * jyz))
    slope_gx = camera[12] * grad_mean2d[0] - (fx * jxz if clamped[0] == slopes[0] else 0.0)
    slope_gy = camera[13] * grad_mean2d[1] - (fy * jyz if clamped[1] == slopes[1] else 0.0)
    gx, gy = slope_gx * inverse_z, slope_gy * inverse_z
    gz -= inverse_z * (slope_gx * slopes[0] + slope_gy * slopes[1])
    for k in range(3):
        out[k] += row_x[k] * gx + row_y[k] * gy + row_z[k] * gz


@kernel_part
def _weigh_axes(weights, axes):
    """sum_k weights[k] axes[k]"""
    first = _combine(weights[0], axes[0], weights[1], axes[1])
    return _combine(1.0, first, weights[2], axes[2])


@kernel_part
def _project_one_backward(c, i, gaussians, cameras, size, eps2d, antialiased, grad_means2d, grad_splats, grads):
    means, quats, scales, opacities = gaussians
    width, height = size
    grad_means, grad_quats, grad_scales, grad_opacities = grads
    camera, mean, scale, grad = cameras[c], _row(means, i), _row(scales, i), grad_splats[c, i]
    row_x, row_y, row_z, shift = _view(camera)
    inverse_z = 1.0 / (_dot(row_z, mean) + shift[2])
    slopes = ((_dot(row_x, mean) + shift[0]) * inverse_z, (_dot(row_y, mean) + shift[1]) * inverse_z)
    clamped = _clamped_slopes(camera, slopes[0], slopes[1], width, height)
    jacobian = _jacobian_rows(camera, clamped[0], clamped[1], inverse_z)
    quaternion, inverse_norm = _quaternion(quats, i)
    axes = _rotation_columns(quaternion)
    u, v = _scaled_axes(jacobian, axes, scale)
    sharp, determinant = _determinants(u, v, eps2d)
    dimming = math.sqrt(sharp / determinant) if antialiased else 1.0
    grad_opacities[i] += grad[3] * dimming
    grad_log_dimming = grad[3] * opacities[i] * dimming if antialiased and sharp > 0.0 else 0.0
    gxx, gxy, gyy = _covariance_gradient(u, v, sharp, determinant, eps2d, grad, grad_log_dimming)
    gu, gv = _combine(2.0 * gxx, u, gxy, v), _combine(gxy, u, 2.0 * gyy, v)
    for k in range(3):
        grad_scales[i, k] += gu[k] * _dot(jacobian[0], axes[k]) + gv[k] * _dot(jacobian[1], axes[k])
    gu = (gu[0] * scale[0], gu[1] * scale[1], gu[2] * scale[2])
    gv = (gv[0] * scale[0], gv[1] * scale[1], gv[2] * scale[2])
    _quaternion_gradient(
        quaternion,
        inverse_norm,
        _combine(gu[0], jacobian[0], gv[0], jacobian[1]),
        _combine(gu[1], jacobian[0], gv[1], jacobian[1]),
        _combine(gu[2], jacobian[0], gv[2], jacobian[1]),
        grad_quats[i],
    )
    grad_jacobian = (_weigh_axes(gu, axes), _weigh_axes(gv, axes))
    grad_mean2d = (np.float64(grad_means2d[c, i, 0]), np.float64(grad_means2d[c, i, 1]))
    grad_z = np.float64(grad[7])
    _mean_gradient(camera, slopes, clamped, inverse_z, grad_jacobian, grad_mean2d, grad_z, grad_means[i])


@kernel
def project_backward(
    first, last, gaussians, cameras, size, eps2d, antialiased, radii, grad_means2d, grad_splats, grads
):
    """Add the gradients of ``gaussians`` to ``grads``, arrays of the same shapes, summed over the cameras in their
    order; ``eps2d`` is the blur in square pixels."""
    for i in range(first, last):
        for c in range(len(cameras)):
            if radii[c, i] > 0:
                _project_one_backward(
                    c, i, gaussians, cameras, size, eps2d, antialiased, grad_means2d, grad_splats, grads
                )

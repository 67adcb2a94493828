"""Numba kernels: view-dependent colour from real spherical harmonics up to degree 3, and its gradient.

Basis and signs are those of 3DGS and gsplat (Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013):
colour = max(0, 0.5 + sum_k basis_k(direction) coefficient_k), direction from the camera to the Gaussian.
"""

from __future__ import annotations

import math

import numpy as np

from fvgen.numba_compile import kernel, kernel_part

_K0 = np.float32(0.28209479177387814)
_K1 = np.float32(0.4886025119029199)
_K2 = np.float32(1.0925484305920792)
_K20 = np.float32(0.31539156525252005)
_K22 = np.float32(0.5462742152960396)
_K33 = np.float32(0.5900435899266435)
_K32 = np.float32(1.445305721320277)
_K31 = np.float32(0.4570457994644658)
_K30 = np.float32(0.3731763325901154)


@kernel_part
def _basis(degree, x, y, z, out):
    """Fill ``out`` [(degree + 1)^2] with the basis at the unit vector (x, y, z)."""
    one, three, five = np.float32(1), np.float32(3), np.float32(5)
    out[0] = _K0
    if degree >= 1:
        out[1], out[2], out[3] = -_K1 * y, _K1 * z, -_K1 * x
    if degree >= 2:
        out[4], out[5], out[7] = _K2 * x * y, -_K2 * y * z, -_K2 * x * z
        out[6] = _K20 * (three * z * z - one)
        out[8] = _K22 * (x * x - y * y)
    if degree >= 3:
        ring = -_K31 * (five * z * z - one)
        out[9], out[15] = -_K33 * y * (three * x * x - y * y), -_K33 * x * (x * x - three * y * y)
        out[10], out[14] = _K32 * (x * y + x * y) * z, _K32 * z * (x * x - y * y)
        out[11], out[13] = ring * y, ring * x
        out[12] = _K30 * z * (five * z * z - three)


@kernel_part
def _basis_gradient(degree, x, y, z, g):
    """sum_k g[k] d(basis_k)/d(x, y, z), the three coordinates taken as independent."""
    two, three, five, six = np.float32(2), np.float32(3), np.float32(5), np.float32(6)
    gx, gy, gz = -_K1 * g[3], -_K1 * g[1], _K1 * g[2]
    if degree >= 2:
        gx += _K2 * (y * g[4] - z * g[7]) + two * _K22 * x * g[8]
        gy += _K2 * (x * g[4] - z * g[5]) - two * _K22 * y * g[8]
        gz += six * _K20 * z * g[6] - _K2 * (y * g[5] + x * g[7])
    if degree >= 3:
        ring, ring_z = -_K31 * (five * z * z - np.float32(1)), -_K31 * np.float32(10) * z
        difference, product = x * x - y * y, two * x * y
        gx += three * _K33 * (-product * g[9] - difference * g[15]) + two * _K32 * z * (y * g[10] + x * g[14])
        gy += three * _K33 * (-difference * g[9] + product * g[15]) + two * _K32 * z * (x * g[10] - y * g[14])
        gz += _K32 * (product * g[10] + difference * g[14]) + _K30 * (np.float32(15) * z * z - three) * g[12]
        gx += ring * g[13]
        gy += ring * g[11]
        gz += ring_z * (y * g[11] + x * g[13])
    return gx, gy, gz


@kernel_part
def _direction(means, camera, i):
    """Unit vector from the camera to the Gaussian, and one over the distance."""
    x, y, z = means[i, 0] - camera[16], means[i, 1] - camera[17], means[i, 2] - camera[18]
    inverse = 1.0 / math.sqrt(x * x + y * y + z * z)
    return np.float32(x * inverse), np.float32(y * inverse), np.float32(z * inverse), np.float32(inverse)


@kernel
def colours(first, last, means, sh, degree, cameras, radii, splats):
    """Write red, green and blue of the visible Gaussians from ``first`` to ``last`` into ``splats`` [C, N, 8]."""
    basis, terms, zero = np.empty(16, np.float32), (degree + 1) ** 2, np.float32(0)
    for c in range(len(cameras)):
        for i in range(first, last):
            if radii[c, i] == 0:
                continue
            x, y, z, _ = _direction(means, cameras[c], i)
            _basis(degree, x, y, z, basis)
            red = green = blue = np.float32(0.5)
            for k in range(terms):
                red += basis[k] * sh[i, k, 0]
                green += basis[k] * sh[i, k, 1]
                blue += basis[k] * sh[i, k, 2]
            splats[c, i, 4], splats[c, i, 5], splats[c, i, 6] = max(red, zero), max(green, zero), max(blue, zero)


@kernel
def colours_backward(first, last, means, sh, degree, cameras, radii, splats, grad_splats, grad_means, grad_sh):
    """Add the gradients of `colours` to ``grad_means`` [N, 3] and ``grad_sh`` [N, K, 3]."""
    basis, along = np.empty(16, np.float32), np.empty(16, np.float32)
    terms, zero = (degree + 1) ** 2, np.float32(0)
    for c in range(len(cameras)):
        for i in range(first, last):
            if radii[c, i] == 0:
                continue
            splat, grad = splats[c, i], grad_splats[c, i]
            # A colour clamped at zero passes no gradient.
            red = grad[4] if splat[4] > 0 else zero
            green = grad[5] if splat[5] > 0 else zero
            blue = grad[6] if splat[6] > 0 else zero
            x, y, z, inverse = _direction(means, cameras[c], i)
            _basis(degree, x, y, z, basis)
            for k in range(terms):
                grad_sh[i, k, 0] += basis[k] * red
                grad_sh[i, k, 1] += basis[k] * green
                grad_sh[i, k, 2] += basis[k] * blue
                along[k] = sh[i, k, 0] * red + sh[i, k, 1] * green + sh[i, k, 2] * blue
            if degree >= 1:
                gx, gy, gz = _basis_gradient(degree, x, y, z, along)
                radial = gx * x + gy * y + gz * z
                grad_means[i, 0] += (gx - radial * x) * inverse
                grad_means[i, 1] += (gy - radial * y) * inverse
                grad_means[i, 2] += (gz - radial * z) * inverse

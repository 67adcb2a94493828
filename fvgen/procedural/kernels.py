"""Numba kernels of procedural scenes: value noise; the nearest surface along each ray; its colour.

A training set needs thousands of frames, so its scenes are plain arrays (`fvgen.procedural.clips.scene.ClipScene`) and
every pixel of theirs is compiled code. The demo's room is drawn once: it takes only its noise from here. All kernels
stand in one file because a kernel calls only parts of its own (`fvgen.numba_compile.kernel`).
"""

from __future__ import annotations

import math

import numpy as np

from fvgen.numba_compile import exact_kernel, exact_kernel_part, kernel, kernel_part

BOX, ROOM, ELLIPSOID, CYLINDER = 0, 1, 2, 3
"""Shapes, see `fvgen.procedural.solids.Shape`."""
PLAIN, NOISE, BRICKS, CHECKS, STRIPES, PLANKS, PICTURE = 0, 1, 2, 3, 4, 5, 6
"""Patterns, each a blend of two colours (a picture has its own)."""
(
    PATTERN, RED, SECOND_RED, SCALE, SEED, CONTRAST, GRAIN, SPECULAR, SHININESS, GLOW, IMAGE, IMAGE_SIZE
) = (0, 1, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15)  # fmt: skip
"""Columns of a material; colours take three. ``GRAIN`` is the size in metres of the noise on top, ``IMAGE_SIZE`` the
side in metres of a repeated picture (0 stretches it over the face)."""
MATERIAL_COLUMNS = 16
FAR = 200.0
"""Depth of the sky, in metres."""
LATTICE = 256
"""Random values along each side of the table that value noise takes; a power of 2."""
_MISS = 1e30
"""Ray parameter of a ray that hits nothing."""
_PARALLEL = 1e-12
"""Least component of a direction: rays along a face stay finite."""
_MOST_OCTAVES = 7
_OCTAVE_AMPLITUDE = 0.65
"""Amplitude of each octave of fractal noise over that of the one before."""
_NOISE_CONTRAST = 1.4
"""Stretches fractal noise, whose octaves level each other out, over [0, 1]."""
_SMALLEST_COPY = 5
"""Times that a picture is halved at most."""
_CAP_EDGE = 1e-5
"""Share of a cylinder's half height within which a hit lies on its cap."""
_SLANTED = 0.03
"""Least cosine between a surface and a ray for the size of a sample on it."""
_SMOOTH_BEND = 3e-4
"""Relative bend of depth within a pixel up to which one sample, in its middle, is enough."""
_BRIGHTEST_SAMPLE = 1.5
"""A sample of a pixel counts up to this, so that one glint does not fill a pixel."""


@kernel_part
def _turn(matrix, x, y, z):
    """Matrix [3, 3] times (x, y, z), without an array for the result."""
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z,
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z,
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z,
    )


@kernel_part
def _hit_slab(o, d):
    """Where a ray enters and leaves [-1, 1] along one axis."""
    if abs(d) < _PARALLEL:
        d = _PARALLEL
    first, second = (-1 - o) / d, (1 - o) / d
    return min(first, second), max(first, second)


@kernel_part
def _distance(shape, ox, oy, oz, dx, dy, dz):
    """Ray parameter of the first hit in front of the origin, `_MISS` for none; all in the solid's own unit frame."""
    if shape in (BOX, ROOM):
        in_x, out_x = _hit_slab(ox, dx)
        in_y, out_y = _hit_slab(oy, dy)
        in_z, out_z = _hit_slab(oz, dz)
        enter, leave = max(in_x, in_y, in_z), min(out_x, out_y, out_z)
        if shape == ROOM:
            return leave if leave > 0 else _MISS
        return enter if enter <= leave and enter > 0 else _MISS
    flat = 0.0 if shape == CYLINDER else 1.0
    a = dx * dx + dy * dy + flat * dz * dz
    b = ox * dx + oy * dy + flat * oz * dz
    c = ox * ox + oy * oy + flat * oz * oz - 1
    root = b * b - a * c
    if root < 0 or a < 1e-20:
        return _MISS
    root = math.sqrt(root)
    enter, leave = (-b - root) / a, (-b + root) / a
    if shape == CYLINDER:
        in_z, out_z = _hit_slab(oz, dz)
        enter, leave = max(enter, in_z), min(leave, out_z)
    return enter if enter <= leave and enter > 0 else _MISS


@kernel
def cast(shapes, to_local, centres, windows, pose, intrinsics, step, depth, hit):
    """Fill ``depth`` [h, w] (along the viewing axis, `FAR` for sky) and ``hit`` [h, w] (solid's index, -1 for sky).

    Samples lie ``step`` pixels apart. ``to_local`` [N, 3, 3] turns and scales the world into each solid's unit frame;
    ``windows`` [N, 4] (x0, x1, y0, y1) are the samples that each solid can be seen in.
    """
    depth[:] = FAR
    hit[:] = -1
    fx, fy, cx, cy = intrinsics
    turn = np.ascontiguousarray(pose[:3, :3])
    for n in range(len(shapes)):
        M = to_local[n] @ turn
        c = centres[n]
        ox, oy, oz = _turn(to_local[n], pose[0, 3] - c[0], pose[1, 3] - c[1], pose[2, 3] - c[2])
        for row in range(windows[n, 2], windows[n, 3]):
            y = ((row + 0.5) * step - cy) / fy
            for column in range(windows[n, 0], windows[n, 1]):
                x = ((column + 0.5) * step - cx) / fx
                dx, dy, dz = _turn(M, x, y, 1.0)
                t = _distance(shapes[n], ox, oy, oz, dx, dy, dz)
                if t < depth[row, column]:
                    depth[row, column] = t
                    hit[row, column] = n


def _value_noise(table, u, v, seed):
    """Smooth noise in [0, 1] with one value of ``table`` [256, 256] at each whole coordinate; repeats every 256."""
    fu, fv = math.floor(u), math.floor(v)
    a, b = u - fu, v - fv
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = (int(fu) + 37 * seed) & (LATTICE - 1), (int(fv) + 101 * seed) & (LATTICE - 1)
    k, m = (i + 1) & (LATTICE - 1), (j + 1) & (LATTICE - 1)
    upper = table[j, i] * (1 - a) + table[j, k] * a
    return upper * (1 - b) + (table[m, i] * (1 - a) + table[m, k] * a) * b


_noise = kernel_part(_value_noise)
_exact_noise = exact_kernel_part(_value_noise)


@exact_kernel
def value_noise(table, uv, out):
    """Fill ``out`` [P] with value noise of ``table`` [256, 256] at ``uv`` [P, 2]."""
    for p in range(len(uv)):
        out[p] = _exact_noise(table, uv[p, 0], uv[p, 1], 0)


@kernel_part
def _fractal(table, u, v, seed, size, footprint):
    """Octaves of noise in [0, 1]: features from ``size`` down to twice the ``footprint`` of a sample, in metres."""
    total, weight, amplitude = 0.0, 0.0, 1.0
    for octave in range(_MOST_OCTAVES):
        if octave > 0 and size < 2 * footprint:
            break
        total += amplitude * _noise(table, u / size, v / size, seed + octave)
        weight += amplitude
        amplitude *= _OCTAVE_AMPLITUDE
        size *= 0.5
    return 0.5 + _NOISE_CONTRAST * (total / weight - 0.5)


@kernel_part
def _cell_value(table, row, column):
    """The one random value in [0, 1] of a whole cell of a pattern."""
    return table[int(row) & (LATTICE - 1), int(column) & (LATTICE - 1)]


@kernel_part
def _edge(distance, footprint):
    """How much of a sample of ``footprint`` metres lies beyond an edge ``distance`` metres before its middle."""
    return min(max(0.5 + distance / footprint, 0.0), 1.0)


@kernel_part
def _pattern(table, material, u, v, footprint):
    """Share of the second colour in [0, 1] at surface coordinates in metres, and a tint to multiply by."""
    kind, size, seed = int(material[PATTERN]), material[SCALE], int(material[SEED])
    if kind == NOISE:
        return min(max(1.6 * _fractal(table, u, v, seed, size, footprint) - 0.3, 0.0), 1.0), 1.0
    if kind in (BRICKS, PLANKS):
        length, height, joint = (size, 0.36 * size, 0.03 * size) if kind == BRICKS else (6 * size, size, 0.02 * size)
        row = math.floor(v / height)
        along = u / length + 0.5 * (int(row) & 1) if kind == BRICKS else u / length + 0.37 * row
        cell = math.floor(along)
        tint = 0.7 + 0.6 * _cell_value(table, row + 3 * seed, cell + 7 * seed)
        x, y = (along - cell) * length, v - row * height
        gap = _edge(joint - min(min(x, length - x), min(y, height - y)), footprint)
        if kind == PLANKS:
            grain = _fractal(table, u + 3.1 * row, 8 * v, seed + 9, 1.5 * size, footprint)
            return min(max(grain, 0.0), 1.0), tint * (1 - 0.5 * gap)
        return gap, tint + (1 - tint) * gap
    if kind == CHECKS:
        a, b = math.floor(u / size), math.floor(v / size)
        x, y = u - a * size, v - b * size
        border = min(min(x, size - x), min(y, size - y))
        odd, blur = float(int(a + b) & 1), 0.5 * _edge(-border, 2 * footprint)
        joint = 1 - 0.25 * _edge(0.03 * size - border, footprint)
        return odd + (1 - 2 * odd) * blur, joint * (0.9 + 0.2 * _cell_value(table, a + seed, b))
    if kind == STRIPES:
        bent = v / size + 0.3 * math.sin(0.7 * u / size) * (seed & 1)
        band = math.floor(bent)
        here, part = _cell_value(table, band, seed), bent - band
        beside = _cell_value(table, band + (1 if part > 0.5 else -1), seed)
        return here + (beside - here) * 0.5 * _edge(-min(part, 1 - part) * size, 2 * footprint), 1.0
    return 0.0, 1.0


@kernel_part
def _texel(atlas, image, x, y, level, out):
    """Bilinear colour of picture ``image`` of ``atlas`` [N, S, S, 3] at (x, y) in [0, 1), shrunk ``level`` times.

    Shrunk copies stand side by side: level k begins at column ``2 S (1 - 2^-k)``.
    """
    side = atlas.shape[1] >> level
    left = 2 * (atlas.shape[1] - side)
    px, py = x * side - 0.5, y * side - 0.5
    fx, fy = math.floor(px), math.floor(py)
    a, b = px - fx, py - fy
    i, j = int(fx) % side, int(fy) % side
    k, m = (i + 1) % side, (j + 1) % side
    for c in range(3):
        upper = atlas[image, j, left + i, c] * (1 - a) + atlas[image, j, left + k, c] * a
        lower = atlas[image, m, left + i, c] * (1 - a) + atlas[image, m, left + k, c] * a
        out[c] = upper * (1 - b) + lower * b


@kernel_part
def _paint(table, atlas, material, u, v, half_u, half_v, footprint, out):
    """``out`` [3]: the material's colour before light."""
    if int(material[PATTERN]) == PICTURE:
        size = material[IMAGE_SIZE]
        if size > 0:
            x, y, wide = u / size - math.floor(u / size), math.ceil(v / size) - v / size, size
        else:
            x, y = min(max(0.5 + 0.5 * u / half_u, 0), 0.999), min(max(0.5 - 0.5 * v / half_v, 0), 0.999)
            wide = 2 * max(half_u, half_v)
        level = int(max(math.log2(max(footprint / wide * atlas.shape[1], 1e-3)) + 0.5, 0.0))
        _texel(atlas, int(material[IMAGE]), x, y, min(level, _SMALLEST_COPY), out)
        tint = 1.0
    else:
        share, tint = _pattern(table, material, u, v, footprint)
        for c in range(3):
            out[c] = material[RED + c] + share * (material[SECOND_RED + c] - material[RED + c])
    if material[CONTRAST] > 0:
        noise = _fractal(table, u, v, int(material[SEED]) + 31, material[GRAIN], footprint)
        tint *= 1 + 2 * material[CONTRAST] * (noise - 0.5)
    for c in range(3):
        out[c] = max(out[c] * tint, 0.0)


@kernel_part
def _surface(shape, qx, qy, qz, half, normal):
    """Face number, coordinates in metres and the half size of the face; fills the own-frame ``normal`` [3].

    Round bodies take the coordinates of the face of their bounding box that they look towards.
    """
    x, y, z = qx * half[0], qy * half[1], qz * half[2]
    flat_faced = shape in (BOX, ROOM)
    if flat_faced:
        normal[0], normal[1], normal[2] = qx, qy, qz
    else:
        normal[0], normal[1], normal[2] = qx / half[0], qy / half[1], qz / half[2]
        if shape == CYLINDER:
            normal[2] = 1e6 * qz if abs(qz) > 1 - _CAP_EDGE else 0.0
    axis = 0
    for a in range(1, 3):
        if abs(normal[a]) > abs(normal[axis]):
            axis = a
    positive = normal[axis] > 0
    if flat_faced:
        for a in range(3):
            normal[a] = 0.0
        normal[axis] = (1.0 if positive else -1.0) * (-1.0 if shape == ROOM else 1.0)
    length = math.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    for a in range(3):
        normal[a] /= length
    face = 2 * axis + (1 if positive else 0)
    if axis == 0:
        return face, y, z, half[1], half[2]
    if axis == 1:
        return face, x, z, half[0], half[2]
    return face, x, y, half[0], half[1]


@kernel_part
def _shadowed(solids, casters, px, py, pz, light):
    """Whether a large solid stands between a point and a light [3]."""
    shapes, _, _, to_local, centres, _ = solids
    for n in casters:
        c = centres[n]
        ox, oy, oz = _turn(to_local[n], px - c[0], py - c[1], pz - c[2])
        dx, dy, dz = _turn(to_local[n], light[0] - px, light[1] - py, light[2] - pz)
        if 1e-3 < _distance(shapes[n], ox, oy, oz, dx, dy, dz) < 1:
            return True
    return False


@kernel_part
def _sky(table, sky, x, y, z, out):
    """Colour of the sky [3] in a direction; ``sky`` is horizon, zenith and cloud colour, cloud cover, seed."""
    up = max(z, 0.02)
    clouds = _fractal(table, x / up, y / up, int(sky[10]), 1.5, 0.02 / up)
    cover = min(max((clouds - 1 + sky[9]) * 4, 0.0), 1.0)
    for c in range(3):
        clear = sky[c] + (sky[3 + c] - sky[c]) * math.sqrt(min(up, 1.0))
        out[c] = clear + cover * (sky[6 + c] - clear)


@kernel_part
def _light(solids, casters, lights, material, px, py, pz, rx, ry, rz, normal):
    """Diffuse and mirrored light at a point whose viewing ray is (rx, ry, rz), of length 1."""
    diffuse, mirrored = 0.0, 0.0
    for k in range(len(lights)):
        x, y, z = lights[k, 0] - px, lights[k, 1] - py, lights[k, 2] - pz
        length = math.sqrt(x * x + y * y + z * z)
        x, y, z = x / length, y / length, z / length
        facing = x * normal[0] + y * normal[1] + z * normal[2]
        if facing <= 0 or (k == 0 and _shadowed(solids, casters, px, py, pz, lights[0])):
            continue
        diffuse += lights[k, 3] * facing
        if material[SPECULAR] > 0:
            x, y, z = x - rx, y - ry, z - rz
            across = (x * normal[0] + y * normal[1] + z * normal[2]) / math.sqrt(x * x + y * y + z * z)
            mirrored += lights[k, 3] * material[SPECULAR] * max(across, 0.0) ** material[SHININESS]
    return diffuse, mirrored


@kernel_part
def _shade_ray(solids, look, pose, x, y, step, z, n, normal, out):
    """``out`` [3]: what a ray through (x, y, 1) sees at depth ``z`` on solid ``n``, filtered over ``step`` each way."""
    shapes, rotations, halves, to_local, centres, faces = solids
    materials, atlas, table, casters, lights, ambient, sky = look
    rx, ry, rz = _turn(pose, x, y, 1.0)
    length = math.sqrt(rx * rx + ry * ry + rz * rz)
    if n < 0:
        _sky(table, sky, rx / length, ry / length, rz / length, out)
        return
    px, py, pz = pose[0, 3] + z * rx, pose[1, 3] + z * ry, pose[2, 3] + z * rz
    rx, ry, rz = rx / length, ry / length, rz / length
    centre = centres[n]
    qx, qy, qz = _turn(to_local[n], px - centre[0], py - centre[1], pz - centre[2])
    face, u, v, half_u, half_v = _surface(shapes[n], qx, qy, qz, halves[n], normal)
    material = materials[faces[n, face]]
    normal[0], normal[1], normal[2] = _turn(rotations[n], normal[0], normal[1], normal[2])
    facing = abs(normal[0] * rx + normal[1] * ry + normal[2] * rz)
    # the geometric mean of a sample's two axes on a slanted surface, between blur and shimmer
    _paint(table, atlas, material, u, v, half_u, half_v, step * z / math.sqrt(max(facing, _SLANTED)), out)
    diffuse, mirrored = _light(solids, casters, lights, material, px, py, pz, rx, ry, rz, normal)
    light = ambient * (0.8 + 0.2 * normal[2]) + diffuse
    light = material[GLOW] + (1 - material[GLOW]) * light
    for c in range(3):
        out[c] = out[c] * light + mirrored


@kernel
def shade(solids, look, pose, intrinsics, depth, hit, rgb):
    """Fill ``rgb`` [H, W, 3], linear and unbounded, from ``depth`` and ``hit`` [2 H, 2 W] of `cast` at steps of 0.5.

    A pixel whose four samples lie on one smooth surface is shaded once, in its middle; others four times.
    ``solids`` are shapes, rotations, halves, to_local, centres, faces; ``look`` is materials, atlas, noise, casters [K]
    of shadows, lights [L, 4] (the first throws them), ambient light, sky.
    """
    fx, fy, cx, cy = intrinsics
    normal, colour = np.empty(3), np.empty(3)
    for row in range(rgb.shape[0]):
        for column in range(rgb.shape[1]):
            n, z = hit[2 * row, 2 * column], depth[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            one = n == hit[2 * row, 2 * column + 1] == hit[2 * row + 1, 2 * column] == hit[2 * row + 1, 2 * column + 1]
            # inverse depth is linear on a plane, so this is how far the surface bends within the pixel
            bend = z[0, 0] * abs(1 / z[0, 0] + 1 / z[1, 1] - 1 / z[0, 1] - 1 / z[1, 0])
            out = rgb[row, column]
            if one and bend < _SMOOTH_BEND:
                middle = 4 / (1 / z[0, 0] + 1 / z[1, 1] + 1 / z[0, 1] + 1 / z[1, 0])
                x, y = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
                _shade_ray(solids, look, pose, x, y, 1 / fx, middle, n, normal, out)
                continue
            out[:] = 0
            for k in range(4):
                i, j = k // 2, k % 2
                x, y = (column + 0.25 + 0.5 * j - cx) / fx, (row + 0.25 + 0.5 * i - cy) / fy
                solid = hit[2 * row + i, 2 * column + j]
                _shade_ray(solids, look, pose, x, y, 0.5 / fx, z[i, j], solid, normal, colour)
                for c in range(3):
                    out[c] += 0.25 * min(colour[c], _BRIGHTEST_SAMPLE)

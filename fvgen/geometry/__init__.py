"""Cameras, paths and points.

- Cameras: `cameras`, `similarity`, `photo_order`, `view_pairs`.
- Where points come from: `provider` is the protocol and the table; `capture_depth`, `plane_sweep` and `dust3r` are the
  choices, `completion` asks a network where these leave gaps.
- The plane sweep's steps in their order: `correlation`, `matching_cost` (compiled: `matching_cost_numba`), `sgm`
  (`sgm_numba`), `patch_match` (`patch_match_numba`), `depth_filters`, `push_pull`.
- What points become: `points`, and what they leave empty: `room` and `background`, with `cell_maps`.
- Paths: `trajectory`, with `camera_curve`; `reference_trajectory` is ViewCrafter's.
"""

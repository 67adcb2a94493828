"""Captures and their photos, and training clips made of captures.

The way in: `read_capture` finds out what a folder holds, and gives a `capture` with `capture_notes` of what was left
out.

- One reader for each kind of capture: `transforms_json`, `colmap` (with `colmap_files`, `colmap_places` and
  `colmap_positions`), `opensfm`, `blender`, `polycam`; `other_tools` knows what must be converted first. They share
  `text_files`, `file_places`, `split_names` and `lenses`.
- Photos and what belongs to them: `image_files`, `photos`, `exif_orientation`, `masks`, `transparency`, `depth_files`.
- From a capture to work: `decoded_frame`, `frame_checks`, `usable_frames`, `points_in_photos`, `view_thinning`,
  `working_size`.
- Training clips: `prepare` is the command, `clips` cuts them, `precompute` makes conditions, `clip_encodings` says how
  they are stored, and `shards` writes and reads them.
"""

"""Camera poses for photos that have none: matches, mapping, and the checks that keep wrong poses out.

In the order of the work:

- Photos in: `command` and `options`; `photos_to_capture` is the whole way, from `intake` (or `video`) to
  `posed_capture`. `exif`, `camera_groups`, `sensor_frame` and `look` are what is known of a photo beforehand.
- Matches: `features` (`features_aliked`, `features_sift`), `pairs`, `two_view`, `over_photos`.
- Mapping: `place` goes from photos to poses or a refusal, by `search` over many runs of `mapping`; `placement` and
  `sparse_model` are what that gives, `train_points` the points without the held-out photos'.
- Checks: `agreement`, `parallax`, `focal_check`, `alignment`; their words: `verdicts` and `refusal`.
"""

"""Views between the photos: generators, confidence, the diffusion pipeline, and the folder of generated views.

- Generators: `view_generator` is the protocol and the table; `warp` has no network, `diffusion_views` has one, with
  `fixed_frames`, `fit_size` and `restart`. All rest on `reprojection`.
- How good views are, and what they are used for: `confidence`, `view_weights`, `hole_points`, `trials`.
- The diffusion pipeline: `pipeline_fvgen` is one call, `pipeline_networks` its networks, `call_checks` what it refuses,
  `load_pipeline` how it is loaded; `sampler_settings`, `tiny_codec`, `viewcrafter_checkpoint`, `conversion`.
- The folder of views: `views_folder` writes it, `views_reading` reads it, `stored_photo` is a photo in it.
"""

"""What the detector does to the light: one file per effect, the camera, its presets."""

"""Where images come from: folders, the demo, TFDS, LSUN."""

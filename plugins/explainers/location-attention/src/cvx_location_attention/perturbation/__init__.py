"""Methods that change the image: occlusion and RISE."""

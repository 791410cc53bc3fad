"""Zero-shot classification by image-text models, as a task and a model source."""

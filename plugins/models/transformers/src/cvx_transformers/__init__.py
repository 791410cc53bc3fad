"""Vision classifiers of Hugging Face transformers."""

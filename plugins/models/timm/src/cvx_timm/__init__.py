"""The models of timm."""

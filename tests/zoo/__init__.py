"""The coverage run: every classification network, unconfigured, beside other libraries."""

"""Why a network of the coverage run is not covered, where the reason lies in the network."""

EXPLAINED: dict[str, str] = {}

"""Why a network of the coverage run is not covered, where the reason lies in the network."""

EXPLAINED: dict[str, str] = {
    "timm:efficientvit_b0": (
        "Its linear attention casts queries, keys and values to float32 whatever the network's "
        "dtype is, so that in float64 too the network itself rounds to 6e-8."
    ),
}

from .baselines import (
    BASELINES as BASELINES,
    check_baseline as check_baseline,
    make_baseline as make_baseline,
)
from .components import components as components
from .image_files import (
    MAX_PIXELS as MAX_PIXELS,
    SUFFIXES as SUFFIXES,
    SourceImage as SourceImage,
    read_image as read_image,
    read_mask_image as read_mask_image,
)
from .prepared_image import PreparedImage as PreparedImage, Preparer as Preparer
from .regions import (
    Box as Box,
    MaskRegion as MaskRegion,
    Polygon as Polygon,
    Region as Region,
    mask_region as mask_region,
    parse_region as parse_region,
)
from .resampling import resample as resample

from .colormaps import INFERNO as INFERNO, VIK as VIK, color_table as color_table
from .explanation import Explanation as Explanation, to_npz as to_npz
from .heatmap import (
    BACKGROUNDS as BACKGROUNDS,
    OPACITY as OPACITY,
    Shown as Shown,
    blend as blend,
    colors as colors,
    opacity as opacity,
    overlay as overlay,
    show as show,
    under as under,
)
from .metadata import Metadata as Metadata
from .npz import SCHEMA as SCHEMA
from .output_folder import (
    Folder as Folder,
    encode_json as encode_json,
    rendered as rendered,
    settled as settled,
)
from .plots import Comparison as Comparison, compare as compare
from .renderer import Renderer as Renderer
from .results import Artifact as Artifact, Explanations as Explanations

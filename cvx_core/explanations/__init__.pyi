from .colormaps import INFERNO as INFERNO, VIK as VIK
from .explanation import Artifact as Artifact, Explanation as Explanation, to_npz as to_npz
from .heatmap import (
    Shown as Shown,
    colors as colors,
    opacity as opacity,
    overlay as overlay,
    show as show,
)
from .metadata import Metadata as Metadata
from .npz import SCHEMA as SCHEMA
from .output_folder import (
    Folder as Folder,
    encode_json as encode_json,
    rendered as rendered,
    settled as settled,
)
from .renderer import Renderer as Renderer

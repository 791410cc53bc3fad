from ._util.version import (
    __version__ as __version__,
)
from .api import (
    explain as explain,
)
from .api import (
    get_engine as get_engine,
)
from .api import (
    get_explainer as get_explainer,
)
from .api import (
    get_renderer as get_renderer,
)
from .api import (
    register as register,
)
from .engine import (
    Engine as Engine,
)
from .engine import (
    Listener as Listener,
)
from .engine import (
    Work as Work,
)
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    ConflictError as ConflictError,
)
from .errors import (
    CvxError as CvxError,
)
from .errors import (
    InputError as InputError,
)
from .errors import (
    LayerError as LayerError,
)
from .errors import (
    MethodError as MethodError,
)
from .errors import (
    ModelError as ModelError,
)
from .errors import (
    OptionError as OptionError,
)
from .errors import (
    OutputError as OutputError,
)
from .errors import (
    PluginError as PluginError,
)
from .errors import (
    TargetError as TargetError,
)
from .errors import (
    UnknownComponentError as UnknownComponentError,
)
from .errors import (
    UsageError as UsageError,
)
from .explainers.base import (
    Attribution as Attribution,
)
from .explainers.base import (
    Explainer as Explainer,
)
from .explainers.composition import (
    contrast as contrast,
)
from .explainers.composition import (
    layers as layers,
)
from .explainers.composition import (
    mean as mean,
)
from .explainers.composition import (
    product as product,
)
from .explainers.composition import (
    rectify as rectify,
)
from .explainers.composition import (
    smooth as smooth,
)
from .explainers.request import (
    ExplainRequest as ExplainRequest,
)
from .explanations.explanation import (
    Artifact as Artifact,
)
from .explanations.explanation import (
    Explanation as Explanation,
)
from .explanations.metadata import (
    Metadata as Metadata,
)
from .explanations.npz import (
    load_explanations as load_explanations,
)
from .explanations.renderer import (
    Renderer as Renderer,
)
from .images.preprocessing import (
    Preprocess as Preprocess,
)
from .images.regions import (
    Box as Box,
)
from .images.regions import (
    Frame as Frame,
)
from .images.regions import (
    MaskRegion as MaskRegion,
)
from .images.regions import (
    Polygon as Polygon,
)
from .images.regions import (
    Region as Region,
)
from .images.regions import (
    read_mask as read_mask,
)
from .models.sources import (
    ModelEntry as ModelEntry,
)
from .models.sources import (
    ModelSource as ModelSource,
)
from .models.sources import (
    list_models as list_models,
)
from .models.sources import (
    load_model as load_model,
)
from .models.vision_model import (
    VisionModel as VisionModel,
)
from .plugins.component import (
    Component as Component,
)
from .plugins.hookspecs import (
    hookimpl as hookimpl,
)
from .recording import (
    Recording as Recording,
)
from .recording import (
    Requirements as Requirements,
)
from .tasks.builtin import (
    find_mistakes as find_mistakes,
)
from .tasks.classes import (
    ClassEntry as ClassEntry,
)
from .tasks.classification.prediction import (
    ClassificationPrediction as ClassificationPrediction,
)
from .tasks.detection.candidates import (
    DetectionCandidates as DetectionCandidates,
)
from .tasks.detection.missed import (
    Lost as Lost,
)
from .tasks.detection.missed import (
    lost_stage as lost_stage,
)
from .tasks.detection.missed import (
    without_stage as without_stage,
)
from .tasks.detection.mistakes import (
    BoxMistake as BoxMistake,
)
from .tasks.detection.prediction import (
    DetectionPrediction as DetectionPrediction,
)
from .tasks.detection.targets import (
    BoxScore as BoxScore,
)
from .tasks.detection.targets import (
    Missed as Missed,
)
from .tasks.ground_truth import (
    GroundTruthBox as GroundTruthBox,
)
from .tasks.ground_truth import (
    GroundTruthBoxes as GroundTruthBoxes,
)
from .tasks.ground_truth import (
    GroundTruthMask as GroundTruthMask,
)
from .tasks.mistakes import (
    Judgement as Judgement,
)
from .tasks.mistakes import (
    Mistake as Mistake,
)
from .tasks.prediction import (
    Prediction as Prediction,
)
from .tasks.records import (
    Detection as Detection,
)
from .tasks.records import (
    TargetRecord as TargetRecord,
)
from .tasks.segmentation.mistakes import (
    PixelMistake as PixelMistake,
)
from .tasks.segmentation.mistakes import (
    segmentation_mistakes as segmentation_mistakes,
)
from .tasks.segmentation.prediction import (
    SegmentationPrediction as SegmentationPrediction,
)
from .tasks.segmentation.targets import (
    ComponentScore as ComponentScore,
)
from .tasks.segmentation.targets import (
    PixelScore as PixelScore,
)
from .tasks.segmentation.targets import (
    RegionScore as RegionScore,
)
from .tasks.target_syntax import (
    parse_target as parse_target,
)
from .tasks.targets import (
    ClassScore as ClassScore,
)
from .tasks.targets import (
    Contrast as Contrast,
)
from .tasks.targets import (
    Distribution as Distribution,
)
from .tasks.targets import (
    Error as Error,
)
from .tasks.targets import (
    Margin as Margin,
)
from .tasks.targets import (
    Predicted as Predicted,
)
from .tasks.targets import (
    Target as Target,
)
from .truth_files import (
    read_ground_truth as read_ground_truth,
)

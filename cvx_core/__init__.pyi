import cvx_diagnose as _diagnose
import cvx_score as _score
import cvx_why as _why

from ._util.files import (
    is_file as is_file,
    read_bytes as read_bytes,
    read_text as read_text,
    write_atomic as write_atomic,
)
from ._util.text import printable as printable
from ._util.version import __version__ as __version__
from .api import (
    explain as explain,
    get_explainer as get_explainer,
    get_renderer as get_renderer,
    iter_explain as iter_explain,
    register as register,
)
from .errors import (
    CheckpointError as CheckpointError,
    ConflictError as ConflictError,
    CvxError as CvxError,
    CvxWarning as CvxWarning,
    InputError as InputError,
    LayerError as LayerError,
    MethodError as MethodError,
    ModelError as ModelError,
    OptionError as OptionError,
    OutputError as OutputError,
    PluginError as PluginError,
    TargetError as TargetError,
    UnknownComponentError as UnknownComponentError,
    UsageError as UsageError,
    did_you_mean as did_you_mean,
    install_command as install_command,
)
from .explainers.base import Explainer as Explainer, rectify as rectify
from .explainers.check import Check as Check
from .explainers.composition import (
    contrast as contrast,
    layers as layers,
    mean as mean,
    product as product,
    smooth as smooth,
)
from .explainers.method import Attribution as Attribution
from .explainers.request import ExplainRequest as ExplainRequest
from .explanations.explanation import Explanation as Explanation
from .explanations.metadata import Metadata as Metadata
from .explanations.plots import Comparison as Comparison, compare as compare
from .explanations.renderer import Renderer as Renderer
from .explanations.results import (
    Artifact as Artifact,
    Explanations as Explanations,
    load_explanations as load_explanations,
)
from .images.preprocessing import Preprocess as Preprocess
from .images.regions import (
    Box as Box,
    Frame as Frame,
    MaskRegion as MaskRegion,
    Polygon as Polygon,
    Region as Region,
    read_mask as read_mask,
)
from .models.sources import (
    ModelEntry as ModelEntry,
    ModelSource as ModelSource,
    list_models as list_models,
    load_model as load_model,
    wrap as wrap,
)
from .models.vision_model import VisionModel as VisionModel
from .plugins.component import Component as Component, Kind as Kind
from .plugins.discovery import get_component as get_component
from .plugins.hookspecs import hookimpl as hookimpl
from .recording import Recording as Recording, Requirements as Requirements
from .tasks.base import Judgement as Judgement, Mistake as Mistake
from .tasks.catalogue import (
    MistakeTarget as MistakeTarget,
    find_mistakes as find_mistakes,
    get_task as get_task,
    parse_target as parse_target,
    read_ground_truth as read_ground_truth,
)
from .tasks.classes import (
    ClassEntry as ClassEntry,
    Detection as Detection,
    TargetRecord as TargetRecord,
)
from .tasks.classification.prediction import ClassificationPrediction as ClassificationPrediction
from .tasks.detection.candidates import DetectionCandidates as DetectionCandidates
from .tasks.detection.missed_objects import (
    Lost as Lost,
    lost_stage as lost_stage,
    without_stage as without_stage,
)
from .tasks.detection.mistakes import BoxMistake as BoxMistake
from .tasks.detection.prediction import DetectionPrediction as DetectionPrediction
from .tasks.detection.targets import BoxScore as BoxScore, Missed as Missed
from .tasks.ground_truth import (
    GroundTruthBox as GroundTruthBox,
    GroundTruthBoxes as GroundTruthBoxes,
    GroundTruthMask as GroundTruthMask,
)
from .tasks.prediction import Prediction as Prediction
from .tasks.segmentation.mistakes import (
    PixelMistake as PixelMistake,
    segmentation_mistakes as segmentation_mistakes,
)
from .tasks.segmentation.prediction import SegmentationPrediction as SegmentationPrediction
from .tasks.segmentation.targets import (
    ComponentScore as ComponentScore,
    PixelScore as PixelScore,
    RegionScore as RegionScore,
)
from .tasks.targets import (
    ClassScore as ClassScore,
    Contrast as Contrast,
    Distribution as Distribution,
    Error as Error,
    Margin as Margin,
    Predicted as Predicted,
    Target as Target,
)

# Brought by plugins, where they are installed.
diagnose = _diagnose.diagnose
score = _score.score
why = _why.why

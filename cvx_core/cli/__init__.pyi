from . import kit as kit
from .entry import main as main
from .explain.plan import (
    ImageRequest as ImageRequest,
    build_explainers as build_explainers,
    image_requests as image_requests,
    read_label as read_label,
)
from .explain.run import RunOptions as RunOptions, explain_to_folder as explain_to_folder
from .program import COMMANDS as COMMANDS

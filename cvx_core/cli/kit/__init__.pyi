from .completion import complete_targets as complete_targets
from .console import (
    Settings as Settings,
    installed_plugins as installed_plugins,
    only_data as only_data,
    put as put,
    say as say,
)
from .model_loader import loaded_model as loaded_model
from .options import (
    device_option as device_option,
    explainers_option as explainers_option,
    force_option as force_option,
    images_argument as images_argument,
    json_option as json_option,
    labels_option as labels_option,
    loading_options as loading_options,
    memory_option as memory_option,
    model_option as model_option,
    output_option as output_option,
    quiet_option as quiet_option,
    renderers_option as renderers_option,
    seed_option as seed_option,
    trust_option as trust_option,
    verbose_option as verbose_option,
    weights_option as weights_option,
)
from .progress import Console as Console, Reporter as Reporter, pace as pace
from .signals import (
    INTERRUPTED as INTERRUPTED,
    REQUIREMENT_FAILED as REQUIREMENT_FAILED,
    SOME_FAILED as SOME_FAILED,
)

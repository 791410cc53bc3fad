from .console import Settings as Settings, only_data as only_data, put as put, say as say
from .model_loader import loaded_model as loaded_model
from .options import loading_options as loading_options, model_option as model_option
from .plugin_warnings import installed_plugins as installed_plugins
from .progress import Console as Console, Reporter as Reporter, pace as pace
from .signals import INTERRUPTED as INTERRUPTED, SOME_FAILED as SOME_FAILED

from .component import Component as Component, Kind as Kind, component_name as component_name
from .component_registry import Offer as Offer, Registry as Registry
from .defaults import EXPLAINERS as EXPLAINERS
from .discovery import registry as registry
from .hookspecs import GROUP as GROUP, hookimpl as hookimpl
from .isolation import (
    REPORT as REPORT,
    describe_error as describe_error,
    error_boundary as error_boundary,
    message as message,
)
from .parameters import (
    build as build,
    check_choice as check_choice,
    parameters_of as parameters_of,
    parse_parameters as parse_parameters,
)

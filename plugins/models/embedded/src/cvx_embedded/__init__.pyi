from .photographs import Photograph as Photograph, photographs as photographs

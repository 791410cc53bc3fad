from .coco import coco_images as coco_images
from .reader import read_annotations as read_annotations

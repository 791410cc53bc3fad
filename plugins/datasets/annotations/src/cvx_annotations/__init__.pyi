from .coco import coco_images as coco_images
from .reader import read_ground_truth as read_ground_truth

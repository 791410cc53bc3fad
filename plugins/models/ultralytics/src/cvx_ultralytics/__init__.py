"""The detectors, instance segmenters, segmenters and classifiers of ultralytics."""

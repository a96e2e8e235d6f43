"""DETECTIONS, THINGS -> FIGURES: what was found of the things in pictures, and COCO's average precision of it."""

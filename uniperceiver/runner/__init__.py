"""EXPORTED FOLDER -> ANSWERS, without torch: numpy, onnxruntime, tokenizers and Pillow (for clips and sounds av)."""

from uniperceiver.runner.runner import Runner

__all__ = ["Runner"]

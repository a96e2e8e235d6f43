"""Ask a trained model about a picture: `uniperceiver demo` first, then this."""

import sys

from uniperceiver import load

model = load(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
picture = sys.argv[2] if len(sys.argv) > 2 else "photo.png"  # also bytes, PIL images, arrays, tensors, or lists
print(model.classify(picture, labels=["a red circle", "a blue square"]))  # probabilities, a row per picture
print(model.caption(picture))
print(model.rank(picture, ["a large red circle", "a small blue square"]))  # cosine similarities

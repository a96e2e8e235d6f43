"""The README.md of an exported folder."""

from uniperceiver.records.exported import Exported

_CARD = """# An exported uniperceiver model

{trained}

```python
from uniperceiver.runner import Runner

model = Runner("path/of/this/folder")  # numpy, onnxruntime, tokenizers, pillow; no torch
model.classify("picture.jpg", labels=["a cat", "a dog"])
```

| graph | MB | measured | SHA-256 |
|---|---|---|---|
{graphs}

Differences are the greatest of any value of a unit vector between a graph and the model, over batches of 1, 3 and 32
and several lengths of text; an export beyond 1e-4 is refused. A graph of 8 bits has its mean cosine to the one in
float32, over 600 made scenes and their captions; measure it on your own data before you use it.

| task | reads | graphs |
|---|---|---|
{tasks}

`config.json` says `clip`, since `vision_model.onnx` and `text_model.onnx` have the inputs and outputs of CLIP's two
towers (`pixel_values`; `input_ids`, `attention_mask`; `image_embeds`, `text_embeds`): transformers.js and others load
them as such. `tokenizer.json` and `preprocessor_config.json` are for these tools. `encoder.json`, `uniperceiver.json`
and `labels.safetensors` are for `uniperceiver.runner`.
"""


def export_card(exported: Exported, trained: str) -> str:
    """The card's Markdown text: sizes, differences and sums of all graphs, and which task asks which."""
    graphs = [
        f"| {file} | {graph.bytes / 1e6:.2f} | "
        + (f"{graph.difference:.1e}" if graph.cosine is None else f"mean cosine {graph.cosine:.5f}")
        + f" | {graph.sha256} |"
        for file, graph in exported.graphs.items()
    ]
    tasks = []
    for name, task in exported.tasks.items():
        files = dict.fromkeys(
            file
            for file in (
                task.media_graph,
                task.input_graph,
                task.text_graph,
                task.things_graph,
                *(task.caption_graphs or ()),
            )
            if file is not None
        )
        reasons = dict.fromkeys(f"not exported: {reason}" for reason in task.refused.values())
        tasks.append(f"| {name} | {' + '.join(task.inputs)} | {', '.join([*files, *reasons])} |")
    trained = (
        f"Trained: {trained or 'not at all'}. Written by uniperceiver {exported.library}, ONNX opset {exported.opset}."
    )
    return _CARD.format(trained=trained, graphs="\n".join(graphs), tasks="\n".join(tasks))

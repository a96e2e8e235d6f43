"""What other tools read beside the graphs: a plain tokenizer.json, and how pictures are prepared."""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, processors

from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.model.architecture import Architecture
from uniperceiver.tokenizers.bpe import ANSWER, END, TextEncoder

_BICUBIC = 3  # Pillow's number of it
_SPACE = r"[\s\x1c-\x1f]+"  # what is white space in Python: separators of files and records, too


def plain_tokenizer(codec: TextEncoder) -> str | None:
    """A tokenizer.json as the library `tokenizers` reads it, which closes every text with the end token.

    It differs from the model's own where its lower case does (a Greek sigma at the end of a word), in texts that spell
    out a special token, and for CLIP's vocabulary in what the package ftfy would mend.

    Returns:
        None where its special tokens cannot have the model's ids.
    """
    library = Tokenizer.from_str(codec.library.to_str())
    steps: list[normalizers.Normalizer] = []
    if codec.cleaning in ("lower", "clip"):
        steps.append(normalizers.Lowercase())
    if codec.cleaning != "none":
        steps += [normalizers.Replace(Regex(_SPACE), " "), normalizers.Strip()]
    if library.normalizer is not None:
        steps.append(library.normalizer)
    if steps:
        library.normalizer = normalizers.Sequence(steps)
    for name, _ in sorted(codec.specials.items(), key=lambda pair: pair[1]):
        library.add_special_tokens([AddedToken(name, special=True, normalized=False)])
    if any(library.token_to_id(name) != codec.specials[name] for name in (END, ANSWER)):
        return None
    library.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, codec.end)])
    text: str = library.to_str(pretty=False)
    return text


def tokenizer_config(codec: TextEncoder, length: int) -> dict[str, Any]:
    """tokenizer_config.json: padding is id 0, behind the text."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": length,
        "eos_token": END,
        "pad_token": codec.library.id_to_token(0),
        "padding_side": "right",
        "add_prefix_space": True,
        "clean_up_tokenization_spaces": False,
    }


def preprocessor_config(view: Preprocess) -> dict[str, Any]:
    """preprocessor_config.json, in the words of CLIP's image processor."""
    square = {"height": view.size, "width": view.size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": view.size} if view.fit == "crop" else square,
        "resample": _BICUBIC,
        "do_center_crop": view.fit == "crop",
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(view.image_mean),
        "image_std": list(view.image_std),
    }


def clip_config(arch: Architecture, view: Preprocess, facts: Mapping[str, Any]) -> dict[str, Any]:
    """config.json: the two graphs have the inputs and outputs of CLIP's two towers, so tools load them as such."""
    return {
        "model_type": "clip",
        "projection_dim": arch.width,
        "text_config": {
            "model_type": "clip_text_model",
            "hidden_size": arch.width,
            "vocab_size": arch.vocabulary,
            "max_position_embeddings": arch.max_text,
            "eos_token_id": arch.end,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": arch.width,
            "image_size": view.size,
            "patch_size": arch.patch,
        },
        "uniperceiver": dict(facts),
    }

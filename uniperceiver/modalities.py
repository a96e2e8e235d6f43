"""What a sample may consist of: one row per modality, from which routing, files, records and tokens follow.

A new modality is a row here, a reader of its values in `data/media/preprocess.py`, and a tokenizer in
`tokenizers/join.py`, unless one of those that are there will do.
"""

from dataclasses import dataclass

from uniperceiver.errors import BrokenSample


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One modality, as all stages know it."""

    kind: str
    """What its tokens are for routing: image and video are both "visual"."""
    noun: str
    """What people call one of it, in messages."""
    tokenizer: str
    """Which tokenizer of a model embeds it: a key of `tokenizers.join.TOKENIZERS`."""
    field: str | None = None
    """Which field of a Sample holds it; None: `others`, under the modality's name."""
    suffixes: tuple[str, ...] = ()
    """Of its files, in lower case, the commonest first."""
    most_bytes: int | None = None
    """Of a file; None: no limit."""
    track_of: str | None = None
    """The modality whose encoded files may hold it, too, as clips hold sounds."""
    temperatures: tuple[str, ...] = ()
    """Families of temperatures that models with its tokenizer have beside `tasks.task.TEMPERATURES`."""


TEXT = "text"  # of which candidates are made, if a task says nothing else; the last part of a sequence that has it

MODALITIES: dict[str, Modality] = {
    "image": Modality(
        kind="visual",
        field="image",
        noun="image",
        tokenizer="patches",
        suffixes=(
            ".jpg",
            ".jpeg",
            ".png",
            ".webp",
            ".bmp",
            ".gif",
            ".tif",
            ".tiff",
            ".avif",
            ".heic",
            ".heif",
            ".jfif",
            ".jpe",
        ),
    ),
    "video": Modality(
        kind="visual",
        field="clip",
        noun="clip",
        tokenizer="patches",
        suffixes=(".mp4", ".avi", ".webm", ".mov", ".mkv", ".m4v", ".3gp", ".3g2"),
    ),
    "audio": Modality(
        kind="audio",
        noun="sound",
        tokenizer="sound",
        suffixes=(
            ".wav",
            ".flac",
            ".ogg",
            ".opus",
            ".mp3",
            ".m4a",
            ".aac",
            ".aiff",
            ".aif",
            ".oga",
            ".mka",
            ".wave",
            ".w64",
        ),
        most_bytes=512 * 2**20,
        track_of="video",
        temperatures=("audio_cls", "audio_retrieve", "video_audio_retrieve"),
    ),
    TEXT: Modality(kind="text", field="text", noun="text", tokenizer="words"),
}


def kind_of(modality: str) -> str:
    """What the tokens of a modality are for routing."""
    return MODALITIES[modality].kind


def modality_of_file(suffix: str) -> str | None:
    """The modality of files with that suffix; None: no modality has it."""
    return next((name for name, row in MODALITIES.items() if suffix.lower() in row.suffixes), None)


def refuse_heavy(modality: str | None, size: int, sample: str) -> None:
    """Refuse a file of more bytes than those of a modality may have.

    Raises:
        BrokenSample: it has more.
    """
    most = None if modality is None else MODALITIES[modality].most_bytes
    if most is not None and size > most:
        raise BrokenSample(sample, f"{size / 2**20:,.0f} MiB: more than {most // 2**20}; cut it into parts")

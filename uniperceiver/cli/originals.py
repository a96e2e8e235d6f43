"""The command for checkpoints of the original release."""

import argparse
from pathlib import Path

from uniperceiver.cli.output import print_json


def convert(options: argparse.Namespace) -> int | None:
    """Turn a checkpoint of the original release into a saved model."""
    from uniperceiver.model.official.variant import Choices
    from uniperceiver.serving import convert as converting
    from uniperceiver.serving.info import as_text

    choices = Choices(
        heads=options.heads,
        layers=options.layers,
        positions=options.positions,
        reference_grid=options.reference_grid,
        ffn_gates=options.ffn_gates,
        type_vector=options.type_vector,
        layout=options.layout,
    )
    done = converting.convert_checkpoint(
        Path(options.checkpoint),
        Path(options.out),
        choices,
        vocabulary=Path(options.vocabulary) if options.vocabulary else converting.VOCABULARY,
        report=Path(options.report) if options.report else None,
    )
    facts = converting.facts_of(done)
    if options.json:
        print_json({"model": options.out, **facts})
    else:
        print("\n".join([*as_text(facts), f"model: {options.out}"]))
    return None


def add_convert(one: argparse.ArgumentParser) -> None:
    """Its options; defaults are right for every published model."""
    one.add_argument("checkpoint", metavar="OFFICIAL.pth", help="a .pth, .pt or .safetensors file")
    one.add_argument("--out", required=True, metavar="DIR", help="folder of the saved model")
    one.add_argument("--report", metavar="FILE", help="write what became of every tensor, as a table")
    one.add_argument(
        "--vocabulary", metavar="FILE", help="CLIP's merges, or a tokenizer.json (default: CLIP's, cut to its words)"
    )
    one.add_argument("--heads", type=int, metavar="N", help="attention heads (default: width / 64)")
    one.add_argument(
        "--layers", type=int, metavar="N", help="how many there must be (default: those of published models)"
    )
    one.add_argument(
        "--positions",
        choices=["auto", "sincos", "table"],
        default="auto",
        help="computed, or the stored table, interpolated (default: computed where the table is just that)",
    )
    one.add_argument(
        "--reference-grid",
        type=float,
        metavar="N",
        help="coordinates a picture spans (default: as the stored table, or else 160 / 16 = 10)",
    )
    one.add_argument(
        "--ffn-gates",
        choices=["shared", "own"],
        default="shared",
        help="whether the second FFN linear takes the decision of the first (default: %(default)s)",
    )
    one.add_argument(
        "--type-vector",
        choices=["auto", "folded", "add"],
        default="auto",
        help="whether the visual type vector is in the patch bias (default: it is, but in files of the older version)",
    )
    one.add_argument(
        "--layout", choices=["release", "paper"], default="release", help="of the attribute bits (default: %(default)s)"
    )
    one.add_argument("--json", action="store_true", help="print as JSON")

"""Renews tests/golden/captions.json: `python -m tests.golden.make_captions` (needs pycocoevalcap 1.2 and Java).

Expected values come from the reference alone: its Java tokenizer, then its Bleu, Cider and Rouge.
"""

import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("captions.json")
IMAGES, REFERENCES = 200, 5

_SLOTS = {
    "who": "A man|The woman|Two kids|A black-and-white dog|a dog's owner|An old couple|3 boys|The man's friend",
    "does": "is riding|isn't holding|rides|looks at|plays with|can't reach|sits near|jumps over|cannot see",
    "what": 'a red bike|an "open" sign|the ball (a big one)|a t-shirt|two 10-foot poles|a sofa & a chair|'
    "his skateboard",
    "where": "on the street|in a park|at 5:30 p.m.|in front of St. Mary's|by the water|under a tree",
    "end": ".| .|!|...|| and smiles.|, while others don't care;| -- outdoors .",
}

SENTENCES = (
    "A man's dog, isn't it? Don't! I cannot; gonna wanna.",
    'A woman (in red) holds a 3-foot long "banana" ...',
    "Mr. Smith's U.S. flag at 5:30 p.m. costs $5.99, 10% off.",
    "black-and-white photo of t-shirt wearing kid; 'quoted' text",
    "it's dogs' I'm we'll he'd you're o'clock 'em '90s",
    "naïve café — en–dash “curly” ‘single’ don’t it’s",
    "a dog.The cat",
    "hello...world a.b etc. and vs. St. Louis street st.",
    "semi;colon a,b 1,000 1,2 12:30 a:b 1:2:3 *star* a*b a+b a=b <tag> [x] {y}",
    "text!!! what?? !?",
    "snake_case under_score a/b and/or 24/7 1/2 3/4 w/ c/o",
    "U.S.A. Ph.D. man No. 5 on it a.m. p.m. 5am 5 a.m.",
    "日本語 テスト emoji 😀 dog😀cat",
    "AT&T R&B Q&A a&b rock & roll",
    "ain't can't won't shan't gotta lemme gimme 'tis 'twas",
    "-dash word- --double a--b a---b a - b",
    "twenty-one x-ray 2-year-old 10-12 1990s '80s 7-Eleven",
    ".5 0.5 5. 5, -5 +5 1.2.3 1st 2nd",
    "a ring, said I.",
    "  leading,   spaces\tand tabs .",
    "",
    "...",
)


def caption(draw: np.random.Generator, scene: list[int]) -> str:
    """A sentence about a scene (one index per slot), with some slots told differently."""
    options = [values.split("|") for values in _SLOTS.values()]
    chosen = [int(draw.integers(len(of))) if draw.random() < 0.4 else at for of, at in zip(options, scene, strict=True)]
    *words, end = [of[at] for of, at in zip(options, chosen, strict=True)]
    return " ".join(words[: int(draw.integers(2, 5))]) + end


def main() -> None:
    """Write captions, references, tokens and scores."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def tokenized(texts: list[list[str]]) -> dict[int, list[str]]:
        return PTBTokenizer().tokenize({at: [{"caption": text} for text in each] for at, each in enumerate(texts)})

    draw = np.random.default_rng(0)
    candidates, references = [], []
    for _ in range(IMAGES):
        scene = [int(draw.integers(len(values.split("|")))) for values in _SLOTS.values()]
        candidates.append(caption(draw, scene))
        references.append([caption(draw, scene) for _ in range(REFERENCES)])
    truth, answers = tokenized(references), tokenized([[text] for text in candidates])
    scores = {
        "bleu4": Bleu(4).compute_score(truth, answers, verbose=0)[0][3],
        "cider_d": float(Cider().compute_score(truth, answers)[0]),
        "rouge_l": float(Rouge().compute_score(truth, answers)[0]),
    }
    golden = {
        "source": "pycocoevalcap 1.2: PTBTokenizer (Stanford CoreNLP 3.4.1, Java), Bleu(4), Cider, Rouge",
        "renew": "python -m tests.golden.make_captions",
        "scores": scores,
        "words": [[text, tokenized([[text], ["end"]])[0][0].split()] for text in SENTENCES],
        "images": [[answer, *texts] for answer, texts in zip(candidates, references, strict=True)],
    }
    text = json.dumps(golden, ensure_ascii=False).replace("], [", "],\n[")  # a line per item, for readable diffs
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

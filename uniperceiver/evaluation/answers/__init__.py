"""How each kind of answer is evaluated, one file each; the keys are those of `tasks.answers.ANSWERS`."""

from uniperceiver.evaluation.answers.captions import CaptionsEvaluation
from uniperceiver.evaluation.answers.kind import Evaluation
from uniperceiver.evaluation.answers.labels import LabelsEvaluation
from uniperceiver.evaluation.answers.masked_words import MaskedWordsEvaluation
from uniperceiver.evaluation.answers.regions import RegionsEvaluation
from uniperceiver.evaluation.answers.retrieval import RetrievalEvaluation
from uniperceiver.evaluation.answers.tags import TagsEvaluation

EVALUATIONS: dict[str, Evaluation] = {
    "labels": LabelsEvaluation(),
    "tags": TagsEvaluation(),
    "regions": RegionsEvaluation(),
    "masked_words": MaskedWordsEvaluation(),
    "captions": CaptionsEvaluation(),
    "retrieval": RetrievalEvaluation(),
}

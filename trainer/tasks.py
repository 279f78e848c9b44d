"""The seven tasks that RzenEmbed is fine-tuned on."""

from enum import StrEnum


class Task(StrEnum):
    """What a pair teaches; each task has a temperature of its own.

    Source: arXiv 2510.27350, section 3.3. The text pairs of stage 1 belong to none of the seven:
    who names a dataset says which task's temperature it shares.
    """

    IMAGE_CLASSIFICATION = "image_classification"
    IMAGE_QA = "image_qa"
    IMAGE_RETRIEVAL = "image_retrieval"
    IMAGE_GROUNDING = "image_grounding"
    DOCUMENT_RETRIEVAL = "document_retrieval"
    VIDEO_RETRIEVAL = "video_retrieval"
    VIDEO_QA = "video_qa"

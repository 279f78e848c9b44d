"""What files say about themselves: dates, places, captions, keywords, people, cameras.

Readers of media pass what they have opened already. Of what a file says, nonsense is left out: a
missing date is better than a wrong one.
"""

from embedder.media.metadata.documents import (
    MAX_HEAD_CHARACTERS,
    document_details,
    front_matter_details,
    html_details,
    pdf_details,
)
from embedder.media.metadata.names import date_in_name
from embedder.media.metadata.pictures import picture_details, raw_details
from embedder.media.metadata.sidecars import sidecar_details, sidecars_in
from embedder.media.metadata.videos import audio_details, video_details

__all__ = [
    "MAX_HEAD_CHARACTERS",
    "audio_details",
    "date_in_name",
    "document_details",
    "front_matter_details",
    "html_details",
    "pdf_details",
    "picture_details",
    "raw_details",
    "sidecar_details",
    "sidecars_in",
    "video_details",
]

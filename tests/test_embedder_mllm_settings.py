import json
from pathlib import Path

import pytest

from embedder import EmbedderUnavailable, Modality
from embedder.mllm.settings import DOCUMENT_INSTRUCTIONS, SETTINGS_FILE, Settings


def written(folder: Path, values: object) -> Path:
    (folder / SETTINGS_FILE).write_text(json.dumps(values))
    return folder


def test_defaults_are_those_of_the_released_script(tmp_path: Path):
    settings = Settings.of(tmp_path)
    assert settings == Settings()
    assert settings.positions == "sequential"
    assert settings.image_tokens == (256, 1280)
    assert settings.frame_tokens == (160, 180)
    assert (settings.frames, settings.max_tokens) == (8, 2000)
    assert settings.query_instructions[Modality.TEXT, Modality.PAGE] == (
        "Find a document image that matches the given query: "
    )
    assert settings.document_instructions[Modality.IMAGE] == "Represent the given image."


def test_what_is_saved_is_read_again(tmp_path: Path):
    settings = Settings(
        system="Describe.",
        text_prompt="\nIn one word.",
        positions="mrope",
        pooling="mean",
        image_tokens=(4, 64),
        frames=3,
        page_text=True,
    ).instructed({Modality.IMAGE: "Look."})
    settings.save(tmp_path)
    assert Settings.of(tmp_path) == settings
    assert Settings.of(tmp_path).stated() == settings.stated()


def test_unnamed_instructions_keep_their_default(tmp_path: Path):
    written(tmp_path, {"query_instructions": {"text image": "Find: "}})
    settings = Settings.of(tmp_path)
    assert settings.query_instructions[Modality.TEXT, Modality.IMAGE] == "Find: "
    assert settings.query_instructions[Modality.TEXT, Modality.VIDEO].startswith("Find the video")
    assert settings.document_instructions == DOCUMENT_INSTRUCTIONS


def test_all_problems_are_listed(tmp_path: Path):
    written(
        tmp_path,
        {
            "format": 2,
            "colour": "red",
            "system": 1,
            "positions": "diagonal",
            "image_tokens": [9, 4],
            "frames": 0,
            "max_tokens": True,
            "page_text": "yes",
            "query_instructions": {"text": "x", "text smell": "y"},
            "document_instructions": {"image": 3},
        },
    )
    with pytest.raises(EmbedderUnavailable) as caught:
        Settings.of(tmp_path)
    for word in (
        *("format", "colour", "system", "sequential, mrope", "image_tokens", "frames"),
        *("max_tokens", "page_text", "'text'", "'text smell'", "document_instructions"),
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        *(("document_instructions", key) for key in (" image", "image ", "Image", "")),
        *(("query_instructions", key) for key in ("text  image", " text image", "textimage")),
    ],
)
def test_unknown_modality_is_named(tmp_path: Path, table: str, key: str):
    written(tmp_path, {table: {key: "Find: "}})
    with pytest.raises(EmbedderUnavailable, match=f"{table} has the key {key!r}, which is not"):
        Settings.of(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '"x"'])
def test_file_without_object_is_refused(tmp_path: Path, content: str):
    (tmp_path / SETTINGS_FILE).write_text(content)
    with pytest.raises(EmbedderUnavailable, match=SETTINGS_FILE):
        Settings.of(tmp_path)

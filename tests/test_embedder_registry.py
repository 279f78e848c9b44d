"""Specifications of models, and what backends state about themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

from embedder import EmbedderUnavailable, open_embedder
from embedder.interface import ModelSpec
from embedder.registry import BACKENDS


@pytest.mark.parametrize(
    ("text", "family", "argument", "short"),
    [
        ("mini", "mini", "", "mini"),
        ("rzen:", "rzen", "", "rzen"),
        ("rzen:/srv/models/v1/", "rzen", "/srv/models/v1/", "rzen:v1"),
        ("rzen:C:\\models\\v1", "rzen", "C:\\models\\v1", "rzen:v1"),
        ("rzen:team/RzenEmbed", "rzen", "team/RzenEmbed", "rzen:RzenEmbed"),
        ("rzen:/", "rzen", "/", "rzen:/"),
        ("", "", "", ""),
    ],
)
def test_spec_parses_and_prints(text, family, argument, short):
    spec = ModelSpec.parse(text)
    assert (spec.family, spec.argument, spec.short) == (family, argument, short)
    assert str(spec) == text.removesuffix(":")
    assert ModelSpec.parse(str(spec)) == spec


def test_every_backend_describes_itself():
    assert list(BACKENDS) == [backend.family for backend in BACKENDS.values()]
    for backend in BACKENDS.values():
        assert backend.summary
        assert ":" not in backend.family
        assert backend.forms[0] == backend.family


def test_backend_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    missing = BACKENDS["rzen"].missing()
    assert missing is not None
    assert "torch and transformers, which are not installed" in missing
    assert "pip install 'rzen-search[rzen]'" in missing
    assert BACKENDS["mini"].missing() is None


@pytest.mark.parametrize("spec", ["nonsense", "", "mini:v2", "toy:x"])
def test_unknown_model_is_refused(spec):
    with pytest.raises(EmbedderUnavailable, match=f"unknown model '{spec}'"):
        open_embedder(spec)


def test_unknown_model_error_lists_what_there_is():
    with pytest.raises(
        EmbedderUnavailable,
        match=r"mini, siglip2, siglip2:base16, .*, rzen, .*, qwen3-vl:FOLDER-OR-HUB-ID$",
    ):
        open_embedder("nonsense")


@pytest.mark.parametrize("spec", ["mini", "toy"])
def test_instructions_are_refused_by_mini(spec):
    with pytest.raises(EmbedderUnavailable, match="takes no instructions"):
        open_embedder(spec, instructions={"text": "x"})  # type: ignore[dict-item]


def test_import_loads_no_heavy_library():
    heavy = "torch transformers onnxruntime tokenizers cv2 av pymupdf pillow_heif gradio"
    code = (
        "import sys, embedder.registry, embedder.media\n"
        f"loaded = set('{heavy}'.split()) & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numpy_uses_one_thread():
    code = (
        "import indexer.ingest, os, sys\n"
        "assert 'numpy' not in sys.modules or os.environ['OPENBLAS_NUM_THREADS'] == '1'\n"
        "import embedder, numpy, time\n"
        "square = numpy.ones((400, 400), dtype=numpy.float32)\n"
        "for _ in range(9):\n"
        "    square @ square\n"
        "print(len(list(__import__('pathlib').Path('/proc/self/task').iterdir())))\n"
    )
    if not Path("/proc/self/task").is_dir():
        return
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "1"

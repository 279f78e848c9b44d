import numpy as np
import pytest
from PIL import Image

from embedder.mllm.families import RZEN
from embedder.mllm.pictures import Patched, Picture, Plan, patched, planned

IMAGE = (256, 1280)
SIZES = [(640, 480), (321, 777), (64, 48), (1500, 300), (980, 1260), (4000, 3000), (28, 28), (1, 1)]


def noise(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def plan_of(size: tuple[int, int], tokens: tuple[int, int] = IMAGE) -> Plan:
    return planned(size, tokens, RZEN.patch_side, RZEN.first_step)


def patches(picture: Image.Image) -> Patched:
    return patched(Picture((picture,), plan_of(picture.size)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tokens", [IMAGE, (160, 180), (4, 60)])
def test_picture_becomes_whole_tokens(size: tuple[int, int], tokens: tuple[int, int]):
    plan = plan_of(size, tokens)
    assert tokens[0] <= plan.tokens <= tokens[1]
    assert all(side % 28 == 0 for side in (*plan.first, *plan.final))
    assert plan.grid == (plan.final[1] // 14, plan.final[0] // 14)


def test_resizing_steps():
    plan = plan_of((1500, 1130))
    assert plan.first == (1512, 1120)
    assert plan.final == (1148, 840)


@pytest.mark.parametrize("size", [(640, 480), (1500, 300), (64, 48), (3000, 2000)])
def test_sizes_and_patches_match_transformers(size: tuple[int, int]):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 256 * 28 * 28, "longest_edge": 1280 * 28 * 28}
    )
    picture = noise(size)
    found = patches(picture)
    expected = processor(picture.resize(found.plan.first), return_tensors="np")
    assert expected["image_grid_thw"].tolist() == [[1, *found.plan.grid]]
    values = found.patches / 255.0
    mean, std = (
        np.array(one).reshape(3, 1, 1) for one in (processor.image_mean, processor.image_std)
    )
    both = np.repeat((values - mean) / std, 2, axis=2).reshape(len(found.patches), -1)
    assert np.abs(both - expected["pixel_values"]).max() < 1e-5


def test_elongated_picture_is_padded():
    line = Image.new("RGB", (10_000, 1), "black")
    found = patches(line)
    assert found.plan.final[0] / found.plan.final[1] == pytest.approx(200, rel=0.5)
    assert found.patches.max() == 255
    assert found.patches.min() < 255


def test_picture_within_ratio_is_not_padded():
    assert patches(Image.new("RGB", (2000, 10), "black")).patches.max() == 0

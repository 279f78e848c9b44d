"""The devices that PyTorch may compute on: the CPU, and a GPU on machines that have one."""

import pytest
import torch

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]

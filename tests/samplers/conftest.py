import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not

from gaussians import PATHS, SHAPE, gaussian


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


@pytest.fixture
def oracle(path):
    return gaussian(path)


@pytest.fixture
def mixture(path):
    return gaussian(path, 3)


@pytest.fixture
def noise():
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

import pytest
import torch

from glissando.diffusion.path_beta import DiscreteBeta, LinearBeta
from glissando.diffusion.path_cosine import Cosine
from glissando.diffusion.path_exploding import VarianceExploding
from glissando.diffusion.path_rectified import Rectified

PATHS = {
    "cosine": Cosine(),
    "linear_beta": LinearBeta(),
    "audioldm": DiscreteBeta.scaled_linear(),
    "exploding": VarianceExploding(),
    "rectified": Rectified(),
}


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


@pytest.fixture
def times(path):
    """Times over all of the path, the ends left out; none on a node of the discrete grid."""
    return path.clock(torch.linspace(0.00213, 0.9971, 41, dtype=torch.float64))

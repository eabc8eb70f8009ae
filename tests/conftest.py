"""What the tests share: golden arrays, the network with the golden weights, real frames if there are any."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


def _golden_state_dict() -> dict[str, torch.Tensor]:
    spec = importlib.util.spec_from_file_location("fill", GOLDEN / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return {key: torch.from_numpy(value) for key, value in fill.state_dict().items()}


@pytest.fixture(scope="session", autouse=True)
def user_cache(pytestconfig):
    """Indices and synthetic clips of tests go to pytest's own cache."""
    os.environ["XDG_CACHE_HOME"] = str(pytestconfig.cache.mkdir("user"))


@pytest.fixture(scope="session")
def golden():
    """Function from a golden file's name to its arrays."""
    return lambda name: dict(np.load(GOLDEN / f"{name}.npz"))


@pytest.fixture(scope="session")
def released_state():
    """The golden weights as a state dict under the released names (136.5 M parameters)."""
    return _golden_state_dict()


@pytest.fixture(scope="session")
def golden_network(released_state):
    """The full-size network with the golden weights. Leave it as it is: all tests share it."""
    from ivos.networks import ATNet

    return ATNet.from_released(released_state)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real frames (davis/ and clips/), from IVOS_REAL_DATA or ../shared/real; skips where absent."""
    default = Path(__file__).parents[2] / "shared" / "real"
    root = Path(os.environ.get("IVOS_REAL_DATA", default))
    if not (root / "davis").is_dir():
        pytest.skip(f"no real frames at {root} (set IVOS_REAL_DATA)")
    return root

"""What the tests share: golden arrays, the network with the golden weights, real frames if there are any."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden import fill
from tests.support.long import LONG
from tests.support.processor_time import ProcessorTimes
from tests.support.shared import run_folder

GOLDEN = Path(__file__).parent / "golden"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # the workers share the cores, and so do the processes that they start
    _threads = max(1, CORES // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ["OMP_NUM_THREADS"] = str(_threads)
    torch.set_num_threads(_threads)


def pytest_addoption(parser):
    """Add the option that lists the tests which compute longest."""
    parser.addoption(
        "--processor-times", type=int, metavar="N", help="list the N tests that take most processor time"
    )


# Fixtures that take long: the tests that use one of them run in one worker, which makes it once.
GROUPS = {
    "released_state": "golden_network",
    "golden_network": "golden_network",
    "tiny_sam2": "tiny_sam2",
    "logged": "logged",
    "copies": "copies",
    "site": "wheel",
}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Skip the long tests unless they are asked for; keep tests with an expensive fixture together."""
    for item in items:
        if not LONG and item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="a long test: set IVOS_LONG_TESTS=1"))
        for group in {GROUPS[name] for name in getattr(item, "fixturenames", ()) if name in GROUPS}:
            item.add_marker(pytest.mark.xdist_group(group))


def _keep_bytecode(config):
    """Let the processes of the run keep what they compile where Python is told to write no bytecode.

    Otherwise each program that the tests start compiles all that it imports, for about 20 seconds.
    """
    compiled = Path(importlib.util.cache_from_source(torch.__file__)).exists()
    if "PYTHONDONTWRITEBYTECODE" in os.environ and not compiled and hasattr(config, "cache"):
        del os.environ["PYTHONDONTWRITEBYTECODE"]
        os.environ["PYTHONPYCACHEPREFIX"] = str(config.cache.mkdir("bytecode"))


def pytest_configure(config):
    """Measure processor time where it is asked for, in the workers too."""
    _keep_bytecode(config)
    if config.getoption("processor_times"):
        config.pluginmanager.register(ProcessorTimes(config.getoption("processor_times")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Return a worker for each core where folders are tested, none where only files are named."""
    named = [argument.partition("::")[0] for argument in config.args]
    if all(os.path.isfile(path) for path in named):
        return 0
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", CORES))


def _golden_state_dict() -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in fill.state_dict().items()}


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory):
    """Keep indices, synthetic clips and compiled kernels of tests in the run's temporary folder."""
    (folder := run_folder(tmp_path_factory) / "user_cache").mkdir(exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(folder)


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


@pytest.fixture(scope="session")
def clips():
    """Two clips of six frames of 64x64 in memory."""
    from ivos.data.synthetic import SyntheticSpec, render_clip
    from ivos.video.clip import Clip

    spec = SyntheticSpec(num_clips=2, num_frames=6, width=64, height=64, max_objects=2, min_size=0.35)
    return [Clip(f"clip{i}", *(pair := render_clip(spec, i)), int(pair[1][0].max())) for i in range(2)]


@pytest.fixture
def network():
    """A tiny untrained network."""
    from ivos.networks import ATNet

    torch.manual_seed(0)
    return ATNet(width=8, depths=[1, 1, 1, 1], decoder_width=16)


@pytest.fixture(scope="session")
def tiny_sam2():
    """Function that makes a SAM 2 of a small random configuration, always the same one."""
    import transformers

    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1,
        "blocks_per_stage": [1, 1, 1, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 4], "global_attention_blocks": [],
        "window_positional_embedding_background_size": [4, 4], "image_size": [128, 128],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 128,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }  # fmt: skip
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": 128},
        mask_decoder_config={
            "hidden_size": 128, "mlp_dim": 32, "iou_head_hidden_dim": 32, "num_attention_heads": 2,
        },
        image_size=128, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1, memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[8, 8], memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,  # a number that transformers has in its code
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32,
    )  # fmt: skip

    def make():
        torch.manual_seed(0)
        return transformers.Sam2VideoModel(config).eval()

    return make

"""ivos-export: parts in operations that ONNX has, graphs that carry a session, the program."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from ivos.engine import ATNetSegmenter
from ivos.export import main as program
from ivos.export.parts import fix_padding, parts_of
from ivos.export.transfers import local_transfer, read
from ivos.kernels import local_transfer as ours
from ivos.networks import ATNet, load
from ivos.networks.encoders import TimmEncoder
from ivos.networks.memory import read as read_of_memory
from tests.support.tiny import ROOT

EXAMPLES = str(ROOT / "docs/examples")
TINY = {"width": 4, "depths": (1, 1, 1, 1), "decoder_width": 8}


@pytest.mark.parametrize("normalize", ["displacements", "rows"])
def test_the_local_transfer_is_that_of_the_kernels(normalize):
    torch.manual_seed(0)
    target, reference, mask = torch.randn(1, 5, 7, 12), torch.randn(1, 5, 7, 12), torch.rand(3, 1, 7, 12)
    expected = ours(target, reference, mask.transpose(0, 1), normalize=normalize).transpose(0, 1)
    torch.testing.assert_close(local_transfer(target, reference, mask, normalize), expected)


def test_the_memory_read_is_that_of_the_network():
    torch.manual_seed(0)
    target, *keys = torch.nn.functional.normalize(torch.randn(4, 1, 6, 5, 30), dim=2)
    values = [torch.rand(2, 3, 5, 30) for _ in keys]
    found = read(target, torch.cat(keys), torch.stack(values))
    torch.testing.assert_close(found, read_of_memory(target, keys, values))


def test_fixed_padding_is_that_of_the_encoder():
    torch.manual_seed(0)
    encoder, image = TimmEncoder("tf_efficientnet_lite0"), torch.rand(1, 3, 64, 96)
    before = encoder(image)
    fix_padding(encoder)
    assert not [one for one in encoder.modules() if type(one).__name__ == "Conv2dSame"]
    for one, other in zip(before, encoder(image), strict=True):
        torch.testing.assert_close(one, other)


def test_parts_do_not_change_the_network():
    network = ATNet(**TINY).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    parts_of(network)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def _compare(folder, network, arrays, monkeypatch):
    """Run a session of three rounds with the graphs and with the engine; return the greatest difference."""
    monkeypatch.syspath_prepend(EXAMPLES)
    memory = json.loads((folder / "network.json").read_text())["transfer"] == "memory"
    name = "onnx_memory_session" if memory else "onnx_session"
    module = importlib.import_module(name)
    session_class = module.MemorySession if memory else module.Session
    assert "torch" not in (ROOT / f"docs/examples/{name}.py").read_text().replace("PyTorch", "")
    assert len((ROOT / f"docs/examples/{name}.py").read_text().splitlines()) < 200
    frames, number = arrays["frames"], int(arrays["num_objects"])
    session = session_class(folder, frames, number, threads=1)
    segmenter = ATNetSegmenter(network, flow=False, short_side=None)
    segmenter.start(frames, number)
    differences = []
    for frame, strokes in json.loads(str(arrays["rounds"])):
        masks, expected = session.interact(frame, strokes), segmenter.interact(frame, strokes)
        assert (masks != expected).mean() <= 0.0005
        inside = session.probabilities[session.inside]
        differences.append(np.abs(inside - segmenter.probabilities).max())
    assert len(differences) == 3
    return max(differences)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "base"])
def test_a_session_with_shipped_weights(name, tmp_path, golden, monkeypatch):
    list(program.export(name, tmp_path / "graphs"))
    assert _compare(tmp_path / "graphs", load(name), golden("session"), monkeypatch) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_golden_session(tmp_path, golden, golden_network, monkeypatch):
    golden_network.save(tmp_path / "golden.pt")
    list(program.export(tmp_path / "golden.pt", tmp_path / "graphs"))
    assert _compare(tmp_path / "graphs", golden_network, golden("session"), monkeypatch) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("ablation", [{"use_local": False}, {"use_global": False, "normalize": "rows"}])
def test_ablations(ablation, tmp_path, golden, monkeypatch):
    torch.manual_seed(0)
    network = ATNet(**TINY, **ablation).eval()
    network.save(tmp_path / "network.pt")
    list(program.export(tmp_path / "network.pt", tmp_path / "graphs"))
    assert _compare(tmp_path / "graphs", network, golden("session"), monkeypatch) < 1e-4


@pytest.mark.slow
def test_programs_of_torch_export(tmp_path, capsys):
    torch.manual_seed(0)
    network = ATNet(**TINY).eval()
    network.save(tmp_path / "network.pt")
    program.main([str(tmp_path / "network.pt"), "--format", "torch", "--output", str(tmp_path / "programs")])
    assert len(capsys.readouterr().out.splitlines()) == 5
    anet = torch.export.load(tmp_path / "programs/anet.pt2").module()
    image, interaction = torch.rand(1, 3, 160, 64), torch.rand(5, 3, 160, 64)
    with torch.no_grad():
        expected = network.anet(image, interaction)[0].sigmoid()
    torch.testing.assert_close(anet(image=image, interaction=interaction)[0], expected, atol=1e-5, rtol=1e-5)


def test_a_part_that_differs_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    ATNet(**TINY).eval().save(tmp_path / "network.pt")

    def wrong(part, file):
        file.write_bytes(b"")
        return lambda inputs: [1 + one.numpy() for one in part.module(**part.other_example())]

    monkeypatch.setattr(program, "_write_onnx", wrong)
    with pytest.raises(program.UserError, match="anet: the exported part differs from PyTorch"):
        list(program.export(tmp_path / "network.pt", tmp_path / "graphs"))
    assert not (tmp_path / "graphs").exists()


def test_what_cannot_be_exported_is_said_in_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "there").mkdir()
    for arguments, message in [
        (["nothing"], "nothing: no such file"),
        (
            ["small", "--output", str(tmp_path / "there")],
            "name another folder with --output",
        ),
    ]:
        with pytest.raises(SystemExit):
            program.main(arguments)
        assert message in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        program.main(["small", "--output", str(tmp_path / "new")])
    assert 'needs onnx, onnxruntime, onnxscript: pip install "ivos[export]"' in capsys.readouterr().err

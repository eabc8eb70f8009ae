"""Weights as safetensors; networks from and to folders and the Hugging Face Hub, offline."""

import json
import struct
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from ivos.networks import ATNet, CheckpointError, MemoryATNet, load

TINY = {"width": 4, "depths": (1, 1, 1, 1), "decoder_width": 8, "normalize": "rows", "short_side": 160}
KINDS = {"paper": lambda: ATNet(**TINY, flow=True), "memory": lambda: MemoryATNet(short_side=240)}


@pytest.fixture(scope="module", params=KINDS)
def network(request):
    torch.manual_seed(0)
    return KINDS[request.param]().eval()


def same(one, other):
    assert type(one) is type(other)
    assert one.about == other.about
    theirs = other.state_dict()
    assert one.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())
    assert not other.training


@pytest.mark.parametrize("name", ["network.safetensors", "safetensors_by_content.pt"])
def test_safetensors_keep_the_network(network, name, tmp_path):
    network.save(tmp_path / "network.safetensors")
    (tmp_path / "network.safetensors").rename(tmp_path / name)
    same(network, load(tmp_path / name))


def test_half_precision_is_half_the_size(network, tmp_path):
    network.save(tmp_path / "whole.safetensors")
    network.save(tmp_path / "half.safetensors", half=True)
    parameter = next(name for name, _ in network.named_parameters())
    assert load_file(tmp_path / "half.safetensors")[parameter].dtype == torch.float16
    assert load(tmp_path / "half.safetensors").state_dict()[parameter].dtype == torch.float32


def test_weights_alone_of_a_safetensors_file(tmp_path):
    torch.manual_seed(0)
    network = ATNet(**{**TINY, "normalize": "displacements", "short_side": None}).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    with pytest.warns(UserWarning, match="a state dict without configuration"):
        same(network, load(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize("content", [b"", b"not safetensors", struct.pack("<Q", 99) + b"{}", None])
def test_a_damaged_file_is_one_line(content, tmp_path):
    path = tmp_path / "network.safetensors"
    ATNet(**TINY).save(path)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(
        CheckpointError, match=r"network\.safetensors: not a readable safetensors file"
    ) as found:
        load(path)
    assert len(str(found.value).splitlines()) == 1


def test_metadata_of_another_version(tmp_path):
    save_file({}, tmp_path / "x.safetensors", metadata={"ivos": json.dumps({"format": 9})})
    with pytest.raises(CheckpointError, match="format 9"):
        load(tmp_path / "x.safetensors")


def test_a_folder_keeps_the_network(network, tmp_path):
    network.save_pretrained(tmp_path / "net", model_card_kwargs={"description": "Trained on discs."})
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert json.loads((tmp_path / "net/config.json").read_text()) == network.about
    card = (tmp_path / "net/README.md").read_text()
    for filled in ("library_name: ivos", "Trained on discs.", "M parameters", f"{network.short_side} pixels"):
        assert filled in card
    assert "{{" not in card
    same(network, ATNet.from_pretrained(tmp_path / "net"))
    same(network, ATNet.from_pretrained(str(tmp_path / "net")))


def test_the_upload_is_what_a_folder_holds(network):
    uploaded = {}

    def upload(self, repo_id, folder_path, **_):
        uploaded.update({path.name: path.read_bytes() for path in folder_path.iterdir()})
        return mock.Mock(commit_url=f"https://huggingface.co/{repo_id}")

    with (
        mock.patch("huggingface_hub.HfApi.create_repo", return_value=mock.Mock(repo_id="me/net")),
        mock.patch("huggingface_hub.HfApi.upload_folder", upload),
    ):
        network.push_to_hub("me/net", private=True)
    assert set(uploaded) == {"README.md", "config.json", "model.safetensors"}
    assert b'ATNet.from_pretrained("me/net")' in uploaded["README.md"]


def test_the_download_is_of_the_weights(network, tmp_path):
    network.save_pretrained(tmp_path)
    fetch = mock.Mock(
        side_effect=lambda repo, filename=None, **options: str(tmp_path / (filename or options["filename"]))
    )
    with (
        mock.patch("ivos.networks.hub.hf_hub_download", fetch),
        mock.patch("huggingface_hub.hub_mixin.hf_hub_download", return_value=str(tmp_path / "config.json")),
    ):
        same(network, ATNet.from_pretrained("me/net", revision="v1"))
    assert fetch.call_args.kwargs["revision"] == "v1"


def test_a_name_that_is_nowhere_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: a folder without model\.safetensors"):
        ATNet.from_pretrained(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="me/nothing: neither a file, nor a folder") as found:
        ATNet.from_pretrained("me/nothing", local_files_only=True, cache_dir=tmp_path)
    assert len(str(found.value).splitlines()) == 1


def test_names_of_shipped_weights_work():
    same(load("small"), ATNet.from_pretrained("small"))

"""LV-VIS and UVO on miniature copies."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pycocotools import mask as coco

from ivos.data.datasets.video_instances import VideoInstances
from ivos.data.tools.check import main
from ivos.session.objects import split_objects
from ivos.video.files import DataError

CONF = Path(__file__).parents[2] / "conf"


def encoded(mask, compressed):
    if not mask.any():
        return None
    if compressed:
        code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": code["size"], "counts": code["counts"].decode()}
    flat, runs, value = mask.T.ravel().tolist(), [0], False
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


def write(kind, root, clips):
    """Two videos with overlapping masks, and one without any; run lengths in both of COCO's forms."""
    uvo = kind == "UVO"
    file = root / ("VideoDenseSet/UVO_video_val_dense.json" if uvo else "val_instances.json")
    place = root / ("uvo_videos_dense_frames" if uvo else "val/JPEGImages")
    content = {"videos": [], "annotations": [], "categories": []}
    for number, (frames, labels) in enumerate([*clips, clips[0]]):
        names = [f"v{number}/{t}.png" if uvo else f"v{number}/{t:05d}.jpg" for t in range(len(frames))]
        content["videos"].append({"id": number + 7, "file_names": names, "height": 64, "width": 80})
        for name, frame in zip(names, frames, strict=True):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place / name), frame[..., ::-1])
        for value in (1, 2) if number < 2 else ():
            masks = [(mask == value) | ((value == 1) & (mask == 2)) for mask in labels]
            codes = [encoded(mask, compressed=number == 0) for mask in masks]
            content["annotations"].append({"video_id": number + 7, "segmentations": codes})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("kind", ["LV-VIS", "UVO"])
def test_reads_what_is_there(tmp_path, clips, kind, capsys):
    write(kind, tmp_path, clips)
    videos = VideoInstances(kind, tmp_path)
    assert [video.name for video in videos] == ["v0", "v1"]
    for video, (frames, labels) in zip(videos, clips, strict=True):
        assert (video.size, video.num_frames, video.num_objects) == ((80, 64), 6, 2)
        np.testing.assert_array_equal(video.load_annotations(), labels)  # the smaller one where both are
        np.testing.assert_array_equal(video.areas, [[(mask > 0).sum(), (mask == 2).sum()] for mask in labels])
        whole, part = split_objects([video])
        np.testing.assert_array_equal(whole.load_annotations(), labels > 0)
        np.testing.assert_array_equal(part.load_annotations(), labels == 2)
        assert np.abs(video.load_frames().astype(int) - frames).mean() < 12
    name = kind.lower().replace("-", "_")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", overrides=[f"data={name}", f"data.root={tmp_path}", "data.videos=[v1]"])
        assert [video.name for video in instantiate(cfg.data)] == ["v1"]
    assert main([name, str(tmp_path), "--split", "val"]) == 0
    assert "2 of 80x64" in capsys.readouterr().out


def test_all_that_is_wrong_is_named(tmp_path, clips):
    file = write("LV-VIS", tmp_path, clips)
    content = json.loads(file.read_text())
    (tmp_path / "val/JPEGImages/v0/00003.jpg").unlink()
    content["annotations"][2]["segmentations"][1]["size"] = [80, 64]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        VideoInstances("LV-VIS", tmp_path)
    assert error.value.problems == (
        "val/JPEGImages/v0/00003.jpg: missing",
        "val_instances.json: video v1: a mask of 64x80, but frames of 80x64",
    )
    content["annotations"][2]["segmentations"].pop()
    file.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"video v1, objects 1: the number of masks is not the number of frames, 6"
    ):
        VideoInstances("LV-VIS", tmp_path)
    file.write_text('{"videos": [{"id": 1}]}')
    with pytest.raises(DataError, match="not in the format of YouTube-VIS"):
        VideoInstances("LV-VIS", tmp_path)
    with pytest.raises(DataError, match="is not UVO as released"):
        VideoInstances("UVO", tmp_path)
    with pytest.raises(DataError, match=r"data/LV-VIS.*data\.lv_vis_root=FOLDER"):
        VideoInstances("LV-VIS")
    with pytest.raises(DataError, match=r"data\.kind: must be one of LV-VIS, UVO"):
        VideoInstances("lv_vis")

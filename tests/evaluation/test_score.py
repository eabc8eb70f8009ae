"""Scoring folders of masks: numbers by hand and by the measures' definitions, layouts, files, bad input."""

import numpy as np
import pytest
from PIL import Image

from ivos.evaluation import score as module
from ivos.evaluation.score import main, score, statistics
from ivos.metrics import f_measure, jaccard
from ivos.video.palette import write_labels


def put(folder, masks, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names or [f"{t:05d}" for t in range(len(masks))], masks, strict=True):
        write_labels(folder / f"{name}.png", mask.astype(np.uint8))


@pytest.fixture
def pair(tmp_path):
    """Two sequences: predictions, truth, folders."""
    rng = np.random.default_rng(3)
    truth, predicted = np.zeros((2, 7, 30, 40), int)
    truth[:, 5:15, 5:15], truth[:, 18:28, 20:35] = 1, 2
    predicted[:] = truth
    for t in range(7):
        predicted[t, 5 : 5 + t] = 0  # J of object 1: 1, .9, ..., .4
    predicted[rng.random(predicted.shape) < 0.05] = 0
    put(tmp_path / "truth/bear", truth)
    put(tmp_path / "truth/dog", truth[:5])
    put(tmp_path / "pred/bear", predicted)
    put(tmp_path / "pred/dog", truth[:5])
    return predicted, truth, tmp_path / "pred", tmp_path / "truth"


def test_statistics_by_hand():
    # Ten frames are cut at 1, 3 (3.25), 6 (5.5 and a little), 8 (7.75), 10: quarters 1-3 and 8-10.
    values = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert statistics(values) == pytest.approx((0.55, 0.5, 0.9 - 0.2))
    assert statistics(np.ones(1)) == (1, 1, 0)


def test_a_case_by_hand(tmp_path):
    truth, predicted = np.zeros((2, 4, 10, 10), int)
    truth[:, :, :4] = 1
    predicted[1, :, :2], predicted[2, :, :5] = 1, 1  # J 1/2 and 4/5; the other two frames do not count
    put(tmp_path / "truth/a", truth)
    put(tmp_path / "pred/a", predicted)
    (one,) = score(tmp_path / "pred", tmp_path / "truth")
    assert one.jaccard == pytest.approx((0.65, 0.5, 0.5 - 0.8))
    (one,) = score(tmp_path / "pred", tmp_path / "truth", ends=True)
    assert one.jaccard.mean == pytest.approx((0 + 0.5 + 0.8 + 0) / 4)


@pytest.mark.parametrize("white", [("truth",), ("pred",), ("truth", "pred")])
def test_binary_masks_show_object_1(tmp_path, white):
    truth = np.zeros((4, 10, 10), int)
    truth[:, :, :4] = 1
    for name in ("truth", "pred"):
        put(tmp_path / name / "a", truth * (255 if name in white else 1))
    (one,) = score(tmp_path / "pred", tmp_path / "truth")
    assert (one.number, one.jaccard.mean) == (1, 1)


def test_equals_the_measures_frame_by_frame(pair):
    predicted, truth, pred_root, truth_root = pair
    found = {(one.sequence, one.number): one for one in score(pred_root, truth_root)}
    assert list(found) == [("bear", 1), ("bear", 2), ("dog", 1), ("dog", 2)]
    for measure, name in ((jaccard, "jaccard"), (f_measure, "f_measure")):
        values = measure(truth, predicted, 2)[1:-1]
        for index in range(2):
            mine = getattr(found["bear", index + 1], name)
            assert mine.mean == pytest.approx(values[:, index].mean())
            assert mine.recall == pytest.approx((values[:, index] > 0.5).mean())
            # Five frames are cut at 1, 2, 3, 4, 5: two frames a quarter.
            assert mine.decay == pytest.approx(values[:2, index].mean() - values[-2:, index].mean())
    assert found["dog", 1].jaccard == (1, 1, 0)


def test_both_layouts_are_scored_alike(pair, tmp_path):
    predicted, truth, pred_root, truth_root = pair
    for name, masks in (("pred", predicted), ("truth", truth)):
        for label in (1, 2):
            put(tmp_path / f"{name}-sav/bear/{label - 1:03d}", masks == label)
    expected = [one for one in score(pred_root, truth_root) if one.sequence == "bear"]
    assert score(tmp_path / "pred-sav", tmp_path / "truth-sav") == expected


def test_objects_that_overlap_are_scored_whole_on_the_frames_that_have_masks(tmp_path):
    """As SA-V's evaluator does: each by itself, its own frames, predictions of other frames aside."""
    truth, predicted = np.zeros((2, 3, 9, 20, 20), bool)
    truth[0, :, 4:16, 4:16] = truth[1, :, 8:12, 8:12] = truth[2, :, 10:14, 2:18] = True
    predicted[0, :, 4:16, 4:10], predicted[1:] = True, truth[1:]
    for number in range(3):
        begin = 4 if number == 2 else 0
        names = [f"{4 * t:05d}" for t in range(9)]
        put(tmp_path / f"truth/a/{number:03d}", truth[number, begin:], names[begin:])
        every = [f"{t:05d}" for t in range(33)]
        put(tmp_path / f"pred/a/{number:03d}", predicted[number].repeat(4, axis=0)[:33], every)
    scores = score(tmp_path / "pred", tmp_path / "truth", processes=1)
    assert [one.jaccard.mean for one in scores] == [0.5, 1, 1]
    assert [one.frames for one in scores] == [7, 7, 3]
    for number in range(3):
        expected = f_measure(truth[number].astype(int), predicted[number].astype(int), 1)[1:-1].mean()
        assert scores[number].f_measure.mean == pytest.approx(expected)


def test_predictions_apart_that_do_not_fit(pair, tmp_path, capsys):
    predicted, truth, _, truth_root = pair
    for label in (1, 2, 3):
        put(tmp_path / f"apart/bear/{label - 1:03d}", predicted[: 7 - (label == 2)] == label)
        put(tmp_path / f"apart/dog/{label - 1:03d}", truth[:5] == label)
    assert main([str(tmp_path / "apart"), str(truth_root), "--processes", "1"]) == 2
    text = capsys.readouterr().err
    assert "bear/001: missing: 00006" in text
    assert "bear/002: object 3, which nobody drew" in text
    assert "dog/002: object 3" in text


def test_an_object_that_appears_late_is_scored_from_the_beginning(tmp_path):
    truth = np.zeros((5, 8, 8), int)
    truth[3:, 2:6, 2:6] = 7
    put(tmp_path / "truth/a", truth)
    put(tmp_path / "pred/a", truth)
    (one,) = score(tmp_path / "pred", tmp_path / "truth")
    assert (one.number, one.jaccard.mean) == (7, 1)


def test_files_have_the_tools_columns(pair, capsys):
    *_, pred_root, truth_root = pair
    assert main([str(pred_root), str(truth_root), "--processes", "1"]) == 0
    total = module.global_results(score(pred_root, truth_root))
    head, row = (pred_root / "global_results-val.csv").read_text().splitlines()
    assert head == "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"
    assert [float(value) for value in row.split(",")] == pytest.approx(list(total.values()), abs=6e-4)
    lines = (pred_root / "per-sequence_results-val.csv").read_text().splitlines()
    assert lines[0] == "Sequence,J-Mean,F-Mean"
    assert [line.split(",")[0] for line in lines[1:]] == ["bear_1", "bear_2", "dog_1", "dog_2"]
    lines = (pred_root / "results.csv").read_text().splitlines()
    assert lines[0] == "sequence    ,obj,  J&F,    J,    F"
    assert lines[1].startswith("Global score,   , ")
    assert lines[4] == "dog         ,001, 100.0, 100.0, 100.0"
    assert "J&F-Mean" in capsys.readouterr().out


def test_everything_wrong_is_listed_at_once(pair, capsys):
    _, truth, pred_root, truth_root = pair
    for name in ("cat", "elk", "fox", "gnu"):
        put(truth_root / name, truth[:4])
    put(pred_root / "elk", truth[:3])
    put(pred_root / "fox", truth[:4, :20])
    strange = truth[:4].copy()
    strange[2, 0, 0] = 9
    put(pred_root / "gnu", strange)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(pred_root / "dog/00003.png")
    assert main([str(pred_root), str(truth_root)]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    for part in (
        "cat: missing",
        "dog/00003.png: a RGB image, not labels",
        "elk: 3 frames, the ground truth has 4; missing: 00003",
        "fox/00000.png: is 40x20, the ground truth is 40x30",
        "gnu/00002.png: has object 9, which nobody drew",
    ):
        assert part in text, part
    assert not (pred_root / "results.csv").exists()


def test_folders_that_are_not_there(tmp_path, capsys):
    assert main([str(tmp_path / "no"), str(tmp_path)]) == 2
    assert "no: no such folder" in capsys.readouterr().err
    assert main([str(tmp_path), str(tmp_path)]) == 2
    assert "no sequences" in capsys.readouterr().err

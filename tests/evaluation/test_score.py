"""Tests of scoring folders of masks: numbers, layouts, files, faulty input."""

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
        put(tmp_path / f"apart/bear/{label - 1:03d}", predicted[: 7 - 2 * (label == 2)] == label)
        put(tmp_path / f"apart/dog/{label - 1:03d}", truth[:5] == label)
    assert main([str(tmp_path / "apart"), str(truth_root), "--processes", "1"]) == 2
    text = capsys.readouterr().err
    assert "bear/001: missing: 00005" in text
    assert "dog/002: object 3 is not in the ground truth" in text


def late(tmp_path):
    """Nine frames: object 1 is on all of them, 2 appears on frame 5, 3 is on the first frame alone."""
    truth = np.zeros((9, 24, 32), int)
    truth[:, 2:12, 2:12], truth[5:, 14:22, 16:30], truth[0, 20:, :5] = 1, 2, 3
    predicted = truth.copy()
    predicted[:, 2:7] = 0  # J of object 1: one half
    predicted[5:7, 14:22] = 0  # object 2 is missed on its first two frames,
    predicted[3, 18:22, 16:30] = 2  # and found before it is there
    put(tmp_path / "truth/a", truth)
    put(tmp_path / "pred/a", predicted)
    return truth, predicted


def test_late_objects_by_each_evaluators_rule(tmp_path):
    """davis2017-evaluation: the first frame's objects on all frames; vos-benchmark: once they occurred."""
    late(tmp_path)
    lines = []
    scores = score(tmp_path / "pred", tmp_path / "truth", processes=1, report=lines.append)
    found = {one.number: one for one in scores}
    assert found[1].davis == found[1].benchmark
    assert found[1].davis.jaccard.mean == pytest.approx(0.5)
    # Object 2 has a label below the first frame's highest: frames 1 to 7, empty on both sides at 1, 2 and 4.
    assert found[2].davis.jaccard.mean == pytest.approx((1 + 1 + 0 + 1 + 0 + 0 + 1) / 7)
    # It first occurs, in the prediction, on frame 3.
    assert found[2].benchmark.jaccard.mean == pytest.approx((0 + 1 + 0 + 0 + 1) / 5)
    assert (found[2].davis.frames, found[2].benchmark.frames) == (7, 5)
    # Object 3 is on no frame that counts; davis2017-evaluation scores it there all the same.
    assert found[3].davis.jaccard.mean == 1
    assert found[3].benchmark is None
    assert not lines


def test_an_object_above_the_first_frames_labels_counts_in_results_csv_alone(tmp_path, capsys):
    truth, predicted = late(tmp_path)
    renamed = [np.select([m == 1, m == 2], [1, 9], 0) for m in (truth, predicted)]
    for name, masks in zip(("truth", "pred"), renamed, strict=True):
        put(tmp_path / f"{name}-9/a", masks)
    folders = [str(tmp_path / "pred-9"), str(tmp_path / "truth-9")]
    assert main([*folders, "--processes", "1"]) == 0
    said = capsys.readouterr()
    assert "1 objects that are not on the first frame are scored in results.csv only" in said.err
    rows = (tmp_path / "pred-9/per-sequence_results-val.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["a_1"]
    rows = (tmp_path / "pred-9/results.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[2:]] == ["001", "009"]
    # With nothing on the first frame davis2017-evaluation has no object; files of an earlier run go.
    truth[0] = 0
    put(tmp_path / "truth-9/a", np.where(renamed[0] == 1, 0, renamed[0]))
    put(tmp_path / "pred-9/a", np.where(renamed[1] == 1, 0, renamed[1]))
    assert main([*folders, "--processes", "1"]) == 0
    assert not list((tmp_path / "pred-9").glob("*-val.csv"))


def test_late_objects_in_sav_layout(tmp_path):
    truth, predicted = late(tmp_path)
    for name, masks in (("truth", truth), ("pred", predicted)):
        for label in (1, 2, 3):
            put(tmp_path / f"{name}-sav/a/{label - 1:03d}", masks == label)
    flat = score(tmp_path / "pred", tmp_path / "truth", processes=1)
    apart = score(tmp_path / "pred-sav", tmp_path / "truth-sav", processes=1)
    assert [one.number for one in apart] == [1, 2]
    for mine, other in zip(apart, flat, strict=False):
        assert mine.benchmark == mine.davis == other.benchmark
    assert main([str(tmp_path / "pred-sav"), str(tmp_path / "truth-sav"), "--processes", "1"]) == 0
    rows = (tmp_path / "pred-sav/results.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[2:]] == ["000", "001"]  # by their folders, as sav_evaluator


def test_equals_vos_benchmark_to_the_digit(tmp_path):
    """Compare with its own Evaluator on objects that come and go, where the package is installed."""
    evaluator = pytest.importorskip("vos_benchmark.evaluator")
    rng = np.random.default_rng(5)
    names = [f"s{number}" for number in range(6)]
    for name in names:
        sides = []
        for _ in range(2):
            masks = np.zeros((12, 40, 56), int)
            for label in rng.permutation(4)[:3] + 1:
                begin, end = sorted(rng.integers(0, 13, 2))
                y, x = rng.integers(0, 25), rng.integers(0, 35)
                masks[begin:end, y : y + 14, x : x + 18] = label
            sides.append(masks)
        truth, predicted = sides
        truth[:, :4, :4] = 5
        predicted[~np.isin(predicted, np.unique(truth))] = 0
        put(tmp_path / f"truth/{name}", truth)
        put(tmp_path / f"pred/{name}", predicted)
        peer = evaluator.Evaluator(name=name)
        for t in range(1, 11):
            peer.feed_frame(mask=predicted[t].astype(np.uint8), gt=truth[t].astype(np.uint8))
        iou, boundary = peer.conclude()
        scores = score(tmp_path / "pred", tmp_path / "truth", processes=1, sequences=[name])
        mine = {one.number: one.benchmark for one in scores if one.benchmark}
        assert set(mine) == set(iou)
        for number, measures in mine.items():
            assert measures.jaccard.mean == pytest.approx(iou[number] / 100, abs=1e-15)
            assert measures.f_measure.mean == pytest.approx(boundary[number] / 100, abs=1e-15)


def test_binary_masks_are_of_object_1(tmp_path):
    """DAVIS 2016's masks are 0 and 255; predictions may be 0 and 1 as well."""
    truth, _ = late(tmp_path)
    put(tmp_path / "truth16/a", (truth == 1) * 255)
    for kind in (1, 255):
        put(tmp_path / "pred16/a", (truth == 1) * kind)
        (one,) = score(tmp_path / "pred16", tmp_path / "truth16", processes=1)
        assert (one.number, one.davis.jaccard.mean, one.benchmark.jaccard.mean) == (1, 1, 1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_masks_in_davis_colours_are_labels(pair, mode):
    _, _, predictions, truth = pair
    expected = score(predictions, truth, processes=1)
    for folder in (predictions, truth):
        for path in folder.rglob("*.png"):
            with Image.open(path) as image:
                image.convert(mode).save(path)
    assert score(predictions, truth, processes=1) == expected


def test_a_data_sets_own_folder(tmp_path, capsys):
    """DAVIS' folder has the masks of all subsets; the list says which sequences count."""
    truth, predicted = late(tmp_path)
    davis = tmp_path / "DAVIS"
    for name in ("bear", "dog", "cat"):
        put(davis / "Annotations/480p" / name, truth)
    (davis / "ImageSets/2017").mkdir(parents=True)
    (davis / "ImageSets/2017/train.txt").write_text("cat\n")
    (davis / "ImageSets/2017/val.txt").write_text("bear\ndog\n")
    for name in ("bear", "dog"):
        put(tmp_path / "out" / name, predicted)
    for place in (davis, davis / "Annotations", davis / "Annotations/480p"):
        lines = []
        scores = score(tmp_path / "out", place, processes=1, report=lines.append)
        assert [one.sequence for one in scores] == ["bear"] * 3 + ["dog"] * 3
        assert lines[0].startswith("1 sequences of the ground truth are not scored (")
        assert "ImageSets/2017/val.txt; --subset chooses another list" in lines[0]
        assert lines[0].endswith("cat")
    command = [str(tmp_path / "out"), str(davis), "--processes", "1"]
    assert main([*command, "--sequences", "dog"]) == 0
    assert "1 sequences of the predictions are not scored: bear" in capsys.readouterr().err
    assert main([*command, "--subset", "train"]) == 2
    assert "has none of the sequences to score (cat); it has: bear, dog" in capsys.readouterr().err
    assert main([*command, "--subset", "test"]) == 2
    assert "has no list of it; it has: train, val" in capsys.readouterr().err
    assert main([*command, "--sequences", "elk"]) == 2
    assert "has no sequence elk; it has: bear, cat, dog" in capsys.readouterr().err


def test_predictions_need_only_the_frames_that_count(tmp_path, capsys):
    truth, _ = late(tmp_path)
    for name in ("00000", "00008"):
        (tmp_path / f"pred/a/{name}.png").unlink()
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(tmp_path / "pred/a/00000.png")  # never looked at
    assert len(score(tmp_path / "pred", tmp_path / "truth", processes=1)) == 3
    put(tmp_path / "pred/a", truth[:1], ["00100"])  # and frames without a true mask are ignored
    assert len(score(tmp_path / "pred", tmp_path / "truth", processes=1)) == 3
    assert main([str(tmp_path / "pred"), str(tmp_path / "truth"), "--ends"]) == 2
    assert "missing: 00008" in capsys.readouterr().err


def test_frames_numbered_without_padding_are_in_their_order(tmp_path):
    truth, predicted = np.zeros((2, 12, 20, 20), int)
    truth[:, 4:16, 4:16] = 1
    predicted[1:-1] = truth[1:-1]  # the first frame is 0, the last 11; frames 9 and 10 count
    put(tmp_path / "truth/a", truth, [str(t) for t in range(12)])
    put(tmp_path / "pred/a", predicted, [str(t) for t in range(12)])
    (one,) = score(tmp_path / "pred", tmp_path / "truth", processes=1)
    assert (one.davis.jaccard.mean, one.davis.frames) == (1, 10)


def test_a_sequence_of_one_frame_names_the_option(tmp_path, capsys):
    put(tmp_path / "truth/a", np.ones((1, 8, 8)))
    put(tmp_path / "pred/a", np.ones((1, 8, 8)))
    assert main([str(tmp_path / "pred"), str(tmp_path / "truth")]) == 2
    assert "no frames between the first and the last; score these with --ends" in capsys.readouterr().err
    assert main([str(tmp_path / "pred"), str(tmp_path / "truth"), "--ends"]) == 0


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
    put(pred_root / "elk", truth[:2])
    put(pred_root / "fox", truth[:4, :20])  # of other frames only those that count are looked at
    strange = truth[:4].copy()
    strange[2, 0, 0] = 9
    strange[1, 0, 0] = 255
    put(pred_root / "gnu", strange)
    Image.fromarray(np.full((30, 40, 3), 7, np.uint8)).save(pred_root / "dog/00003.png")
    assert main([str(pred_root), str(truth_root)]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    for part in (
        "cat: missing",
        "dog/00003.png: a RGB image with colours outside of DAVIS' palette; save labels",
        "elk: 2 frames, but 2 ground-truth frames are scored; missing: 00002",
        "fox/00001.png: is 40x20, the ground truth is 40x30",
        "gnu/00001.png: contains the label 255, which is void",
        "gnu/00002.png: object 9 is not in the ground truth",
    ):
        assert part in text, part
    assert not (pred_root / "results.csv").exists()


def test_folders_that_are_not_there(tmp_path, capsys):
    assert main([str(tmp_path / "no"), str(tmp_path)]) == 2
    assert "no: no such folder" in capsys.readouterr().err
    assert main([str(tmp_path), str(tmp_path)]) == 2
    assert "no sequences" in capsys.readouterr().err

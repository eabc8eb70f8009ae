"""Tests of DavisFolder on miniature data sets: what it reads, and its message about each fault."""

import json
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from PIL import Image

from ivos.data.datasets.davis import DavisFolder
from ivos.data.datasets.video_folders import VideoFolders
from ivos.interaction import read_scribbles
from ivos.session import all_samples
from ivos.session.objects import split_objects
from ivos.video.files import DataError
from ivos.video.reader import open_source

WIDTH, HEIGHT = 20, 14


def scribbles(name="cat", frames=3, object_id=1, point=(0.5, 0.5), annotated=(1,)):
    stroke = {"path": [[0.25, 0.25], list(point)], "object_id": object_id}
    return {"scribbles": [[stroke] if i in annotated else [] for i in range(frames)], "sequence": name}


class Layout:
    """A miniature folder in DAVIS layout whose files a test spoils."""

    def __init__(self, root):
        self.root = root

    def frame(self, name, index):
        return self.root / f"JPEGImages/480p/{name}/{index:05d}.jpg"

    def mask(self, name, index):
        return self.root / f"Annotations/480p/{name}/{index:05d}.png"

    def scribble(self, name, number):
        return self.root / f"Scribbles/{name}/{number:03d}.json"

    def add_frame(self, name, index, size=(WIDTH, HEIGHT), mode="RGB"):
        path = self.frame(name, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, (200, 100, 50) if mode == "RGB" else 90).save(path, quality=95)

    def add_mask(self, name, index, labels=(0, 1, 2), size=(WIDTH, HEIGHT), mode="P"):
        """A mask of vertical stripes, one for each label."""
        path = self.mask(name, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        stripes = np.asarray(labels, np.uint8)[np.arange(size[0]) * len(labels) // size[0]]
        image = Image.fromarray(np.broadcast_to(stripes, size[::-1]).copy())
        if mode == "P":
            image.putpalette([level for level in range(256) for _ in "rgb"])
        (image if mode in "PL" else image.convert(mode)).save(path)

    def add_scribble(self, name, number=1, **content):
        path = self.scribble(name, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(scribbles(name, **content)))

    def add_sequence(self, name, frames=3, **frame):
        for index in range(frames):
            self.add_frame(name, index, **frame)
            self.add_mask(name, index, size=frame.get("size", (WIDTH, HEIGHT)))
        self.add_scribble(name, frames=frames, annotated=(0,))

    def list_split(self, split, *names):
        path = self.root / f"ImageSets/2017/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")

    def problems(self, **options):
        with pytest.raises(DataError) as error:
            DavisFolder(self.root, **options)
        return list(error.value.problems)


@pytest.fixture
def layout(tmp_path):
    """Val: cat and ant (without scribbles); train: dog. Each with 3 frames and 2 objects."""
    made = Layout(tmp_path / "set")
    for name in ("cat", "ant", "dog"):
        made.add_sequence(name)
    made.scribble("ant", 1).unlink()
    made.list_split("val", "cat", "", "ant")
    made.list_split("train", "dog")
    return made


def test_reads_the_sequences_by_name(layout):
    layout.add_scribble("cat", 2, object_id=2)
    folder = DavisFolder(str(layout.root))
    assert [sequence.name for sequence in folder] == ["ant", "cat"]
    ant, cat = folder
    assert (cat.num_frames, cat.num_scribbles, cat.num_objects, cat.size) == (3, 2, 2, (WIDTH, HEIGHT))
    assert (len(ant.scribbles), ant.num_scribbles) == (0, 1)
    assert [path.name for path in cat.frames] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    frames, masks = cat.load_frames(), cat.load_annotations()
    assert frames.shape == (3, HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - (200, 100, 50)).max() <= 3  # RGB, not BGR
    assert masks.shape == (3, HEIGHT, WIDTH)
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks[2, 5], np.arange(WIDTH) * 3 // WIDTH)
    assert read_scribbles(cat.scribbles[1]) == scribbles(object_id=2)


def test_is_an_immutable_list(layout):
    folder = DavisFolder(layout.root)
    assert len(folder) == 2
    assert folder[-1].name == "cat"
    assert [sequence.name for sequence in folder[:1]] == ["ant"]
    with pytest.raises(TypeError):
        folder[0] = folder[1]
    with pytest.raises(FrozenInstanceError):
        folder[0].name = "cow"
    assert pickle.loads(pickle.dumps(folder[0])) == folder[0]


def test_sequences_are_checked_only_where_selected(layout):
    layout.frame("cat", 0).unlink()
    assert [sequence.name for sequence in DavisFolder(layout.root, sequences=["ant"])] == ["ant"]
    assert [sequence.name for sequence in DavisFolder(layout.root, sequences="ant")] == ["ant"]


def test_trainval_is_both_where_it_has_no_list(layout):
    assert [sequence.name for sequence in DavisFolder(layout.root, "trainval")] == ["ant", "cat", "dog"]
    layout.list_split("trainval", "dog")
    assert [sequence.name for sequence in DavisFolder(layout.root, "trainval")] == ["dog"]


def test_greyscale_frames_get_three_channels(layout):
    layout.add_sequence("fog", mode="L")
    layout.list_split("grey", "fog")
    frames = DavisFolder(layout.root, "grey")[0].load_frames()
    assert frames.shape == (3, HEIGHT, WIDTH, 3)
    assert (frames == frames[..., :1]).all()


def test_one_frame_any_size(layout):
    layout.add_sequence("dot", frames=1, size=(7, 3))
    layout.list_split("odd", "dot")
    (dot,) = DavisFolder(layout.root, "odd")
    assert (dot.num_frames, dot.size, dot.load_frames().shape) == (1, (7, 3), (1, 3, 7, 3))


def test_void_and_absent_objects_are_legal(layout):
    layout.add_mask("cat", 0, labels=(0, 1, 2, 3, 255))
    layout.add_mask("cat", 1, labels=(0, 255))
    layout.add_mask("cat", 2, labels=(3,))
    cat = DavisFolder(layout.root)[1]
    assert cat.num_objects == 3
    assert set(np.unique(cat.load_annotations())) == {0, 1, 2, 3, 255}


def test_greyscale_masks_with_object_numbers(layout):
    layout.add_mask("cat", 0, labels=(0, 1, 2, 255), mode="L")
    layout.add_mask("cat", 1, labels=(0, 1), mode="1")
    masks = DavisFolder(layout.root)[1].load_annotations()
    assert set(np.unique(masks[0])) == {0, 1, 2, 255}
    assert set(np.unique(masks[1])) <= {0, 1}


def test_hidden_files_are_passed_over(layout):
    (layout.root / "JPEGImages/480p/cat/._00000.jpg").write_bytes(b"finder droppings")
    assert DavisFolder(layout.root)[1].num_frames == 3


def test_no_layout(tmp_path):
    with pytest.raises(DataError, match=r"not a folder in DAVIS layout.*ImageSets") as error:
        DavisFolder(tmp_path / "nowhere")
    assert error.value.problems == ("ImageSets/2017", "JPEGImages/480p", "Annotations/480p")


def test_missing_resolution_names_what_is_there(layout):
    assert layout.problems(resolution="1080p") == [
        "JPEGImages/1080p (existing: 480p)",
        "Annotations/1080p (existing: 480p)",
    ]


def test_unknown_subset_and_sequence(layout):
    with pytest.raises(DataError, match="no split 'test'; it has: train, trainval, val"):
        DavisFolder(layout.root, "test")
    with pytest.raises(DataError, match="no video cow, dog; it has: ant, cat"):
        DavisFolder(layout.root, sequences=["dog", "cat", "cow"])
    with pytest.raises(DataError, match="no video selected"):
        DavisFolder(layout.root, sequences=[])
    layout.list_split("empty", "")
    with pytest.raises(DataError, match="lists no video"):
        DavisFolder(layout.root, "empty")


def test_sequence_without_files(layout):
    layout.list_split("val", "cow")
    assert layout.problems() == [
        "JPEGImages/480p/cow: no frames (*.jpg, *.png, ...)",
        "Annotations/480p/cow: no masks (*.png)",
    ]


def test_unpaired_frames_and_masks(layout):
    layout.mask("cat", 1).unlink()
    layout.add_mask("cat", 7)
    assert layout.problems() == [
        "JPEGImages/480p/cat/00001.jpg: frame without a mask",
        "Annotations/480p/cat/00007.png: mask without a frame",
    ]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 255
    path.write_bytes(content)


def replace_by_text(path):
    path.write_text("not an image")


@pytest.mark.parametrize("spoil", [truncate, replace_by_text, lambda path: path.write_bytes(b"")])
def test_unreadable_frame(layout, spoil):
    spoil(layout.frame("cat", 1))
    (problem,) = layout.problems()
    assert problem.startswith("JPEGImages/480p/cat/00001.jpg: unreadable (")


@pytest.mark.parametrize("spoil", [truncate, replace_by_text, flip_a_byte])
def test_unreadable_mask(layout, spoil):
    spoil(layout.mask("cat", 0))
    (problem,) = layout.problems()
    assert problem.startswith("Annotations/480p/cat/00000.png: unreadable (")


def test_unequal_sizes_name_the_odd_ones(layout):
    layout.add_frame("cat", 0, size=(WIDTH + 2, HEIGHT))
    layout.add_mask("cat", 1, size=(HEIGHT, WIDTH))
    assert layout.problems() == [
        f"JPEGImages/480p/cat/00000.jpg: is {WIDTH + 2}x{HEIGHT}, but the video's frames "
        f"are {WIDTH}x{HEIGHT}",
        f"Annotations/480p/cat/00001.png: is {HEIGHT}x{WIDTH}, but the video's frames are {WIDTH}x{HEIGHT}",
    ]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_masks_in_colour(layout, mode):
    layout.add_mask("cat", 2, mode=mode)
    (problem,) = layout.problems()
    assert problem.startswith(f"Annotations/480p/cat/00002.png: a {mode} image, not a mask with a palette")


def test_grey_levels_are_no_object_numbers(layout):
    layout.add_mask("cat", 0, labels=(0, 38, 75), mode="L")
    assert layout.problems()[0].startswith(
        "Annotations/480p/cat/00000.png: a greyscale mask with the value 75"
    )


def test_objects_that_appear_late_and_labels_with_gaps(layout):
    """Objects are numbered in the order of their labels; before it appears an object is absent."""
    layout.add_mask("ant", 0, labels=(0, 3))
    layout.add_mask("ant", 1, labels=(0, 3, 255))
    layout.add_mask("ant", 2, labels=(0, 1, 200, 3))
    (ant,) = DavisFolder(layout.root, sequences="ant")
    assert (ant.num_objects, ant.file_labels, ant.begins) == (3, (1, 3, 200), ())
    assert ant.known.all()
    assert (ant.areas > 0).tolist() == [[False, True, False], [False, True, False], [True, True, True]]
    labels = ant.load_annotations()
    assert [np.unique(mask).tolist() for mask in labels] == [[0, 2], [0, 2, 255], [0, 1, 2, 3]]
    np.testing.assert_array_equal(ant.read_object(ant.annotations[2], 3), labels[2] == 3)
    (found,) = VideoFolders("VOST", vost_like(layout), "val")  # another set's reader over the same files
    assert (found.num_objects, found.areas.tolist()) == (3, ant.areas.tolist())
    np.testing.assert_array_equal(found.load_annotations(), labels)


def vost_like(layout):
    root = layout.root.parent / "vost"
    (root / "ImageSets").mkdir(parents=True)
    (root / "ImageSets/val.txt").write_text("ant\n")
    for name in ("JPEGImages", "Annotations"):
        (root / name).symlink_to(layout.root / name / "480p")
    return root


def test_strokes_name_objects_by_the_labels_of_the_masks(layout):
    for index in range(3):
        layout.add_mask("cat", index, labels=(0, 2, 7))
    layout.add_scribble("cat", object_id=7)
    (cat,) = DavisFolder(layout.root, sequences="cat")
    (sample,) = all_samples([cat])
    assert [s["object_id"] for strokes in sample.decoded().strokes["scribbles"] for s in strokes] == [2]
    layout.add_scribble("cat", object_id=1)
    assert layout.problems(sequences="cat") == [
        "Scribbles/cat/001.json: frame 1, a stroke is for object 1, but the objects are 2, 7"
    ]


@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_binary_masks_show_object_1(layout, mode):
    """White on black: 255 is an object where no mask has any other label."""
    for index in range(3):
        layout.add_mask("cat", index, labels=(0, 255) if index != 1 else (0,), mode=mode)
    (cat,) = DavisFolder(layout.root, sequences="cat")
    assert cat.num_objects == 1
    assert (cat.areas[:, 0] > 0).tolist() == [True, False, True]
    labels = cat.load_annotations()
    assert [np.unique(mask).tolist() for mask in labels] == [[0, 1], [0], [0, 1]]
    np.testing.assert_array_equal(cat.read_object(cat.annotations[0], 1), labels[0])
    (one,) = split_objects([cat])
    np.testing.assert_array_equal(one.load_annotations(), labels)


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG", ".webp"])
def test_frames_of_any_format(layout, suffix):
    for index in range(3):
        path = layout.frame("cat", index)
        with Image.open(path) as image:
            image.save(path.with_suffix(suffix))
        path.unlink()
    for index in (True, False):
        (cat,) = DavisFolder(layout.root, sequences="cat", index=index)
        assert [path.name for path in cat.frames] == [f"{t:05d}{suffix}" for t in range(3)]
        assert np.abs(cat.load_frames().astype(int) - (200, 100, 50)).max() <= 3


def test_frames_without_leading_zeros_are_in_their_order(layout):
    for kind in ("JPEGImages", "Annotations"):
        folder = layout.root / kind / "480p/cat"
        for index, path in enumerate(sorted(folder.iterdir())):
            path.rename(path.with_stem(str(8 + index)))
    (cat,) = DavisFolder(layout.root, sequences="cat")
    assert [path.stem for path in cat.frames] == [path.stem for path in cat.annotations] == ["8", "9", "10"]
    assert [path.stem for path in open_source(layout.root, "cat").files] == ["8", "9", "10"]


def test_folders_without_a_resolution(layout):
    for kind in ("JPEGImages", "Annotations"):
        for folder in (layout.root / kind / "480p").iterdir():
            folder.rename(layout.root / kind / folder.name)
        (layout.root / kind / "480p").rmdir()
    assert [video.name for video in DavisFolder(layout.root)] == ["ant", "cat"]
    assert [path.name for path in open_source(layout.root, "cat").masks] == [f"{t:05d}.png" for t in range(3)]
    (outer := layout.root.parent / "outer").mkdir()
    layout.root.rename(outer / "train")
    with pytest.raises(DataError, match=r"data=mose reads .*outer/train"):
        DavisFolder(outer)
    with pytest.raises(DataError, match=r"a data set; name one of its folders: .*outer/train"):
        open_source(outer)


@pytest.mark.parametrize("name", ["../../x", "/etc", "a/b", "..", "x" * 255])
def test_names_that_lead_elsewhere(layout, name):
    layout.list_split("val", "cat", name)
    with pytest.raises(DataError, match=r"ImageSets/2017/val\.txt, line 2: ") as error:
        DavisFolder(layout.root)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"ImageSets/2017/val\.txt, line 2: "):
        DavisFolder(layout.root, sequences=["cat"])


def test_names_with_spaces(layout):
    layout.add_sequence("my cat")
    layout.list_split("val", "my cat", "ant")
    assert [video.name for video in DavisFolder(layout.root)] == ["ant", "my cat"]


def test_masks_that_are_not_lossless(layout):
    Image.open(layout.mask("cat", 1)).convert("L").save(layout.mask("cat", 1), format="JPEG")
    (problem,) = layout.problems()
    assert problem.startswith("Annotations/480p/cat/00001.png: a JPEG file, not PNG, whatever its suffix")


def test_no_object_in_any_mask(layout):
    for index in range(3):
        layout.add_mask("cat", index, labels=(0,))
    assert layout.problems() == ["Annotations/480p/cat: no object in any mask"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (scribbles("dog"), "drawn on sequence 'dog', not on 'cat'"),
        (scribbles(frames=4), "lists 4 frames, but the sequence has 3"),
        (scribbles(point=(0.5, 1.01)), "outside [0, 1]"),
        (scribbles(point=(-0.01, 0.5)), "outside [0, 1]"),
        (scribbles(point=(float("nan"), 0.5)), "outside [0, 1]"),
        (scribbles(object_id=3), "object 3, but the objects are 1 to 2"),
        (scribbles(annotated=()), "strokes on 0 frames"),
        (scribbles(annotated=(0, 2)), "strokes on 2 frames"),
        ({"sequence": "cat"}, "not a DAVIS scribble file"),
    ],
)
def test_bad_scribbles(layout, content, words):
    layout.scribble("cat", 1).write_text(json.dumps(content))
    (problem,) = layout.problems()
    assert problem.startswith("Scribbles/cat/001.json: ")
    assert words in problem


def test_unreadable_scribbles(layout):
    replace_by_text(layout.scribble("cat", 1))
    assert "not a readable JSON file" in layout.problems()[0]


def test_scribble_numbering(layout):
    layout.add_scribble("cat", 3)
    assert layout.problems() == ["Scribbles/cat/002.json: missing, but 003.json exists"]
    layout.scribble("cat", 3).rename(layout.scribble("cat", 2).with_name("extra.json"))
    assert layout.problems() == ["Scribbles/cat/extra.json: not named by a number (001.json)"]


def test_everything_wrong_comes_in_one_error(layout):
    truncate(layout.frame("ant", 0))
    layout.add_mask("ant", 1, mode="RGB")
    layout.mask("cat", 2).unlink()
    layout.add_scribble("cat", object_id=9)
    files = [problem.split(":")[0] for problem in layout.problems()]
    assert files == [
        "JPEGImages/480p/ant/00000.jpg",
        "Annotations/480p/ant/00001.png",
        "JPEGImages/480p/cat/00002.jpg",
        "Scribbles/cat/001.json",
    ]


def test_long_lists_are_cut_with_a_count():
    error = DataError("unusable", [f"file {number}" for number in range(25)])
    lines = str(error).splitlines()
    assert lines[0] == "unusable"
    assert lines[1:21] == [f"  file {number}" for number in range(20)]
    assert lines[21:] == ["  ... and 5 more (25 in all)"]
    assert len(error.problems) == 25
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(DataError("alone")) == "alone"


def test_files_that_change_after_the_check(layout):
    cat = DavisFolder(layout.root)[1]
    layout.add_frame("cat", 1, size=(4, 4))
    with pytest.raises(DataError, match=r"00001.jpg: is 4x4 now, but was 20x14 when it was checked"):
        cat.load_frames()
    layout.frame("cat", 1).unlink()
    with pytest.raises(DataError, match=r"00001.jpg: missing"):
        cat.load_frames()
    layout.add_mask("cat", 0, mode="RGB")
    with pytest.raises(DataError, match="not a mask with a palette"):
        cat.load_annotations()
    truncate(layout.mask("cat", 0))
    with pytest.raises(DataError, match="unreadable"):
        cat.load_annotations()


def test_real_davis(real_data):
    bear, tennis = DavisFolder(real_data / "davis", "train")
    assert (bear.num_frames, bear.num_scribbles, bear.num_objects) == (2, 2, 1)
    assert (tennis.num_frames, tennis.num_scribbles, tennis.num_objects) == (2, 1, 2)
    assert bear.size == tennis.size == (854, 480)
    assert tennis.load_frames().shape == (2, 480, 854, 3)
    assert set(np.unique(tennis.load_annotations())) == {0, 1, 2, 255}
    assert [len(strokes) for strokes in read_scribbles(bear.scribbles[0])["scribbles"]] == [2, 0]

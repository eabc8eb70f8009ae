"""File names and names of videos on the command line reach the configuration as they were written."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import ListConfig, OmegaConf

from ivos.runtime.command_line import configs
from ivos.runtime.errors import UserError
from ivos.runtime.overrides import prepare_overrides

FILES = [
    "clip.mp4", "my clip.mp4", "clip (1).mp4", "épée.mp4", "影片.mp4", "a=b.mp4", "epoch=3-step=10.ckpt",
    "a,b.mp4", "a[1].mp4", "[a].mp4", "100%.mp4", "a#1.mp4", "a@b.mp4", "a&b.mp4", "it's.mp4", "a+b.mp4",
    "a~b.mp4", "~b.mp4", "{x}.mp4", "a!b.mp4", "a;b.mp4", 'say "hi".mp4', "$x.mp4", "-a.mp4", "a*.mp4",
    "1e5", "007", "52350e9012", "a\\'b.mp4", "end\\", "(a)", " lead", "C:\\videos\\a.mp4",
    "${x}.mp4", "a $${b} (1).mp4", "${oc.env:HOME}.mp4",
]  # fmt: skip


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The value that Hydra reads for an option, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    parser = OverridesParser.create()

    def value(option, *arguments, positional=None):
        (override,) = parser.parse_overrides(prepare_overrides(arguments, positional))
        assert override.key_or_group == option, override
        assert not override.is_sweep_override()
        found = OmegaConf.create({"option": override.value()}).option  # resolves interpolations
        return [str(each) for each in found] if isinstance(found, ListConfig) else found

    return value


@pytest.mark.parametrize("name", FILES)
def test_existing_files_are_taken_literally(name, read, tmp_path):
    (tmp_path / name).touch()
    assert read("video", f"video={name}") == name
    assert read("video", f"video={tmp_path}/{name}") == f"{tmp_path}/{name}"
    assert read("video", name, positional="video") == name


def test_a_positional_name_is_literal_where_there_is_no_such_file(read):
    assert read("video", "${x}/no such (1).mp4", positional="video") == "${x}/no such (1).mp4"


def test_options_of_all_programs(read, tmp_path):
    folder = tmp_path / "my data (1), été"
    folder.mkdir()
    assert read("data.root", f"data.root={folder}") == str(folder)
    assert read("data.davis_root", f"data.davis_root={folder}") == str(folder)
    assert read("checkpoint", "checkpoint=runs/epoch=3-step=10.ckpt") == "runs/epoch=3-step=10.ckpt"
    (tmp_path / "epoch=3.ckpt (copy)").touch()
    assert read("checkpoint", "small", positional="checkpoint") == "small"
    assert read("checkpoint", "epoch=3.ckpt (copy)", positional="checkpoint") == "epoch=3.ckpt (copy)"


@pytest.mark.parametrize("name", [n for n in FILES if n not in ("null", " lead") and "${" not in n])
def test_files_that_do_not_exist_keep_their_names(name, read):
    assert read("video", f"video=/nowhere/{name}") == f"/nowhere/{name}"


def test_several_files(read, tmp_path):
    names = ["clip (1).mp4", "épée.mp4"]
    for name in names:
        (tmp_path / name).touch()
    assert read("video", *names, positional="video") == names
    assert read("video", f"video=[{','.join(names)}]") == names
    assert read("video", "video=[a.mp4,b.mp4]") == ["a.mp4", "b.mp4"]


def test_the_home_folder(read, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/clip.mp4").touch()
    assert read("video", "video=~/clip.mp4") == f"{tmp_path}/home/clip.mp4"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("[52350e9012]", ["52350e9012"]),
        ("[2019,007,1e5,bear]", ["2019", "007", "1e5", "bear"]),
        ("['a b',\"c\"]", ["a b", "c"]),
        ("null", None),
        ("true", "true"),
    ],
)
def test_names_of_videos_are_texts(value, names, read):
    assert read("data.sequences", f"data.sequences={value}") == names


def test_a_number_of_digits_and_an_e_is_no_infinity(read):
    assert read("checkpoint", "checkpoint=52350e9012") == "52350e9012"


@pytest.mark.parametrize(
    ("argument", "opened"),
    [
        ("segmenter.undo_gib=1", True),
        ("stages.a.data.samples.user.density=[0.1,0.2]", True),
        ("data.val.num_clips=1,2", False),  # a sweep
        ("+segmenter.reach=3", False),
        ("study.rounds=1", False),
        ("optimizer@stages.a.module.optimizer=adamw", False),
        ("hydra.run.dir=out", False),
    ],
)
def test_an_option_that_the_configuration_does_not_list_can_be_set(argument, opened):
    assert prepare_overrides([argument]) == [f"++{argument}" if opened else argument]
    assert prepare_overrides([argument], open_groups=[]) == [argument]


@pytest.mark.parametrize(
    "argument",
    [
        "seed=1", "seed=1,2", "a=choice(1,2)", "a='quoted (1)'", "lr=1e-5", "+x={a: 1}", "~x", "~a.b=1",
        "a=[1,[2]]", "data@data.train=davis", "segmenter=flow", "a=${b}", "checkpoint=null", "video=[]", "a=",
        "hydra.run.dir=out", "stages.a.module.scheduler.max_lr=tag(log,interval(5e-4,8e-3))", "x=inf",
        "--cfg", "-m",
    ],
)  # fmt: skip
def test_other_arguments_stay(argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare_overrides([argument]) == [argument]


def test_numbers_stay_numbers_beside_files_of_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1").mkdir()
    for argument in ("model.depths=[1,1,1,1]", "threads=1"):
        assert prepare_overrides([argument])[0].lstrip("+") == argument


def test_a_prepared_argument_is_not_prepared_again(tmp_path, monkeypatch):
    """Lightning starts further processes with the arguments of the first."""
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        once = prepare_overrides([f"data.root=/x/{name}"])
        assert prepare_overrides(once) == once
        OverridesParser.create().parse_overrides(once)


def test_values_of_flags_are_no_positional_arguments():
    flags = ["--cfg", "job", "-cd", "my configs", "-m"]
    assert prepare_overrides(flags, "video") == flags
    with pytest.raises(UserError, match="word: options are written NAME=VALUE"):
        prepare_overrides(["word"])


def test_a_composed_configuration_has_the_name(tmp_path):
    folder = tmp_path / "my data (1), été"
    folder.mkdir()
    with initialize_config_dir(configs(), version_base="1.3"):
        cfg = compose("evaluate", prepare_overrides([f"data.root={folder}", "data.sequences=[52350e9012]"]))
    assert (cfg.data.root, cfg.data.sequences) == (str(folder), ["52350e9012"])

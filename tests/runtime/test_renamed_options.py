"""Options by the names they had in version 0.1: accepted, with a line that names the present one."""

import warnings

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ivos.interaction.simulate import SimulatedUser
from ivos.runtime.command_line import configs
from ivos.runtime.errors import UserError
from ivos.runtime.renamed_options import (
    RENAMED_OPTIONS,
    accept_former_keywords,
    present_name,
    rename_options,
    rename_overrides,
)  # fmt: skip
from ivos.runtime.signatures import rules_of
from ivos.training.losses import SegmentationLoss


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("segmenter.lookahead=2", "segmenter.feature_batch_size=2"),
        ("+stages.anet.module.loop_rounds=1", "+stages.anet.module.feedback_rounds=1"),
        ("++stages.a.data.samples.user.later=0", "++stages.a.data.samples.user.correction_prob=0"),
        ("~data.val.subset", "~data.val.split"),
        ("data.train.sets.sbd.subset=trainval", "data.train.sets.sbd.split=trainval"),
        ("weights=a=b.pth", "checkpoint=a=b.pth"),
        ("live=3", "max_open_videos=3"),
        ("undo_gib=2", "segmenter.undo_gib=2"),
        ("session.seed=3", "seed=3"),
        ("trainer.accelerator=cpu", "device=cpu"),
        ("++session_trainer.accelerator=cpu", "device=cpu"),
        ("data@data.train=anet_mixture", "data@data.train=anet"),
        ("strategy=auto", "strategy=null"),
    ],
)
def test_former_names_on_the_command_line(old, new, capsys):
    assert rename_overrides([old]) == [new]
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for name in (old, new):
        assert name.lstrip("+~").partition("=")[0] in told


def test_a_former_choice_that_stands_for_two(capsys):
    assert rename_overrides(["data=synthetic_easy"]) == ["data=default", "synthetic=easy"]
    assert "data=synthetic_easy has been renamed to data=default synthetic=easy" in capsys.readouterr().err


def test_an_option_with_a_fixed_value_is_accepted_with_that_value_alone(capsys):
    name = "stages.anet.data.samples.user.keep_first"
    assert rename_overrides([f"+{name}=0.3", "seed=1"]) == ["seed=1"]
    assert f"the option {name} has been removed: it is always 0.3" in capsys.readouterr().err
    with pytest.raises(UserError, match=rf"^{name}=0\.5: no longer an option, always 0\.3; omit it$"):
        rename_overrides([f"{name}=0.5"])
    cfg = OmegaConf.create({"stages": {"anet": {"data": {"samples": {"user": {"keep_first": 0.3}}}}}})
    rename_options(cfg)
    assert cfg.stages.anet.data.samples.user == {}


def test_former_names_of_options_elsewhere_in_a_configuration(capsys):
    cfg = OmegaConf.create(
        {"seed": 0, "device": None, "session": {"seed": 4}, "trainer": {"accelerator": "cpu"}}
    )
    OmegaConf.set_struct(cfg, True)
    rename_options(cfg)
    assert cfg == {"seed": 4, "device": "cpu", "session": {}, "trainer": {}}
    assert capsys.readouterr().err.count("\n") == 2


def test_other_arguments_stay_and_say_nothing(capsys):
    others = [
        "-m",
        "--cfg",
        "job",
        "data.train.weights.sbd=0",
        "segmenter=flow",
        "seed=0",
        "a.mp4",
        "x.live=1",
    ]
    assert rename_overrides(others) == others
    assert capsys.readouterr().err == ""


def test_former_names_in_a_configuration(capsys):
    cfg = OmegaConf.create(
        {"data": {"root": None, "val": {"subset": "val", "root": "${..root}"}}, "a": "${b}", "b": 1}
    )
    cfg.stages = {"anet": {"module": {"loss": {"class_balance": 1.0, "balance": 0.5}, "loop_share": "${b}"}}}
    OmegaConf.set_struct(cfg, True)
    rename_options(cfg)
    assert cfg.data.val == {"split": "val", "root": None}
    assert cfg.stages.anet.module == {"loss": {"class_balance": 0.5}, "feedback_prob": 1}
    assert OmegaConf.is_interpolation(cfg.stages.anet.module, "feedback_prob")
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize("program", ["train", "evaluate", "annotate"])
def test_present_names_are_in_the_configurations(program, capsys):
    """No shipped file has a former name."""
    with initialize_config_dir(configs(), version_base="1.3"):
        for experiment in ["quickstart", "pretrain", "finetune"] if program == "train" else [None]:
            cfg = compose(program, [f"experiment={experiment}"] if experiment else [])
            rename_options(cfg)
    assert capsys.readouterr().err == ""


def test_a_present_name_is_no_former_one():
    for pattern in RENAMED_OPTIONS:
        new = present_name(pattern.replace("*", "x"))
        assert present_name(new) == new


def test_parameters_by_their_former_names():
    with pytest.warns(FutureWarning, match="balance has been renamed to class_balance"):
        assert SegmentationLoss(balance=0.25).class_balance == 0.25
    with pytest.warns(FutureWarning, match="later has been renamed to correction_prob"):
        assert SimulatedUser(later=0.25).correction_prob == 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SimulatedUser(correction_prob=0.25).point_prob == 0.5


def test_a_renamed_parameter_is_known_by_its_present_name_alone():
    @accept_former_keywords(old="new")
    def function(new: int = 1) -> int:
        return new

    assert (function(), function(3), function(new=4), function(old=5)) == (1, 3, 4, 5)
    rules, more = rules_of(function)
    assert (list(rules), more) == (["new"], False)
    assert "balance" not in rules_of(SegmentationLoss)[0]

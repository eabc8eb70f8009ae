"""Options without effect in the chosen combination: errors where the user gave them, else left out."""

import pytest
from hydra import compose, initialize_config_dir

from ivos.evaluation import run as evaluation
from ivos.runtime.command_line import configs
from ivos.runtime.config import resolved
from ivos.runtime.overrides import prepare_overrides
from ivos.runtime.renamed_options import rename_options
from ivos.runtime.signatures import option_faults
from ivos.runtime.unused_options import given_options, leave_out_foreign, remedy, unused_faults
from ivos.training import checks

EFFECTS = {"train": checks.effects, "evaluate": evaluation.effects}


def composed(program, *arguments):
    """Return the configuration of a command, and the options that it gives."""
    overrides = prepare_overrides([*arguments, "folder=unused"], roles=program == "train")
    with initialize_config_dir(configs(), version_base="1.3"):
        cfg = compose(program, overrides)
    rename_options(cfg)
    return cfg, given_options(overrides)


UNUSED = {
    "clips beside a folder": (
        "evaluate data.root=/x data.num_clips=3",
        "data.num_clips=3: has no effect: it applies to synthetic clips, but data.root=/x names a folder",
    ),
    "clips of one role": ("train data.root=/x data.val.num_clips=3", "data.val.num_clips=3: has no effect"),
    "generator": (
        "train data.root=/x data.val.noise=0.5",
        "data.val.noise=0.5: has no effect: it applies to synthetic clips",
    ),
    "shared generator": (
        "evaluate data=davis synthetic.noise=0.5",
        "synthetic.noise=0.5: has no effect: no chosen data set is synthetic; omit it, or",
    ),
    "choice of a generator": ("train data=davis synthetic=easy", "synthetic=easy: has no effect"),
    "resolution of clips": (
        "evaluate data.resolution=Full-Resolution",
        "data.resolution=Full-Resolution: has no effect: it applies to a folder in DAVIS layout; name one by",
    ),
    "mixture beside a folder": (
        "train experiment=anet data.root=/x data.train.weights.sbd=0",
        "data.train.weights.sbd=0: has no effect: it applies to a mixture",
    ),
    "folder beside a mixture": (
        "train experiment=anet data.train.folder.year=2016",
        "data.train.folder.year=2016: has no effect: it applies to the folder of data.root=FOLDER",
    ),
    "pictures": (
        "train pictures=/x",
        "pictures=/x: has no effect: no chosen data set takes it; omit it, or",
    ),
    "pictures of an experiment": ("train experiment=pretrain data=davis pictures=/x", "pictures=/x: has no"),
    "root": ("train data=sbd data.root=/x", "data.root=/x: has no effect: no chosen data set takes it"),
    "another root": ("train data.youtube_vos_root=/x", "data.youtube_vos_root=/x: has no effect"),
    "session": (
        "train experiment=anet session.max_interactions=2",
        "session.max_interactions=2: has no effect: score=false skips the final session; omit",
    ),
    "model": (
        "evaluate model.width=4",
        "model.width=4: has no effect: checkpoint=base determines the network; omit it, or",
    ),
    "choice of a model": (
        "evaluate model=full checkpoint=x.pth",
        "model=full: has no effect: checkpoint=x.pth",
    ),
    "rounds of SAM 2's protocols": (
        "evaluate protocol=sam2_offline session.max_interactions=4",
        "session.max_interactions=4: has no effect: the number of rounds is protocol.frames; omit it",
    ),
    "robot beside clicks": (
        "evaluate protocol=sam2_online session.robot.nb_points=9",
        "session.robot.nb_points=9: has no effect: no stroke of this protocol is the robot's; omit it",
    ),
    "choice of a robot": (
        "evaluate protocol=davis_clicks session/robot=davis",
        "session/robot=davis: has no",
    ),
    "time of first masks": ("evaluate protocol=first_mask session.max_time=9", "session.max_time=9: has no"),
    "rounds of a study": (
        "evaluate protocol=recorded session.max_interactions=4",
        "session.max_interactions=4: has no effect: the rounds are those of the study; omit it",
    ),
    "layout of masks": (
        "evaluate masks_layout=per_object",
        "masks_layout=per_object: has no effect: no masks",
    ),
}


@pytest.mark.parametrize("case", UNUSED)
def test_an_option_without_effect_is_a_line_with_the_remedy(case):
    command, said = UNUSED[case]
    program, *arguments = command.split()
    cfg, given = composed(program, *arguments)
    leave_out_foreign(cfg, given)
    (fault,) = unused_faults(cfg, given, EFFECTS[program](cfg))
    assert fault.startswith(said)
    assert "\n" not in fault


USED = [
    "train",
    "train data.root=/x",
    "train data.num_workers=1 data.val.num_clips=3 synthetic.noise=0 data.test.seed=3",
    "train experiment=anet data.root=/x data=davis",
    "train experiment=anet data.youtube_vos_root=/x data.sbd_root=/y data.davis_root=/z",
    "train experiment=tnet data@data.train=sbd data.root=/x data.sbd_root=/y",
    "train experiment=pretrain pictures=/x synthetic.noise=0",
    "train data@data.train=pictures experiment=memory pictures=/x cutouts=/y",
    "train data@data.val=davis data.davis_root=/x",
    "evaluate data.num_clips=3 synthetic.noise=0 data.seed=3 seed=1 device=cpu",
    "evaluate data.root=/x data.resolution=Full-Resolution",
    "evaluate session.max_interactions=4 session.max_time=9 session/robot=davis session.robot.nb_points=9",
    "evaluate protocol=davis_clicks session.max_interactions=4 session.max_time=null",
    "evaluate protocol=sam2_online protocol.frames=4 session.metric=J session.time_threshold=9",
    "evaluate checkpoint=untrained model=full model.width=4 save_masks=true masks_layout=per_object",
]


@pytest.mark.parametrize("command", USED)
def test_options_with_an_effect_are_accepted(command):
    program, *arguments = command.split()
    cfg, given = composed(program, *arguments)
    assert unused_faults(cfg, given, EFFECTS[program](cfg)) == []


def test_options_of_an_experiment_for_another_choice_are_left_out_with_a_note(capsys):
    cfg, given = composed("train", "data=davis", "data.root=/x", "experiment=quickstart")
    leave_out_foreign(cfg, given)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "left out: data.test.num_clips, data.test.seed, data.train.num_clips, data.val.num_clips" in told
    assert "num_clips" not in cfg.data.train
    assert unused_faults(cfg, given, checks.effects(cfg)) == []
    assert not [name for name in option_faults(resolved(cfg)) if name.startswith("data.")]


def test_an_option_that_the_user_gave_is_not_left_out(capsys):
    cfg, given = composed("train", "data@data.train=davis", "data.train.num_clips=3")
    leave_out_foreign(cfg, given)
    assert capsys.readouterr().err == ""
    (said,) = (said for name, said in option_faults(resolved(cfg)).items() if name == "data.train.num_clips")
    assert said.startswith("data.train.num_clips: no such option; there are: root")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            "protocol.clicks",
            "; it belongs to protocol=davis_clicks, protocol=sam2_offline, protocol=sam2_online",
        ),
        ("segmenter.undo_gib", "; it belongs to segmenter=atnet"),
        ("data.train.num_clips", "; it belongs to data=default, data=synthetic"),
        ("protocol.nosuch", ""),
        ("stages.anet.module.nosuch", ""),
    ],
)
def test_which_choice_has_an_option(option, said):
    assert remedy(option, configs()) == said

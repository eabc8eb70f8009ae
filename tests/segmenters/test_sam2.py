"""SAM 2 with a tiny random configuration: corrections, late objects, every protocol; EdgeTAM and SAM 3."""

import numpy as np
import pytest
import torch

from ivos.engine import AdoptingSegmenter, Segmenter
from ivos.runtime.errors import UserError
from ivos.session import Davis, DavisClicks, Sam2Offline, Sam2Online, Sample, SessionSettings, run_session
from ivos.video.clip import Clip


@pytest.fixture(scope="module")
def model(tiny_sam2):
    return tiny_sam2()


@pytest.fixture(scope="module")
def obedient(tiny_sam2):
    """Weights fitted until a positive click makes all of a frame the object, and a negative one nothing."""
    model = tiny_sam2().requires_grad_(False)
    decoder, clicks = model.mask_decoder.requires_grad_(), model.prompt_encoder.point_embed.requires_grad_()
    with torch.no_grad():
        for weight in decoder.parameters():
            weight *= 5 if weight.dim() > 1 else 1  # else nothing of a click reaches its end
        clicks.weight *= 30
    optimiser = torch.optim.Adam([*decoder.parameters(), *clicks.parameters()], 1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        features = [
            0.1 * torch.randn(1, width, side, side, generator=generator)
            for width, side in ((16, 32), (32, 16), (128, 8))
        ]
        loss = torch.zeros(())
        for positive in (0, 1):
            masks = model._single_frame_forward(
                input_points=128 * torch.rand(1, 1, 1, 2, generator=generator),
                input_labels=torch.tensor([[[positive]]], dtype=torch.int32),
                image_embeddings=features,
                multimask_output=False,
            ).pred_masks
            wanted = torch.full_like(masks, positive)
            loss = loss + torch.nn.functional.binary_cross_entropy_with_logits(masks, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.01
    return model.requires_grad_(False)


@pytest.fixture
def segmenter(model):
    from ivos.segmenters.sam2 import Sam2Segmenter

    return Sam2Segmenter(model, device="cpu")


@pytest.fixture(scope="module")
def clip():
    labels = np.zeros((5, 40, 60), np.uint8)
    labels[:, 10:30, 10:30] = 1
    labels[2:, 15:35, 35:55] = 2
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), np.uint8)
    return Clip("made", frames, labels, 2)


def click(x, y, object_id=1, positive=True):
    return {"point": [x, y], "positive": positive, "object_id": object_id}


def test_follows_the_protocol(segmenter, clip):
    assert isinstance(segmenter, Segmenter)
    segmenter.start(clip.frames, 2)
    masks = segmenter.interact(0, [click(0.3, 0.5)])
    assert masks.shape == clip.labels.shape
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) <= {0, 1}


def test_a_correction_on_a_tracked_frame_stays(segmenter, clip):
    """Built so that it shows: what the clicks make of the frame is what propagation leaves there."""
    segmenter.start(clip.frames, 2)
    segmenter.interact(0, [click(0.3, 0.5)])
    session = segmenter._session
    assert 3 in session.output_dict_per_obj[0]["non_cond_frame_outputs"]  # tracked
    tracked = session.output_dict_per_obj[0]["non_cond_frame_outputs"][3]["pred_masks"].clone()
    segmenter.interact(3, [click(0.9, 0.1), click(0.3, 0.5, positive=False)])
    outputs = session.output_dict_per_obj[0]
    assert 3 in outputs["cond_frame_outputs"]
    corrected = outputs["cond_frame_outputs"][3]["pred_masks"].clone()
    assert not torch.equal(corrected, tracked)  # clicks changed it
    segmenter.interact(0, [click(0.35, 0.5)])  # and another pass over the video leaves it
    assert torch.equal(outputs["cond_frame_outputs"][3]["pred_masks"], corrected)


def test_a_correction_shows_in_the_masks(obedient, clip):
    """A frame that was tracked as empty is all object once it is clicked, whatever is clicked after it."""
    from ivos.segmenters.sam2 import Sam2Segmenter

    segmenter = Sam2Segmenter(obedient, device="cpu")
    segmenter.start(clip.frames, 2)

    def all_but_rims(masks, frames):
        return all((masks[t] == 1).mean() > 0.95 for t in frames)

    first = segmenter.interact(0, [click(0.3, 0.5)])
    assert all_but_rims(first, [0])
    assert not first[3].any()
    assert all_but_rims(segmenter.interact(3, [click(0.5, 0.5)]), [0, 3])
    assert all_but_rims(segmenter.interact(2, [click(0.7, 0.2)]), [0, 2, 3])
    for x in (0.6, 0.5):  # and another object, later
        masks = segmenter.interact(4, [click(x, 0.4, 2)])
    assert all_but_rims(masks, [0, 2, 3])


def test_clicks_on_a_corrected_frame_one_by_one(segmenter, clip):
    """As in SAM 2's protocols: the second and third click find the frame tracked and conditioning already."""
    segmenter.start(clip.frames, 2)
    segmenter.interact(0, [click(0.3, 0.5)])
    for x in (0.2, 0.5, 0.8):
        segmenter.interact(3, [click(x, 0.5)])
    outputs = segmenter._session.output_dict_per_obj[0]
    assert 3 not in outputs["non_cond_frame_outputs"]
    assert "maskmem_features" in outputs["cond_frame_outputs"][3]
    assert segmenter._session.point_inputs_per_obj[0][3]["point_coords"].shape == (1, 1, 3, 2)


def test_an_object_that_appears_late_is_tracked_from_its_first_click(segmenter, clip):
    segmenter.start(clip.frames, 2)
    segmenter.interact(0, [click(0.3, 0.5), click(0.7, 0.6, 2, positive=False)])
    assert segmenter._session.obj_ids == [1]  # by what it is not, an object does not begin
    segmenter.interact(3, [click(0.7, 0.6, 2)])
    assert segmenter._session.obj_ids == [1, 2]
    assert 3 in segmenter._session.output_dict_per_obj[1]["cond_frame_outputs"]
    assert 4 in segmenter._session.output_dict_per_obj[1]["non_cond_frame_outputs"]


def test_goes_through_every_protocol(segmenter, clip):
    one = Clip("one", clip.frames, (clip.labels == 2).astype(np.uint8), 1)
    for protocol in (Davis(), DavisClicks(min_area=10), Sam2Offline(frames=2), Sam2Online(frames=2)):
        sample = Sample(one if isinstance(protocol, Sam2Offline) else clip)
        settings = protocol.adapt(SessionSettings(max_interactions=2, max_time=None))
        rounds = list(run_session(segmenter, sample, protocol.on(sample, settings, "J_AND_F")))
        assert 1 <= len(rounds) <= 2, protocol


def test_a_checkpoint_that_is_not_here_is_not_fetched(tmp_path):
    from ivos.segmenters.sam2 import Sam2Segmenter

    with pytest.raises(
        UserError, match=r"segmenter.checkpoint: .*cannot be loaded .*segmenter.download=true"
    ):
        Sam2Segmenter(str(tmp_path / "none"))
    with pytest.raises(UserError, match="name a folder or a model"):
        Sam2Segmenter(None)


def box(left, top, right, bottom, object_id=1):
    return {"box": [left, top, right, bottom], "object_id": object_id}


def test_a_box_is_given_as_two_points_and_replaces_earlier_prompts(segmenter, clip):
    segmenter.start(clip.frames, 2)
    segmenter.interact(0, [click(0.3, 0.5)])
    segmenter.interact(0, [click(0.35, 0.4), box(0.25, 0.25, 0.5, 0.75)])
    given = segmenter._session.point_inputs_per_obj[0][0]
    assert given["point_labels"].tolist() == [[[2, 3, 1]]]
    corners = given["point_coords"][0, 0, :2] / segmenter._side
    assert torch.equal(corners, torch.tensor([[0.25, 0.25], [0.5, 0.75]]))
    segmenter.interact(0, [click(0.9, 0.9, positive=False)])  # a click adds to the box
    assert segmenter._session.point_inputs_per_obj[0][0]["point_labels"].tolist() == [[[2, 3, 1, 0]]]
    with pytest.raises(UserError, match="object 3, but the highest object number is 2"):
        segmenter.interact(0, [box(0, 0, 0.5, 0.5, 3)])


def test_a_preview_is_the_rounds_own_and_changes_nothing(obedient, clip):
    from ivos.segmenters.sam2 import Sam2Segmenter

    one, other = (Sam2Segmenter(obedient, device="cpu") for _ in range(2))
    for each in (one, other):
        each.start(clip.frames, 1)
        each.interact(0, [click(0.3, 0.5)])
    assert one.add_object() == other.add_object() == 2
    prompts = [click(0.5, 0.5), click(0.6, 0.4, 2)]
    preview = one.preview(3, prompts)
    assert preview.any()
    assert not one.preview(3, []).any()  # as it was tracked
    masks = one.interact(3, prompts)
    assert (masks == other.interact(3, prompts)).all()
    assert (masks[3] == preview).all()
    assert (one.interact(0, [click(0.4, 0.5)]) == other.interact(0, [click(0.4, 0.5)])).all()


def edgetam(transformers):
    """EdgeTAM with its own backbone and random weights."""
    features = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    backbone = transformers.TimmWrapperConfig(architecture="repvit_m1", num_labels=2, model_args=features)
    sizes = [[32, 32], [16, 16], [8, 8]]
    vision = transformers.EdgeTamVisionConfig(backbone_config=backbone, backbone_feature_sizes=sizes)
    config = transformers.EdgeTamVideoConfig(
        vision_config=vision, image_size=128, prompt_encoder_config={"image_size": 128},
        memory_attention_rope_feat_sizes=[8, 8], memory_attention_rope_k_sizes=[4, 4],
        perceiver_resampler_num_latents=16, perceiver_resampler_num_latents_2d=16,
    )  # fmt: skip
    return transformers.EdgeTamVideoModel(config)


def sam3_tracker_config(transformers):
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 112, "window_size": 4, "global_attn_indexes": [1],
        "pretrain_image_size": 56,
    }  # fmt: skip
    vision = {"model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 128}
    decoder = {"hidden_size": 128, "mlp_dim": 32, "iou_head_hidden_dim": 32, "num_attention_heads": 2}
    return transformers.Sam3TrackerVideoConfig(
        vision_config=vision, image_size=112, prompt_encoder_config={"hidden_size": 128, "image_size": 112},
        mask_decoder_config=decoder, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32,
    )  # fmt: skip


def sam3_tracker(transformers):
    return transformers.Sam3TrackerVideoModel(sam3_tracker_config(transformers))


def sam3(transformers):
    """SAM 3 as it is published: a detector and the tracker in one checkpoint."""
    tracker = sam3_tracker_config(transformers).to_dict()
    layers = {"hidden_size": 128, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    words = {
        "model_type": "clip_text_model", "hidden_size": 16, "intermediate_size": 16, "vocab_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    detector = transformers.Sam3Config(
        vision_config=tracker["vision_config"], text_config=words, geometry_encoder_config=layers,
        detr_encoder_config=layers, detr_decoder_config={**layers, "num_queries": 4},
        mask_decoder_config={"hidden_size": 128, "num_attention_heads": 2},
    )  # fmt: skip
    config = transformers.Sam3VideoConfig(detector_config=detector.to_dict(), tracker_config=tracker)
    return transformers.Sam3VideoModel(config)


@pytest.mark.parametrize("make", [edgetam, sam3_tracker, sam3])
def test_its_relatives_are_loaded_and_run(make, clip, tmp_path):
    import transformers

    from ivos.segmenters.sam2 import Sam2Segmenter

    torch.manual_seed(0)
    saved = make(transformers).eval()
    saved.save_pretrained(tmp_path / "model")
    segmenter = Sam2Segmenter(str(tmp_path / "model"), device="cpu")
    expected = getattr(saved, "tracker_model", saved).state_dict()
    if make is sam3:  # the tracker shares the detector's backbone
        expected |= {f"vision_encoder.neck.{name}": w for name, w in saved.tracker_neck.state_dict().items()}
        backbone = saved.detector_model.vision_encoder.backbone.state_dict()
        expected |= {f"vision_encoder.backbone.{name}": weight for name, weight in backbone.items()}
    found = segmenter.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())
    assert isinstance(segmenter, AdoptingSegmenter)
    segmenter.start(clip.frames, 2)
    segmenter.interact(0, [click(0.3, 0.5)])
    prompts = [click(0.7, 0.6, 2), box(0.2, 0.2, 0.5, 0.8)]
    preview = segmenter.preview(3, prompts)
    assert (segmenter.interact(3, prompts)[3] == preview).all()
    segmenter.adopt(4, clip.labels[4])
    masks = segmenter.interact(4, [])
    assert masks.shape == clip.labels.shape
    assert (masks[4] == clip.labels[4]).all()


def test_another_kind_of_model_is_named(tmp_path):
    from ivos.segmenters.sam2 import load_sam2

    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"is a bert, not one of sam2, sam2_video, .*, sam3_video"):
        load_sam2(tmp_path)

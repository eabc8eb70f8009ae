"""Tests that training on two processes equals training on one, and that both end together."""

import itertools
import re

import numpy as np
import pytest
import torch

from ivos.data.training import NumberedLoader
from tests.support import two


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As the processes that this one is compared with: sums over more threads round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


KINDS = list(two.KINDS)


@pytest.fixture(scope="module")
def copies(root):
    """What two processes found, by what they did: two results each."""
    found = two.run_two(two.train_all, root)
    return {name: [each[name] for each in found] for name in found[0]}


@pytest.fixture(scope="module")
def single(root):
    """The same done by one process with the double batch."""
    options = {"batch_size": 4, "freeze_batch_norm": True, "val_clips": 0}
    return {kind: two.fit(kind, root, **options)[1] for kind in KINDS}


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float(np.abs(one[key].astype(float) - other[key]).max()) for key in one)


def check_like_one(pair, single):
    first, second = pair
    check_equal(first["states"], second["states"])
    assert first["masks"] != second["masks"]  # else a mean of means would do
    for step, state in enumerate(single["states"]):
        assert first["names"][step] + second["names"][step] == single["names"][step]
        assert largest_difference(first["states"][step], state) < 1e-6
        losses = [found["losses"][step] for found in (first, second, single)]
        assert losses == pytest.approx([losses[2]] * 3, abs=1e-6)


def check_equal(first, second):
    assert len(first) == len(second) == 2
    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in one)
    assert largest_difference(*first) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_two_are_like_one_with_the_double_batch(kind, copies, single):
    """Frozen batch norm, no dropout; weights are equal on both after each step."""
    check_like_one(copies[kind], single[kind])


def test_batch_norm_and_dropout(copies):
    """Statistics are equal, too; what is dropped is not."""
    first, second = copies["as usual"]
    check_equal(first["states"], second["states"])
    means = [key for key in first["states"][0] if key.startswith("network.tnet") and "running_mean" in key]
    assert all((first["states"][1][key] != first["states"][0][key]).any() for key in means)
    assert not set(first["seeds"]) & set(second["seeds"])


def check_validation(pair, root, kind, clips):
    expected = two.fit(kind, root, val_clips=clips, **two.STILL)[1]["figures"]
    expected = {name: value for name, value in expected.items() if name.startswith("val/")}
    assert 0.05 < expected["val/J"] < 0.95
    assert len(expected) == (3 if kind == "anet" else 5)
    for found in pair:
        figures = {name: value for name, value in found["figures"].items() if name.startswith("val/")}
        assert figures == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("clips", [3, 1])
@pytest.mark.parametrize("kind", ["anet", "tnet"])
def test_validation_does_not_depend_on_the_processes(kind, clips, copies, root):
    """Three clips: two for one process, one for the other. One clip: none for the other."""
    check_validation(copies[f"{kind} on {clips}"], root, kind, clips)


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 0), (3, 0), (2, 2)])
def test_every_sample_once_an_epoch_and_in_one_order(world_size, num_workers):
    class Numbers:
        def __getitem__(self, number):
            return number

    def epochs(rank):
        loader = NumberedLoader(Numbers(), 2, 3, rank, world_size, num_workers=num_workers)
        loader.collate_fn = list
        return [list(loader), list(loader)]

    of_ranks = [epochs(rank) for rank in range(world_size)]
    size = 2 * 3 * world_size
    for epoch in range(2):
        batches = zip(*(found[epoch] for found in of_ranks), strict=True)
        order = list(itertools.chain.from_iterable(itertools.chain.from_iterable(batches)))
        assert order == list(range(epoch * size, (epoch + 1) * size))


def test_not_a_number_on_one_process_stops_both_and_names_its_batch(root):
    first, second = two.run_two(two.poison, root)
    assert first == second
    assert "training stopped before step 2 of Poisoned: the loss is nan" in first
    (batch,) = re.findall(r"batch: (.*)", first)
    assert batch.count("objects") == 2  # of the two samples of one of the processes

"""From an axis of single pixels to one path through each of its pieces, the longest.

Where several paths would do, which one it is follows from the order in which pixels and their neighbours are
looked at. It is the order of the DAVIS robot (davisinteractive 1.0.4 with NetworkX 3 and scikit-learn), so
that both draw the same strokes:

- A pixel's number is its place in row-major order. Its neighbours with lower numbers come first, ascending;
  then the others, by their place in the leaves of scikit-learn's k-d tree over all pixels (of fewer than 12
  pixels: ascending, too).
- The pieces come in the order of their first pixels. A piece with half of all pixels or more is looked at in
  the order of its pixels' numbers; a smaller one in the order in which Python walks through the set of them.
  Neighbours that are looked at before a pixel itself then come first among its neighbours.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KDTree

Neighbours = dict[int, list[int]]  # of each pixel of a piece, in the order in which they are looked at

_LATER = ((0, 1), (1, -1), (1, 0), (1, 1))  # rows and columns to the neighbours with higher numbers
_LEAF = 30  # pixels in a leaf of the tree, and its other bound: scikit-learn's defaults
_SMALLEST_TREE = 12


def longest_paths(axis: NDArray[np.bool_], min_nb_nodes: int) -> list[NDArray[np.int64]]:
    """Return the longest path through each 8-connected piece of an axis, once its cycles are cut open.

    Args:
        axis: [h, w], lines of single pixels as a rule.
        min_nb_nodes: pieces of fewer pixels get no path.

    Returns:
        for each piece the pixels (x, y) of its path, int [P, 2], in the order of the pieces' first pixels.
    """
    rows, columns = np.nonzero(axis)
    if not len(rows):
        return []
    points = np.column_stack([columns, rows])
    place = points.tolist()
    paths = []
    for piece in _pieces(_neighbours(axis, points)):
        if len(piece) < min_nb_nodes:
            continue
        if sum(map(len, piece.values())) > 2 * (len(piece) - 1):
            piece = _cut_open(piece, place)
        one_end = _farthest(piece, next(iter(piece)))[-1]
        paths.append(points[_farthest(piece, one_end)])
    return paths


def _neighbours(axis: NDArray[np.bool_], points: NDArray[np.int64]) -> list[list[int]]:
    """Return the numbers of each pixel's neighbours in their order."""
    count = len(points)
    number = np.full(np.add(axis.shape, 2), -1)
    x, y = points.T + 1
    number[y, x] = np.arange(count)
    later = np.stack([number[y + dy, x + dx] for dy, dx in _LATER], axis=1)
    low, side = np.nonzero(later >= 0)
    high = later[low, side]
    rank = np.arange(count)
    if count >= _SMALLEST_TREE:
        rank[KDTree(points, leaf_size=_LEAF).get_arrays()[1]] = np.arange(count)
    # After each pixel's lower neighbours (their numbers) its higher ones (their ranks, beyond all numbers).
    pixel, neighbour = np.concatenate([high, low]), np.concatenate([low, high])
    order = np.lexsort((np.concatenate([low, count + rank[high]]), pixel))
    ends = np.cumsum(np.bincount(pixel, minlength=count)).tolist()
    flat = neighbour[order].tolist()
    return [flat[start:end] for start, end in pairwise([0, *ends])]


def _pieces(neighbours: list[list[int]]) -> Iterator[Neighbours]:
    """Return the connected pieces."""
    known: set[int] = set()
    for first in range(len(neighbours)):
        if first in known:
            continue
        found, queue = {first}, [first]
        for pixel in queue:
            for other in neighbours[pixel]:
                if other not in found:
                    found.add(other)
                    queue.append(other)
        known |= found
        # How a set was filled shows in the order in which Python walks through it, hence the second one.
        walked = list(set(iter(found))) if 2 * len(found) < len(neighbours) else sorted(found)
        piece: dict[int, dict[int, None]] = {pixel: {} for pixel in walked}
        for pixel in walked:
            for other in neighbours[pixel]:
                piece[pixel][other] = piece[other][pixel] = None  # keeps its place if it has one
        yield {pixel: list(others) for pixel, others in piece.items()}


def _cut_open(piece: Neighbours, place: list[list[int]]) -> Neighbours:
    """Return a piece without its cycles.

    They are met in the course of a depth-first walk from the first pixel. Of each the first diagonal step is
    taken out, or the first of all if none is diagonal, and the walk goes back to where that step began.
    """
    first = next(iter(piece))
    path, tried, depth = [first], [0], {first: 0}  # the walk; how many neighbours of each were tried
    cut: set[tuple[int, int]] = set()
    while path:
        pixel = path[-1]
        if tried[-1] == len(piece[pixel]):
            tried.pop()
            del depth[path.pop()]
            continue
        other = piece[pixel][tried[-1]]
        tried[-1] += 1
        if (pixel, other) in cut or (len(path) > 1 and other == path[-2]):
            continue
        if other not in depth:
            depth[other] = len(path)
            path.append(other)
            tried.append(0)
            continue
        steps = list(pairwise([*path[depth[other] :], other]))
        start, end = next((step for step in steps if _is_diagonal(place, *step)), steps[0])
        cut |= {(start, end), (end, start)}
        back = depth[start] + 1
        for undone in path[back:]:
            del depth[undone]
        del path[back:], tried[back:]
    return {pixel: [o for o in others if (pixel, o) not in cut] for pixel, others in piece.items()}


def _is_diagonal(place: list[list[int]], one: int, other: int) -> bool:
    return place[one][0] != place[other][0] and place[one][1] != place[other][1]


def _farthest(tree: Neighbours, start: int) -> list[int]:
    """Return the path from a pixel to the farthest one, of several the first found breadth first."""
    came_from, level, end = {start: start}, [start], start
    while level:
        end, reached = level[0], []
        for pixel in level:
            for other in tree[pixel]:
                if other not in came_from:
                    came_from[other] = pixel
                    reached.append(other)
        level = reached
    path = [end]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]

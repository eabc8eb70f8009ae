"""The longest path through each connected component of a medial axis.

If a component has several longest paths, the result depends on the order in which pixels and their neighbours
are visited. This module uses the order of the DAVIS robot (davisinteractive 1.0.4 with NetworkX 3 and
scikit-learn), so that both draw the same strokes:

- Pixels are numbered in row-major order. Among the neighbours of a pixel, those with lower numbers come first
  in ascending order. The others follow in the order of the leaves of scikit-learn's k-d tree over all pixels,
  or in ascending order if there are fewer than 12 pixels.
- Components are ordered by their first pixels. A component with at least half of all pixels is visited in the
  order of its pixels' numbers, a smaller one in the iteration order of a Python set of them. Neighbours that
  are visited before a pixel then come first among its neighbours.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KDTree

Neighbours = dict[int, list[int]]  # neighbours of each pixel of a component, in the order of the visits

_LATER = ((0, 1), (1, -1), (1, 0), (1, 1))  # offsets (row, column) of the neighbours with higher numbers
_LEAF = 30  # most pixels in a leaf of the k-d tree, as in scikit-learn's neighbour search
_SMALLEST_TREE = 12  # smallest number of pixels for which scikit-learn uses a k-d tree


def longest_paths(axis: NDArray[np.bool_], min_nb_nodes: int) -> list[NDArray[np.int64]]:
    """Return the longest path through each 8-connected component of an axis, after its cycles are cut.

    Args:
        axis: Mask [h, w] of the axis, which mostly consists of lines of one pixel's width.
        min_nb_nodes: Smallest number of pixels of a component; smaller components get no path.

    Returns:
        The pixels (x, y) of the path, int [P, 2], for each component in the order of their first pixels.
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
    """Return the numbers of each pixel's neighbours in the order of the DAVIS robot."""
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
    # Sort the lower neighbours of each pixel by their numbers, and the higher ones after them by their ranks.
    pixel, neighbour = np.concatenate([high, low]), np.concatenate([low, high])
    order = np.lexsort((np.concatenate([low, count + rank[high]]), pixel))
    ends = np.cumsum(np.bincount(pixel, minlength=count)).tolist()
    flat = neighbour[order].tolist()
    return [flat[start:end] for start, end in pairwise([0, *ends])]


def _pieces(neighbours: list[list[int]]) -> Iterator[Neighbours]:
    """Yield the connected components, with pixels and neighbours in the order of the DAVIS robot."""
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
        # The iteration order of a set depends on how it was filled; a copy from its iterator has the order of
        # the DAVIS robot.
        walked = list(set(iter(found))) if 2 * len(found) < len(neighbours) else sorted(found)
        piece: dict[int, dict[int, None]] = {pixel: {} for pixel in walked}
        for pixel in walked:
            for other in neighbours[pixel]:
                piece[pixel][other] = piece[other][pixel] = None  # an existing key keeps its position
        yield {pixel: list(others) for pixel, others in piece.items()}


def _cut_open(piece: Neighbours, place: list[list[int]]) -> Neighbours:
    """Return a component without its cycles.

    Cycles are found by a depth-first search from the first pixel. From each cycle the first diagonal edge is
    removed, or the first edge if none is diagonal, and the search continues at the start of that edge.
    """
    first = next(iter(piece))
    # `path` has the pixels of the search path, `tried` the numbers of their visited neighbours.
    path, tried, depth = [first], [0], {first: 0}
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
    """Return the path from a pixel to the farthest one; of several, the first one in breadth-first order."""
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

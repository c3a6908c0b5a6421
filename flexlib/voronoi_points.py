"""Rules for the points around which a grid is linearised.

Every rule gives activations within the bids' bounds, one row a point, columns the axes. Free
reactive power is zero at every point.
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.stats import qmc

from flexlib.bids import Bids
from flexlib.errors import DataError, Fault


def none_half_all(bids: Bids, direction: str) -> np.ndarray:
    """Return the source's three points (section 5): nothing, half and all of the bids activated.

    Parameters
    ----------
    bids : Bids
    direction : {"up", "down"}
        Which volumes.

    Returns
    -------
    numpy.ndarray, shape (3, axes)
    """
    return np.outer([0.0, 0.5, 1.0], _volume(bids, direction))


def merit_order(bids: Bids, requests_kw: np.ndarray) -> np.ndarray:
    """Cheapest activations for some requests, as if there were no grid.

    Parameters
    ----------
    bids : Bids
    requests_kw : numpy.ndarray, shape (m,)
        Upward positive; each upward request takes upward bids only, each downward one downward.

    Returns
    -------
    numpy.ndarray, shape (m, axes)
    """
    points = np.zeros((len(requests_kw), len(bids.axes)))
    for point, request_kw in zip(points, requests_kw, strict=True):
        bids.assert_request(request_kw)
        direction = "up" if request_kw >= 0 else "down"
        volume = np.abs(_volume(bids, direction))
        order = np.argsort(bids.axes[f"price_{direction}"].to_numpy(), kind="stable")
        before = np.cumsum(volume[order]) - volume[order]
        taken = np.clip(abs(request_kw) - before, 0, volume[order])
        point[order] = np.sign(request_kw) * taken
    return points


def latin_hypercube(bids: Bids, count: int, seed: int, direction: str) -> np.ndarray:
    """Latin hypercube sample of the box of activations.

    Parameters
    ----------
    bids : Bids
    count, seed : int
    direction : {"up", "down"}

    Returns
    -------
    numpy.ndarray, shape (count, axes)
    """
    sampler = qmc.LatinHypercube(len(bids.axes), rng=np.random.default_rng(seed))
    return np.asarray(sampler.random(count) * _volume(bids, direction))


def k_means(bids: Bids, count: int, seed: int, direction: str, sample: int = 2000) -> np.ndarray:
    """Centres of clusters of activations drawn from the box.

    Each drawn activation takes the bids in a random order of merit up to a random request, so
    that the sample looks like what markets clear.

    Parameters
    ----------
    bids : Bids
    count, seed : int
    direction : {"up", "down"}
    sample : int
        Activations drawn.

    Returns
    -------
    numpy.ndarray, shape (count, axes)
    """
    rng = np.random.default_rng(seed)
    volume = _volume(bids, direction)
    order = rng.permuted(np.tile(np.arange(len(volume)), (sample, 1)), axis=1)
    width = np.abs(volume)[order]
    before = np.cumsum(width, axis=1) - width
    request = rng.uniform(0, np.abs(volume).sum(), (sample, 1))
    drawn = np.zeros((sample, len(volume)))
    np.put_along_axis(drawn, order, np.clip(request - before, 0, width), axis=1)
    centres, _ = kmeans2(drawn * np.sign(volume), count, minit="++", rng=rng)
    return np.asarray(centres)


def _volume(bids: Bids, direction: str) -> np.ndarray:
    """Whole volume of every active axis in one direction, signed; zero for reactive axes."""
    if direction not in ("up", "down"):
        raise DataError([Fault("points", "", "direction", repr(direction), "'up' or 'down'")])
    side = bids.upper if direction == "up" else bids.lower
    return np.where(bids.active, side, 0.0)

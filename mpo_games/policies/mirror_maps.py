r"""Geometries of the simplex: what "close" means in a mirror step.

A geometry is a mirror map $h$. A policy is stored by its coordinates $\theta = \nabla h(p)$, and
the mirror step is the same formula in every geometry:

$$\theta' = \Pi\!\left(\frac{\theta + \eta\,q + \eta\alpha\,\theta_\rho}{1+\eta\alpha}\right)$$

where $\Pi$ maps back to the coordinates of a policy. In every geometry the coordinate of an illegal
action is `-inf`. That of a legal action is always finite, so a probability that has underflowed to
0 can rise again.

Shapes: coordinates, probabilities and `q` are `(..., rows, actions)`, with independent runs on the
leading axes. `q` and `alpha` are in units of payoff, `eta` in 1 / payoff. Divergences are in nats,
except in `Euclidean`, where they have no unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mpo_games.checks import is_number
from mpo_games.kernels.scaled import root_of_squares
from mpo_games.kernels.tables import (
    EDGE,
    LOG_ZERO,
    entropy_step,
    log_coordinates,
    smoothed_inverse_hessian,
    smoothed_step,
    unsmoothed,
    weighted_squares,
)
from mpo_games.labelled import shown
from mpo_games.protocol import Array, Mask, Number


class Geometry(Protocol):
    """A mirror map of the simplex, applied to each row of arrays `(..., rows, actions)`."""

    def step(
        self, theta: Array, q: Array, magnet: Array | None, eta: Number, alpha: Number
    ) -> Array:
        """The coordinates after a mirror step from `theta`, `(..., rows, actions)`.

        `magnet` holds the magnet's coordinates; if it is None, there is no pull, whatever `alpha`
        is. `eta` and `alpha` are floats, or arrays that broadcast against `(..., rows, actions)`.
        """
        ...

    def probs(self, theta: Array) -> Array:
        """The probabilities at coordinates `theta`; 0 at illegal actions."""
        ...

    def coordinates(self, probs: Array, legal: Mask) -> Array:
        """The coordinates of `probs`; `-inf` where `legal` is False."""
        ...

    def divergence(self, theta: Array, other: Array) -> Array:
        """The Bregman divergence `D(theta || other)` of each row, shape `(..., rows)`."""
        ...

    def inverse_hessian(self, theta: Array) -> Array:
        """The diagonal of the inverse Hessian of `h`; 0 at actions that are not played."""
        ...


@dataclass(frozen=True, slots=True)
class Entropy:
    """Negative entropy: coordinates are log-probabilities, the divergence is KL in nats.

    >>> Entropy().probs(np.log([[0.25, 0.75]]))
    array([[0.25, 0.75]])
    """

    def step(
        self, theta: Array, q: Array, magnet: Array | None, eta: Number, alpha: Number
    ) -> Array:
        """`log p' = log_softmax((log p + eta q + eta alpha log magnet) / (1 + eta alpha))`."""
        # The kernel needs an array; with `alpha = 0` it has no effect.
        if magnet is None:
            magnet, alpha = theta, 0.0
        # One setting for all rows goes to the kernel, which takes numbers; arrays go to NumPy.
        if not (isinstance(eta, np.ndarray) or isinstance(alpha, np.ndarray)):
            eta, alpha = float(eta), float(alpha)
            # Without broadcasting, which takes longer than the step of a small table.
            if theta.ndim == 2 and q.shape == theta.shape == magnet.shape:
                return entropy_step(theta, q, magnet, eta, alpha)
            shape = np.broadcast_shapes(theta.shape, q.shape, magnet.shape)
            flat = [rows(x, shape) for x in (theta, q, magnet)]
            return entropy_step(flat[0], flat[1], flat[2], eta, alpha).reshape(shape)
        return _log_normalise(_mean(theta, q, magnet, eta, alpha))

    def probs(self, theta: Array) -> Array:
        """`exp(theta)`."""
        return np.asarray(np.exp(theta))

    def coordinates(self, probs: Array, legal: Mask) -> Array:
        """`log(probs)`; `LOG_ZERO` for a legal probability of 0, `-inf` where illegal."""
        shape = probs.shape
        flat = log_coordinates(rows(probs, shape), rows(legal, shape), LOG_ZERO)
        return flat.reshape(shape)

    def divergence(self, theta: Array, other: Array) -> Array:
        """`KL(theta || other) = sum_a p(a) (log p(a) - log r(a))`."""
        p = np.exp(theta)
        # Only where p > 0: at illegal actions the difference would be -inf - (-inf), which is NaN.
        gap = np.subtract(theta, other, out=np.zeros(np.broadcast(theta, other).shape), where=p > 0)
        return np.asarray(np.sum(p * gap, axis=-1))

    def inverse_hessian(self, theta: Array) -> Array:
        """`p`."""
        return np.asarray(np.exp(theta))


@dataclass(frozen=True, slots=True)
class SmoothedEntropy:
    r"""The negative entropy of a policy with a share $\gamma$ of uniform play $u$ mixed in.

    $$h(p) = \frac{1}{1-\gamma}\sum_a \pi_a\log\pi_a,\qquad \pi = (1-\gamma)\,p + \gamma\,u$$

    Coordinates are $\log\pi$. A mirror step is the KL step on $\pi$ under the constraint
    $\pi\ge\gamma u$: clip and renormalise. The Hessian is bounded at the boundary, so an action of
    probability 0 comes back as fast as it went. In plain entropy this takes as long as the action
    was away. $\gamma\to 0$ gives the entropy, $\gamma\to 1$ the Euclidean geometry.

    A sampler that can only draw from $\pi$ plays $p$ by rejection: it accepts action $a$ with
    probability $1 - \gamma u_a/\pi_a$ and otherwise draws again.

    >>> start = load('comal').initial_policy().within(SmoothedEntropy(0.9))
    >>> start.probs.round(3)
    array([[0.333, 0.333, 0.333]])
    """

    gamma: float = 0.9
    """The share of uniform play, strictly between 0 and 1."""

    def __post_init__(self) -> None:
        if not (is_number(self.gamma) and 0.0 < self.gamma < 1.0):
            raise ValueError(f"`gamma` must lie strictly between 0 and 1, got {shown(self.gamma)}.")

    def step(
        self, theta: Array, q: Array, magnet: Array | None, eta: Number, alpha: Number
    ) -> Array:
        r"""$\log\pi' = \log\max(e^c/Z, \gamma u)$.

        $c$ is the argument of $\Pi$ in the formula of this module, and $Z$ is the number for which
        $\pi'$ sums to 1.
        """
        if magnet is None:
            magnet, alpha = theta, 0.0
        # The kernel takes one setting: with several, NumPy computes `c` and the kernel only clips.
        if isinstance(eta, np.ndarray) or isinstance(alpha, np.ndarray):
            z = _mean(theta, q, magnet, eta, alpha)
            theta, q, magnet, eta, alpha = z, np.zeros_like(z), z, 0.0, 0.0
        eta, alpha = float(eta), float(alpha)
        if theta.ndim == 2 and q.shape == theta.shape == magnet.shape:
            return smoothed_step(theta, q, magnet, eta, alpha, self.gamma)
        shape = np.broadcast_shapes(theta.shape, q.shape, magnet.shape)
        flat = [rows(x, shape) for x in (theta, q, magnet)]
        return smoothed_step(flat[0], flat[1], flat[2], eta, alpha, self.gamma).reshape(shape)

    def probs(self, theta: Array) -> Array:
        """`(exp(theta) - gamma u) / (1 - gamma)`; 0 at illegal actions."""
        return unsmoothed(rows(theta, theta.shape), self.gamma).reshape(theta.shape)

    def coordinates(self, probs: Array, legal: Mask) -> Array:
        """`log((1 - gamma) probs + gamma u)`; `-inf` where illegal."""
        uniform = legal / np.sum(legal, axis=-1, keepdims=True)
        mixed = (1.0 - self.gamma) * probs + self.gamma * uniform
        log_pi = np.full(mixed.shape, -np.inf)
        np.log(mixed, out=log_pi, where=np.broadcast_to(legal, mixed.shape))
        return log_pi

    def divergence(self, theta: Array, other: Array) -> Array:
        """`KL(pi || pi_other) / (1 - gamma)`."""
        return Entropy().divergence(theta, other) / (1.0 - self.gamma)

    def inverse_hessian(self, theta: Array) -> Array:
        """`pi / (1 - gamma)` where `p > 0`."""
        shape = theta.shape
        return smoothed_inverse_hessian(rows(theta, shape), self.gamma, EDGE).reshape(shape)


@dataclass(frozen=True, slots=True)
class Euclidean:
    """Half the squared norm: coordinates are the probabilities themselves.

    >>> start = TabularPolicy.from_probs([[0.5, 0.5]], geometry=Euclidean())
    >>> start.mirror_step(np.array([[1.0, 0.0]]), None, eta=0.2, alpha=0.0).probs
    array([[0.6, 0.4]])
    """

    def step(
        self, theta: Array, q: Array, magnet: Array | None, eta: Number, alpha: Number
    ) -> Array:
        """The projection of `(p + eta q + eta alpha magnet) / (1 + eta alpha)` onto the simplex."""
        legal = theta != -np.inf
        z = np.where(legal, theta, 0.0) + eta * q
        if magnet is not None:
            z = (z + eta * alpha * np.where(legal, magnet, 0.0)) / (1.0 + eta * alpha)
        return _project(np.where(legal, z, -np.inf))

    def probs(self, theta: Array) -> Array:
        """`theta`; 0 at illegal actions."""
        return np.asarray(np.maximum(theta, 0.0))

    def coordinates(self, probs: Array, legal: Mask) -> Array:
        """`probs`; `-inf` where illegal."""
        return np.where(legal, probs, -np.inf)

    def divergence(self, theta: Array, other: Array) -> Array:
        """`|p - r|^2 / 2`."""
        return np.asarray(0.5 * np.sum((self.probs(theta) - self.probs(other)) ** 2, axis=-1))

    def inverse_hessian(self, theta: Array) -> Array:
        """1 where `p > 0`."""
        return np.asarray(theta > 0.0, dtype=np.float64)


def _mean(theta: Array, q: Array, magnet: Array, eta: Number, alpha: Number) -> Array:
    """`(theta + eta q + eta alpha magnet) / (1 + eta alpha)`; `-inf` where `theta` is `-inf`."""
    legal = theta != -np.inf
    pull = np.where(legal, magnet, 0.0)
    return np.where(legal, (theta + eta * (q + alpha * pull)) / (1.0 + eta * alpha), -np.inf)


def rows(x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """`x`, broadcast to `shape` and flattened to `(all rows, actions)`, as the kernels take it."""
    if x.shape != shape:
        x = np.broadcast_to(x, shape)
    return (
        x
        if x.ndim == 2 and x.flags.c_contiguous
        else np.ascontiguousarray(x).reshape(-1, shape[-1])
    )


def _log_normalise(z: Array) -> Array:
    z = z - np.max(z, axis=-1, keepdims=True)
    return np.asarray(z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True)))


def _project(z: Array) -> Array:
    """The nearest point of the simplex, by the sorted-threshold rule; `-inf` stays `-inf`."""
    legal = z != -np.inf
    # A shift changes no projection, and near 0 the rounding errors of large payoffs are smaller.
    z = z - np.max(z, axis=-1, keepdims=True)
    ordered = -np.sort(-z, axis=-1)
    finite = np.where(ordered > -np.inf, ordered, 0.0)
    count = np.arange(1, z.shape[-1] + 1)
    threshold = (np.cumsum(finite, axis=-1) - 1.0) / count
    kept = np.sum(ordered > threshold, axis=-1, keepdims=True)
    p = np.maximum(z - np.take_along_axis(threshold, kept - 1, axis=-1), 0.0)
    return np.where(legal, p / np.sum(p, axis=-1, keepdims=True), -np.inf)


def length(weights: Array, q: Array, centred: bool) -> float:
    """The root of the weighted squares of `q`, less the mean of each row if `centred`."""
    shape = np.broadcast_shapes(weights.shape, q.shape)
    weights = rows(weights, shape)
    return root_of_squares(lambda q: weighted_squares(weights, q, centred), rows(q, shape))

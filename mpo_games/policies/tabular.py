"""Policies that are tables: a row of probabilities per player, context or information state."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import (
    WrongKind,
    distributions,
    has_verbs,
    legal_mask,
    require_forward,
    require_no_pull,
    require_shape,
    require_share,
)
from mpo_games.kernels.tables import (
    advantages,
    proportional,
    symmetrised,
)
from mpo_games.labelled import Labels, read, shown
from mpo_games.policies.mirror_maps import Entropy, Geometry, length, rows
from mpo_games.policies.tables import in_words, of_rows
from mpo_games.protocol import Array, Mask, Mixture, Number
from mpo_games.table import Table

ILLEGAL = np.array(-np.inf)
"""The coordinate of an illegal action. It is an array, because a comparison with an array takes
half the time of a comparison with a float."""

_put = object.__setattr__


@dataclass(frozen=True, slots=True, eq=False, init=False)
class TabularPolicy:
    """A row-wise distribution over actions, `(..., rows, actions)`, in a `geometry`.

    Rows are players (`MatrixGame`), contexts (`PreferenceGame`) or information states. Leading
    axes are a batch of independent runs. Shorter rows are padded with illegal actions
    (coordinate `-inf`). Build one with `uniform` or `from_probs`.

    >>> TabularPolicy.from_probs([[0.25, 0.75]], actions=(('left', 'right'),))
    TabularPolicy: left 0.25, right 0.75
    """

    coordinates: Array
    """The mirror coordinates (log-probabilities in the entropy geometry)."""
    geometry: Geometry = Entropy()
    actions: tuple[Labels, ...] = ()
    """The names of the actions, a tuple for each row or one for all rows; or nothing."""
    rows: Labels = ()
    """The names of the rows, or nothing."""

    def __init__(
        self,
        coordinates: Array,
        geometry: Geometry = Entropy(),
        actions: tuple[Labels, ...] = (),
        rows: Labels = (),
    ) -> None:
        # By hand, because a step makes a policy and the generated constructor is slower.
        put = _put
        put(self, "coordinates", coordinates)
        put(self, "geometry", geometry)
        put(self, "actions", actions)
        put(self, "rows", rows)

    @classmethod
    def uniform(
        cls,
        legal: ArrayLike,
        geometry: Geometry = Entropy(),
        actions: tuple[Labels, ...] = (),
        rows: Labels = (),
    ) -> TabularPolicy:
        """Uniform over each row's legal actions; `legal` is boolean, `(..., rows, actions)`."""
        mask = legal_mask(legal, actions)
        if mask.ndim < 2 or 0 in mask.shape or not mask.any(axis=-1).all():
            raise ValueError(
                "`legal` must be (..., rows, actions) with a legal action in every row."
            )
        uniform = mask / mask.sum(axis=-1, keepdims=True)
        return cls.from_probs(uniform, mask, geometry, actions, rows)

    @classmethod
    def from_probs(
        cls,
        probs: ArrayLike,
        legal: ArrayLike | None = None,
        geometry: Geometry = Entropy(),
        actions: tuple[Labels, ...] = (),
        rows: Labels = (),
    ) -> TabularPolicy:
        """The policy with the given probabilities, `(..., rows, actions)`, each row summing to 1.

        A legal probability of 0 is stored as a finite logarithm, so that it can come back. The sums
        of float32, and of coarser types, need to be 1 up to their rounding only. The names that a
        table gives its columns become `actions`, unless these are given.
        Raises `ValueError` for anything that is not a distribution on the legal actions.
        """
        found = read(probs, "probs")
        if found.values.ndim < 2 or 0 in found.values.shape:
            raise ValueError(
                "`probs` must be (..., rows, actions), with no axis empty, "
                f"got shape {found.values.shape}."
            )
        names = found.labels[-1]
        if names is not None and not actions:
            actions = (names,)
        for row in actions:
            found = found.aligned(-1, row, "probs")
        p = distributions(found.values, "probs", found.rounding)
        mask = np.ones(p.shape, dtype=bool) if legal is None else legal_mask(legal, actions)
        try:
            mask = np.broadcast_to(mask, p.shape)
        except ValueError:
            raise ValueError(f"`legal` has shape {mask.shape}, `probs` {p.shape}.") from None
        if (p * ~mask).any():
            raise ValueError("`probs` gives weight to an illegal action.")
        if not has_verbs(geometry, "coordinates"):
            raise ValueError(f"`geometry` must be one like `Entropy()`, got {shown(geometry)}.")
        return cls(geometry.coordinates(p, mask), geometry, actions, rows)

    @property
    def probs(self) -> Array:
        """Probabilities, `(..., rows, actions)`; 0 at illegal actions."""
        return self.geometry.probs(self.coordinates)

    @property
    def log_probs(self) -> Array:
        """Log-probabilities; `-inf` at illegal actions, finite at legal ones."""
        if isinstance(self.geometry, Entropy):
            return self.coordinates
        return Entropy().coordinates(self.probs, self.legal)

    @property
    def legal(self) -> Mask:
        """Boolean mask of the legal actions."""
        return np.asarray(self.coordinates != ILLEGAL)  # NaN is legal, so that it is not hidden

    def mirror_step(
        self,
        q: Array,
        magnet: Self | None,
        *,
        eta: Number,
        alpha: Number,
        player: int | None = None,
    ) -> Self:
        """The closed-form step of the geometry (Sokota et al. 2023, MMD); see `Policy.mirror_step`.

        `eta` and `alpha` are floats, or arrays that broadcast against `(..., rows, actions)`
        (many settings in one batch). `player` changes that row only. `ValueError` for a pull
        (`alpha` other than 0) without a magnet.
        """
        if magnet is None:
            require_no_pull(alpha)
        else:
            self._require_like(magnet)
        require_forward(eta, alpha)
        self._require_values(q)
        pull = None if magnet is None else magnet.coordinates
        theta = self.geometry.step(self.coordinates, q, pull, eta, alpha)
        if player is not None:
            # One call of the kernel for all rows is faster than to cut one row out first.
            row = theta[..., player, :]
            theta = np.array(np.broadcast_to(self.coordinates, theta.shape))
            theta[..., player, :] = row
        return type(self)(theta, self.geometry, self.actions, self.rows)

    def regrets(self, q: Array, player: int | None = None) -> Array:
        """`centred(q)`, because the feedback to a table is the value of every action.

        `player` is not used: the feedback of one side is 0 in the other side's rows.
        """
        return self.centred(q)

    def centred(self, values: Array) -> Array:
        """`values - <p, values>` in every row."""
        shape = values.shape
        return advantages(rows(self.probs, shape), rows(values, shape)).reshape(shape)

    def matching(self, weights: Array, player: int | None = None) -> Self:
        """The policy in proportion to the positive `weights`, uniform in a row that has none."""
        legal = rows(self.legal, weights.shape)
        probs = proportional(rows(weights, weights.shape), legal).reshape(weights.shape)
        coordinates = self.geometry.coordinates(probs, legal.reshape(weights.shape))
        if player is not None:
            coordinates = np.where(self.owned(player), coordinates, self.coordinates)
        return type(self)(coordinates, self.geometry, self.actions, self.rows)

    def owned(self, player: int) -> Mask:
        """A mask of the rows of `player`, `(rows, 1)`."""
        return np.asarray(np.arange(self.coordinates.shape[-2]) == player)[:, None]

    def penalise(self, q: Array, magnet: Self, *, alpha: Number) -> Array:
        """`q - alpha * grad D(self || magnet)`: for entropy `q - alpha * log(self / magnet)`."""
        self._require_like(magnet)
        shape = np.broadcast_shapes(self.coordinates.shape, magnet.coordinates.shape)
        drift = np.subtract(
            self.coordinates, magnet.coordinates, out=np.zeros(shape), where=self.legal
        )
        return np.asarray(q - alpha * drift)

    def mix(self, other: Self, weight: float) -> Self:
        """`self^(1 - weight) other^weight`, normalised (in other geometries: their own mean).

        `0 <= weight <= 1`, else `ValueError`.
        """
        self._require_like(other)
        require_share("weight", weight)
        shape = np.broadcast_shapes(self.coordinates.shape, other.coordinates.shape)
        # At weight 0 or 1 a product of 0 and -inf would be NaN: illegal entries are left out.
        mean = np.full(shape, -np.inf)
        np.multiply(self.coordinates, 1.0 - weight, out=mean, where=self.legal)
        np.add(mean, weight * np.where(self.legal, other.coordinates, 0.0), out=mean)
        zero = np.zeros(shape)
        return self.replace(self.geometry.step(mean, zero, None, 1.0, 0.0))

    def smooth(self, share: float) -> Self:
        """`(1 - share) self + share uniform` over every row's legal actions; `0 <= share <= 1`."""
        require_share("share", share)
        legal = self.legal
        uniform = legal / legal.sum(axis=-1, keepdims=True)
        probs = (1.0 - share) * self.probs + share * uniform
        return self.replace(self.geometry.coordinates(probs, legal))

    def snapshot(self) -> Self:
        """The policy itself: tables are immutable."""
        return self

    def with_side(self, other: Self, player: int) -> Self:
        """The policy whose `player` plays like `other`."""
        self._require_like(other)
        coordinates = self.coordinates.copy()
        coordinates[..., player, :] = other.coordinates[..., player, :]
        return self.replace(coordinates)

    @property
    def extent(self) -> float:
        """The unit of `distance`: 1, because log-probabilities have no unit."""
        return 1.0

    def distance(self, other: TabularPolicy) -> float:
        r"""The local distance from `other`, over all rows and games together: the root of the
        symmetrised divergence $\langle\theta-\theta',\,p-p'\rangle$."""
        self._require_like(other)
        tables = (self.coordinates, other.coordinates, self.probs, other.probs)
        return math.sqrt(max(symmetrised(*(rows(x, x.shape) for x in tables)), 0.0))

    def dual_norm(self, q: Array, other: TabularPolicy) -> float:
        r"""The length of `q` in the norm dual to `distance`, between this policy and `other`.

        $$\|q\|_*^2 = \min_c \sum_a H^{-1}_a (q_a - c)^2$$

        in every row, with $H^{-1}$ the mean of both policies' inverse Hessians.
        """
        weights = self.geometry.inverse_hessian(self.coordinates)
        # In its opening `popov` asks for the norm at one point, which is half the work.
        if other is not self:
            self._require_like(other)
            weights = 0.5 * (weights + self.geometry.inverse_hessian(other.coordinates))
        self._require_values(q)
        return length(weights, q, True)

    def magnitude(self, q: Array) -> float:
        """The dual norm of `q` with every `c` at 0: the scale of its rounding errors."""
        weights = self.geometry.inverse_hessian(self.coordinates)
        self._require_values(q)
        return length(weights, q, False)

    @property
    def point(self) -> Array:
        """The policy as the point in which utilities are linear: its probabilities."""
        return self.probs

    def at(self, point: Array) -> Self:
        """The policy of this geometry that plays the given probabilities."""
        return self.replace(self.geometry.coordinates(point, self.legal))

    def within(self, geometry: Geometry) -> Self:
        """The same play in another geometry."""
        # A conversion to probabilities and back would cost a rounding error.
        if geometry == self.geometry:
            return self
        if not has_verbs(geometry, "coordinates", "probs"):
            raise WrongKind(f"`geometry` must be like `Entropy()`, got {shown(geometry)}.")
        coordinates = geometry.coordinates(self.probs, self.legal)
        return type(self)(coordinates, geometry, self.actions, self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {in_words(self.table, self.coordinates.shape)}"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def table(self) -> Table:
        """A line for each row and legal action: row, action, probability (all digits are kept)."""
        return of_rows(self.probs, self.legal, self.names, self.rows)

    def by_name(self) -> tuple[dict[Hashable, float], ...]:
        """The probabilities of each row by the names of its legal actions, or by their numbers.

        `ValueError` for a batch of runs.
        """
        if self.coordinates.ndim != 2:
            raise ValueError("`by_name` is for one table of rows and actions, not for a batch.")
        return tuple(
            {name: float(row[a]) for a, name in enumerate(self.names(r)) if legal[a]}
            for r, (row, legal) in enumerate(zip(self.probs, self.legal, strict=True))
        )

    def names(self, row: int) -> Labels:
        """The names of the actions of a row; their numbers, 0, 1, ..., without names."""
        if not self.actions:
            return tuple(range(self.coordinates.shape[-1]))
        return self.actions[row if len(self.actions) > 1 else 0]

    def kl(self, other: TabularPolicy) -> Array:
        """`KL(self || other)` of each row in nats, shape `(..., rows)`."""
        self._require_like(other)
        return Entropy().divergence(self.log_probs, other.log_probs)

    def _require_like(self, other: TabularPolicy) -> None:
        """`ValueError` unless `other` is a table with as many rows and actions."""
        # Each step asks this, and the whole check would take a third of a small table's step.
        if type(other) is type(self) and other.coordinates.shape == self.coordinates.shape:
            return
        require_policies(other)
        size, own = other.coordinates.shape[-2:], self.coordinates.shape[-2:]
        if size != own:
            raise ValueError(
                f"The policies must have as many rows and actions, got {own} and {size}: "
                "they are of different games."
            )

    def _require_values(self, q: Array) -> None:
        """`ValueError` unless `q` has a number for each row and action."""
        if type(q) is np.ndarray and q.shape == self.coordinates.shape:
            return
        size, own = np.shape(q)[-2:], self.coordinates.shape[-2:]
        if size != own:
            raise ValueError(f"`q` must have a number for each of {own}, got the shape {size}.")

    def replace(self, coordinates: Array) -> Self:
        """A policy of the same kind at other coordinates."""
        return type(self)(coordinates, self.geometry, self.actions, self.rows)

    @property
    def kind(self) -> str:
        """The meaning of the coordinates, as saved files name it."""
        return f"{type(self).__name__}({self.geometry})"

    def arrays(self) -> dict[str, Array]:
        """What `restored` needs: the coordinates."""
        return {"coordinates": self.coordinates}

    def restored(self, arrays: Mapping[str, Array]) -> Self:
        """The policy whose `arrays()` these are; `ValueError` for other rows or actions."""
        coordinates = arrays["coordinates"]
        require_shape("coordinates", coordinates, self.coordinates)
        return self.replace(coordinates)


def probabilities(opponent: TabularPolicy | Mixture[TabularPolicy]) -> Array:
    """The (signed) weights that an opponent puts on its actions, `(..., rows, actions)`.

    >>> game = load('comal')
    >>> first, second = game.policy([1, 0, 0]), game.policy([0, 1, 0])
    >>> probabilities(Mixture((first, second), (2.0, -1.0)))
    array([[ 2., -1.,  0.]])
    """
    if not isinstance(opponent, Mixture):
        probs = getattr(opponent, "probs", None)
        # Not at once: feedback is asked for in every step.
        if not isinstance(probs, np.ndarray):
            require_policies(opponent)
            raise ValueError("`policy.probs` must be an array.")
        return probs
    terms = [w * p.probs for w, p in zip(opponent.weights, opponent.policies, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def require_policies(*policies: object) -> None:
    """`ValueError` unless all are policies that are tables."""
    for policy in policies:
        if not isinstance(policy, TabularPolicy):
            raise ValueError(
                "A policy is wanted, like `game.policy(probabilities)`, "
                f"got {type(policy).__name__}."
            )

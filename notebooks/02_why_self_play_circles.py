# %% [markdown]
# # 2. Why self-play circles
#
# The obvious way to a von Neumann winner: let the policy play against itself and do more of what wins.
# We look at where that goes, why, and what its average has to do with it.

# %%
from itertools import islice

import matplotlib.pyplot as plt
import mpltern  # noqa: F401 (draws triangles)
import numpy as np

import mpo_games as mg
from mpo_games import plot as draw

game = mg.load("comal")  # B beats A, C beats B, A beats C
nash = mg.exact.nash(game).policy
start = game.policy([0.2, 0.5, 0.3])

# %% [markdown]
# ## One step of self-play
#
# Let $q(y)$ be how much more than half of the time answer $y$ wins against the present policy $p$.
# **Mirror descent** multiplies what wins and divides what loses:
#
# $$p'(y) \propto p(y)\,e^{\eta\,q(y)}$$
#
# with a step size $\eta$. Its other names: multiplicative weights, replicator dynamics, natural policy
# gradient, and, for language models, SPPO or online RLHF against oneself.

# %%
solver = mg.MirrorDescent(eta=0.3)
first, second = islice(mg.iterate(game, solver, policy=start), 2)
print("p ", first.policy.probs[0])
print("q ", game.feedback(first.policy)[0])
print("p'", second.policy.probs[0].round(4))

by_hand = first.policy.probs[0] * np.exp(0.3 * game.feedback(first.policy)[0])
assert np.allclose(second.policy.probs[0], by_hand / by_hand.sum())

# %% [markdown]
# ## The picture
#
# A policy over three answers is a point of a triangle; a corner plays one answer always. The arrows
# show one step from each point.


# %%
def field(ax, solver, color, magnet=None):
    """An arrow for one step of `solver` from a grid of policies."""
    n = 11
    grid = [(i, j, n - i - j) for i in range(1, n) for j in range(1, n - i)]
    points = np.array(grid) / n
    steps = []
    for point in points:
        states = mg.iterate(game, solver, policy=game.policy(point), magnet=magnet)
        _, state = islice(states, 2)
        steps.append(state.policy.probs[0] - point)
    ax.quiver(*points.T, *np.array(steps).T, color=color, alpha=0.55, width=0.007, zorder=1)


def path(solver, steps, **options):
    """The policies of a run from `start`, as `(steps + 1, 3)` probabilities."""
    states = mg.iterate(game, solver, policy=start, **options)
    return np.array([state.policy.probs[0] for state in islice(states, steps + 1)])


run = path(solver, 500)
with draw.theme():
    ax = plt.figure(figsize=(5.2, 4.4)).add_subplot(projection="ternary")
    field(ax, solver, draw.GREY)
    draw.simplex({"MD": run}, ax=ax, points={"equilibrium": nash.probs[0]}, corners="ABC")
plt.show()

# %% [markdown]
# The ring is the start, the disc where it stands after 500 steps, the star the equilibrium. Play
# circles, outwards: *A* is popular, so *B* pays, so *C* pays, so *A* pays. Nothing ever converges.
#
# ## Why it must
#
# Measure the distance to the equilibrium $p^*$ by $\mathrm{KL}(p^*\|p)$. Taking logarithms of the
# step,
#
# $$\mathrm{KL}(p^*\|p') - \mathrm{KL}(p^*\|p)
#   = \log\textstyle\sum_y p(y)\,e^{\eta q(y)} - \eta\,\langle q, p^*\rangle.$$
#
# - $\langle q, p^*\rangle = 0$: against an equilibrium that mixes all answers, every answer ties.
# - $\log\sum_y p\,e^{\eta q} \ge \eta\,\langle q, p\rangle = 0$ by Jensen: a policy ties with itself.
#
# So the distance **never falls**. At first order in $\eta$ it is constant, and play follows a closed
# orbit; at second order it grows.

# %%
record = {"to equilibrium": mg.metrics.DivergenceTo(nash), "gap": mg.metrics.duality_gap}
solution = mg.solve(game, solver, 500, policy=start, metrics=record, at=range(501))
distance = solution.trace["to equilibrium"]
with draw.theme():
    figure, ax = plt.subplots(figsize=(5.4, 3))
    ax.plot(solution.trace["step"], distance, color=draw.BLACK)
    ax.set(xlabel="step", ylabel="KL(equilibrium || policy)", ylim=(0, None))
plt.show()
assert (np.diff(distance) > 0).all()

# %% [markdown]
# Smaller steps only circle more slowly. Below, each run has the same total length $\eta \times$
# steps:

# %%
with draw.theme():
    figure, axes = plt.subplots(1, 3, figsize=(6.6, 2.8), subplot_kw={"projection": "ternary"})
    ends = []
    for ax, eta in zip(axes, [1.0, 0.3, 0.05], strict=True):
        run = path(mg.MirrorDescent(eta), int(90 / eta))
        draw.simplex({"MD": run}, ax=ax, points={"": nash.probs[0]}, corners="ABC")
        ax.set_title(f"η = {eta}", loc="center", pad=28)
        ends.append(game.duality_gap(game.policy(run[-1] / run[-1].sum())))
plt.show()
assert min(ends) > game.duality_gap(nash) + 0.1

# %% [markdown]
# ## The average comes home
#
# The *time average* of all policies played does converge (this is the classical regret argument:
# whatever the average could be beaten by, each of its parts would have learnt to play).

# %%
steps = 3000
averaged = mg.solve(
    game,
    mg.Averaged(solver),
    steps,
    policy=start,
    metrics={"gap": mg.metrics.iterate_gap, "average_gap": mg.metrics.average_gap},
)
at = averaged.trace["step"][1:]
with draw.theme():
    figure, ax = plt.subplots(figsize=(5.6, 3.4))
    ax.loglog(at, averaged.trace["gap"][1:], color=draw.BLACK)
    ax.loglog(at, averaged.trace["average_gap"][1:], color=draw.PURPLE, ls="--")
    ax.set(xlabel="step", ylabel="duality gap", ylim=(1e-3, 2))
    ax.text(30, 1.2, "last iterate", color=draw.BLACK)
    ax.text(1.2, 0.02, "average of all iterates", color=draw.PURPLE)
plt.show()
assert averaged.trace["gap"][-1] > 0.3
assert averaged.trace["average_gap"][-1] < 0.01

# %% [markdown]
# If the average is so good, why not hand it out? In a table it costs nothing. But a language model's
# policies are *weights*, and the average of policies is not the policy of average weights: one would
# have to store every checkpoint and draw one of them anew for each answer. What we want is a method
# whose **last iterate** converges, and converges at a rate.
#
# ## Take with you
#
# - Self-play turns around the equilibrium, since at first order nothing pulls it inwards.
# - No step size cures it.
# - The average converges, but of a language model only the last iterate is at hand.
#
# Next: [3. The magnet](03_the_magnet.ipynb), the missing inward pull.
#
# ## Exercises
#
# **1.** Start mirror descent *at* the equilibrium. Where does it go? And from `[.37, .27, .36]`?
#
# <details><summary>Solution</summary>
#
# At the equilibrium $q = 0$ and nothing moves; from anywhere else the distance grows. It is an
# unstable fixed point.
#
# ```python
# resting = mg.solve(game, solver, 100, policy=nash)
# assert resting.gap < 1e-12
# near = game.policy([0.37, 0.27, 0.36])
# leaving = mg.solve(game, solver, 5000, policy=near)
# assert leaving.gap > 10 * game.duality_gap(near)
# ```
# </details>
#
# **2.** Optimism: follow not the present feedback but a guess of the next, $2q_t - q_{t-1}$
# (`mg.OptimisticMD`). What does its last iterate do?
#
# <details><summary>Solution</summary>
#
# It converges here, since it steps against where the opponent is heading: the guess adds the
# inward pull of second order that mirror descent lacks.
#
# ```python
# optimistic = mg.solve(game, mg.OptimisticMD(eta=2.0), 500, policy=start)
# assert optimistic.gap < 1e-10
# ```
# </details>
#
# **3.** Give the later policies more weight in the average (`mg.Averaged(solver, degree=2)`). Does it
# come home sooner?
#
# <details><summary>Solution</summary>
#
# Not from this orbit: it circles wider and wider, so the late policies are the worse ones.
#
# ```python
# weighted = mg.solve(
#     game, mg.Averaged(solver, degree=2), steps, policy=start,
#     metrics={"average_gap": mg.metrics.average_gap},
# )
# print(weighted.trace["average_gap"][-1], averaged.trace["average_gap"][-1])
# assert weighted.trace["average_gap"][-1] > averaged.trace["average_gap"][-1]
# ```
# </details>
#
# **4.** Do the two lines of the proof need three answers? Check the monotone distance on
# `mg.load("condorcet", n=7)` from a random start.
#
# <details><summary>Solution</summary>
#
# They need only an equilibrium with full support.
#
# ```python
# seven = mg.load("condorcet", n=7)
# target = {"d": mg.metrics.DivergenceTo(mg.exact.nash(seven).policy)}
# begin = seven.policy(np.random.default_rng(0).dirichlet(np.ones(7)))
# far = mg.solve(seven, solver, 300, policy=begin, metrics=target, at=range(301)).trace["d"]
# assert (np.diff(far) > 0).all()
# ```
# </details>

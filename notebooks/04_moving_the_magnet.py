# %% [markdown]
# # 4. Moving the magnet
#
# A fixed magnet is fast and ends at the wrong place. The idea of Magnetic Preference Optimization
# (MPO; Wang et al., ICLR 2025) fits in one line: **when you have arrived, bring the magnet along.**

# %%
from itertools import islice

import matplotlib.pyplot as plt
import mpltern  # noqa: F401 (draws triangles)
import numpy as np

import mpo_games as mg
from mpo_games import plot as draw

game = mg.load("comal")
nash = mg.exact.nash(game).policy
start = game.policy([0.2, 0.5, 0.3])

# %%
mpo = mg.MPO(eta=0.3, alpha=0.1, period=50)
run = mg.iterate(game, mpo, policy=start)
with draw.theme():
    ax = plt.figure(figsize=(5.2, 4.4)).add_subplot(projection="ternary")
    stars = {"equilibrium": nash.probs[0]}
    draw.simplex({"MPO": run}, ax=ax, points=stars, corners="ABC", steps=800)
plt.show()

# %% [markdown]
# The magnet (diamonds) waits at the start. Play spirals into the regularised equilibrium beside it;
# the magnet jumps there; play spirals on. The magnets walk to the Nash equilibrium, and take the last
# iterate with them.

# %%
solvers = {
    "MD": mg.MirrorDescent(eta=0.3),
    "MMD": mg.MMD(eta=0.3, alpha=0.1),
    "MPO": mpo,
}
runs = {name: mg.solve(game, solver, 3000, policy=start) for name, solver in solvers.items()}
with draw.theme():
    _, ax = plt.subplots(figsize=(5.8, 3.4))
    draw.convergence({name: solution.trace for name, solution in runs.items()}, ax=ax)
    ax.set_ylim(1e-16, 3)
plt.show()
assert runs["MD"].gap > 0.3
assert 0.05 < runs["MMD"].gap < 0.07
assert runs["MPO"].gap < 1e-13

# %% [markdown]
# ## Why the magnets arrive
#
# A move from $\rho_n$ to the regularised equilibrium $\rho_{n+1}$ is a *proximal point step* in KL, and
# for every Nash equilibrium $p^*$
#
# $$\mathrm{KL}(p^*\|\rho_{n+1}) \;\le\; \mathrm{KL}(p^*\|\rho_n) - \mathrm{KL}(\rho_{n+1}\|\rho_n).$$
#
# *Proof.* At the regularised equilibrium $F(\rho_{n+1}) - \alpha\log(\rho_{n+1}/\rho_n)$ is the same
# number at all answers, so against $p^* - \rho_{n+1}$ it gives 0:
# $\alpha\langle\log(\rho_{n+1}/\rho_n), p^*-\rho_{n+1}\rangle = \langle F(\rho_{n+1}), p^*\rangle \ge 0$,
# as $p^*$ beats or ties with everything. The left side is
# $\alpha\,[\mathrm{KL}(p^*\|\rho_n) - \mathrm{KL}(p^*\|\rho_{n+1}) - \mathrm{KL}(\rho_{n+1}\|\rho_n)]$. ∎
#
# It holds for *any* $\alpha$. Every move comes closer by at least the distance it travelled:

# %%
magnet, distance, slack = start, [], []
for _ in range(12):
    moved = mg.exact.qre(game, 0.1, magnet).policy
    slack.append(mg.theory.proximal_point_slack(game, nash, magnet, moved))
    distance.append(game.divergence(nash, magnet))
    magnet = moved
with draw.theme():
    _, ax = plt.subplots(figsize=(5.4, 2.9))
    ax.semilogy(distance, "D-", color=draw.VERMILLION, markerfacecolor="white")
    ax.set(xlabel="moves of the magnet", ylabel="KL(Nash || magnet)")
plt.show()
assert min(slack) >= -1e-12
assert distance[-1] < 1e-4 * distance[0]

# %% [markdown]
# ## When to move it
#
# The inequality wants the inner game *solved* before the move. Move every step ($K = 1$) and magnet
# and policy are the same point: nothing pulls, and MPO is mirror descent again.

# %%
each, plain = (
    mg.solve(game, solver, 200, policy=start)
    for solver in (mg.MPO(0.3, 0.1, period=1), mg.MirrorDescent(0.3 / 1.03))
)
assert np.allclose(each.policy.probs, plain.policy.probs)

periods = [1, 3, 10, 20, 30, 50, 100, 200, 500, 1000]
gaps = [mg.solve(game, mg.MPO(0.3, 0.1, k), 3000, policy=start).gap for k in periods]
with draw.theme():
    _, ax = plt.subplots(figsize=(5.6, 3.2))
    ax.loglog(periods, np.maximum(gaps, 1e-16), "o-", color=draw.VERMILLION)
    ax.set(xlabel="period K", ylabel="gap after 3000 steps", ylim=(1e-17, 10))
    ax.text(1.2, 1e-4, "too soon:\ncircles")
    ax.text(60, 1e-8, "good", ha="center")
    ax.text(620, 1e-6, "too late:\nslow", ha="center")
plt.show()
by = dict(zip(periods, gaps, strict=True))
assert by[1] > 0.3
assert by[10] > 0.1
assert by[50] < 1e-12
assert by[1000] > 1e-4

# %% [markdown]
# A good period depends on $\eta$, $\alpha$ and the game, and nobody tells you it beforehand. Better to
# **measure**: move when the *regularised* game is solved, up to a fraction of the distance travelled.
# (To watch the gap of the original game is not enough here: on a spiral it also falls when play merely
# passes by.)

# %%
settled = mg.MMD(eta=0.3, alpha=0.1, magnet=mg.WhenInnerSolved(ratio=0.3))
passing = mg.MMD(eta=0.3, alpha=0.1, magnet=mg.WhenGapFell(ratio=0.5))
for name, solver in {"when settled": settled, "when the gap is halved": passing}.items():
    print(f"{name:24} gap {mg.solve(game, solver, 3000, policy=start).gap:.0e}")
assert mg.solve(game, settled, 3000, policy=start).gap < 1e-11
assert mg.solve(game, passing, 3000, policy=start).gap > 0.01

# %% [markdown]
# ## Harder games
#
# The cycle of three was kind: its equilibrium mixes *all* answers. In most games some answers must
# die, and how long that takes no period can know. Here are thirty random preference games with ten
# answers each.

# %%
games = {f"seed {seed}": mg.load("random_preferences", n=10, seed=seed) for seed in range(30)}
contest = {
    "MD": mg.MirrorDescent(1.0),
    "MMD": mg.MMD(1.0, 0.05),
    "MPO": mg.MPO(1.0, 0.05, 100),
    "AutoMPO": mg.AutoMPO(),
}
result = mg.compare(contest, games, budget=3000, progress=False)
result.plot(floor=1e-16)
plt.show()
print(result)
final = {name: np.median(result.gaps(name)[-1]) for name in contest}
assert final["AutoMPO"] < 1e-13
assert 1e-6 < final["MPO"] < final["MMD"] < final["MD"]

# %% [markdown]
# Lines are medians, bands hold eight games of ten. With fixed settings MPO is better than a fixed
# magnet but not clean. `AutoMPO` tunes itself: it measures its step size, lets the magnet's weight fall
# between moves, moves the magnet when the gap has fallen, and works in a geometry in which nearly dead
# answers come back. All of them are values of `MMD`'s fields; what is a theorem and what an
# observation is written in `mpo_games/solvers/self_tuning.py`.
#
# ## Try it
#
# With a running kernel: sliders for $\eta$, $\alpha$ and $K$.

# %% tags=["live"]
try:
    from ipywidgets import FloatLogSlider, IntSlider, interact
except ImportError:
    print("For sliders: pip install ipywidgets")
else:

    @interact(
        eta=FloatLogSlider(0.3, min=-1.5, max=1, step=0.1),
        alpha=FloatLogSlider(0.1, min=-3, max=0.5, step=0.1),
        period=IntSlider(50, min=1, max=200),
    )
    def explore(eta, alpha, period):
        """One run, drawn."""
        run = list(islice(mg.iterate(game, mg.MPO(eta, alpha, period), policy=start), 601))
        stars = {"": nash.probs[0]}
        ax = draw.simplex({"MPO": run}, points=stars, corners="ABC", steps=600)
        ax.set_title(f"gap {game.duality_gap(run[-1].policy):.1e}", loc="center", pad=22)
        plt.show()


# %% [markdown]
# Without one, these are nine of its pictures ($\eta = 0.3$, 600 steps each):

# %%
with draw.theme():
    figure, axes = plt.subplots(3, 3, figsize=(6.6, 6.6), subplot_kw={"projection": "ternary"})
    for row, alpha in zip(axes, [0.02, 0.1, 0.5], strict=True):
        for ax, k in zip(row, [1, 20, 100], strict=True):
            run = mg.iterate(game, mg.MPO(0.3, alpha, k), policy=start)
            stars = {"": nash.probs[0]}
            draw.simplex({"MPO": run}, ax=ax, points=stars, corners="   ", steps=600)
            ax.set_title(f"α = {alpha:g}, K = {k}", loc="center", pad=2)
plt.show()

# %% [markdown]
# ## Take with you
#
# - Solve, move, repeat: the magnets are proximal point steps, and the last iterate arrives.
# - $K = 1$ is mirror descent. Too early fails, too late is only slow. Measuring beats counting.
# - On games without full support use `AutoMPO()`.
#
# Next: [5. Poker](05_poker.ipynb), where decisions follow one another.
#
# ## Exercises
#
# **1.** Does a stronger magnet need a longer or a shorter period? Find the shortest that reaches
# $10^{-8}$ within 3000 steps for $\alpha = 0.1$ and $0.2$.
#
# <details><summary>Solution</summary>
#
# A shorter one: the inner game contracts by $1/(1+\eta\alpha)$ a step.
#
# ```python
# def shortest(alpha):
#     works = (k for k in range(10, 100)
#              if mg.solve(game, mg.MPO(0.3, alpha, k), 3000, policy=start).gap < 1e-8)
#     return next(works)
#
#
# found = [shortest(alpha) for alpha in (0.1, 0.2)]
# print(found)
# assert found[0] > found[1]
# ```
# </details>
#
# **2.** The inequality holds for any $\alpha$. Why not take $\alpha = 10^{-3}$ and be done in one move?
#
# <details><summary>Solution</summary>
#
# One move is then nearly enough, but solving the inner game takes of the order of
# $1/(\eta\alpha)$ steps, with $\eta$ bounded by the stability limit: the work is not saved, it is moved.
#
# ```python
# one = mg.exact.qre(game, 1e-3, start).policy
# assert game.duality_gap(one) < 2e-3
# weak = mg.solve(game, mg.MMD(eta=0.3, alpha=1e-3), 3000, policy=start)
# assert weak.gap > 0.05
# ```
# </details>
#
# **3.** Let the magnet *drift* instead of jump: `mg.MMD(0.3, 0.1, magnet=mg.Ema(rate))`. Which rates
# work?
#
# <details><summary>Solution</summary>
#
# Slow ones. At rate 1 the magnet is the policy, and play circles.
#
# ```python
# drift = [mg.solve(game, mg.MMD(0.3, 0.1, magnet=mg.Ema(r)), 3000, policy=start).gap
#          for r in (0.01, 1.0)]
# print(drift)
# assert drift[0] < 1e-8
# assert drift[1] > 0.3
# ```
# </details>
#
# **4.** Add noise of standard deviation 0.1 to the feedback (`mg.NoisyGame(game, 0.1)`). What do the last
# iterates of MPO and `AutoMPO` do?
#
# <details><summary>Solution</summary>
#
# MPO hovers. `AutoMPO` asks twice at the start, hears that the answers differ, and hands out an
# average of ever smaller steps.
#
# ```python
# noisy = mg.NoisyGame(game, sigma=0.1)
# hover = mg.solve(noisy, mpo, 3000, policy=start).gap
# averaged = mg.solve(noisy, mg.AutoMPO(), 3000, policy=start).gap
# print(hover, averaged)
# assert averaged < 0.01
# ```
# </details>

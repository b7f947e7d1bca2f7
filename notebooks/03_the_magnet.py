# %% [markdown]
# # 3. The magnet
#
# Self-play lacks an inward pull. A *magnet* supplies it: the last iterate then converges, linearly,
# at a rate that can be computed beforehand. The price is that it converges to another place.

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

# %% [markdown]
# ## One more term
#
# Mirror descent's step is itself the answer to a small problem: gain as much as you can by the
# feedback $q$, but stay near where you are.
#
# $$p' = \arg\max_p\;\; \eta\langle q, p\rangle \;-\; \mathrm{KL}(p\,\|\,p_t)$$
#
# **Magnetic mirror descent** (MMD; Sokota et al., ICLR 2023) adds: and stay near a magnet $\rho$.
#
# $$p_{t+1} = \arg\max_p\;\; \eta\langle q, p\rangle \;-\; \eta\alpha\,\mathrm{KL}(p\,\|\,\rho)
#   \;-\; \mathrm{KL}(p\,\|\,p_t)$$
#
# Set the derivative to zero: $\eta q - \eta\alpha(\log p - \log\rho) - (\log p - \log p_t)$ must be
# the same number for every answer. Solve for $p$:
#
# $$p_{t+1} \propto \big[\,p_t\;\rho^{\,\eta\alpha}\;e^{\eta q}\,\big]^{1/(1+\eta\alpha)}$$
#
# That is all: a multiplicative update, averaged with the magnet. For a language model $\rho$ is the
# reference model of RLHF, and $\alpha$ the weight of its KL penalty.

# %%
eta, alpha = 0.5, 0.2
magnet = game.policy([0.6, 0.2, 0.2])
p, rho, q = start.probs[0], magnet.probs[0], game.feedback(start)[0]

by_hand = (p * rho ** (eta * alpha) * np.exp(eta * q)) ** (1 / (1 + eta * alpha))
by_hand /= by_hand.sum()
library = start.mirror_step(game.feedback(start), magnet, eta=eta, alpha=alpha).probs[0]
assert np.allclose(by_hand, library)


def objective(x):
    """What the step maximises."""
    return eta * x @ q - eta * alpha * x @ np.log(x / rho) - x @ np.log(x / p)


others = np.random.default_rng(0).dirichlet(np.ones(3), size=10_000)
assert objective(library) >= max(objective(x) for x in others)

# %% [markdown]
# ## The picture
#
# Left, the arrows of mirror descent turn around the equilibrium (star). Right, the same game with a
# magnet (diamond).

# %%
mmd = mg.MMD(eta=0.3, alpha=0.2)
qre = mg.exact.qre(game, 0.2, magnet).policy
with draw.theme():
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 3.6), subplot_kw={"projection": "ternary"})
    for ax, name, solver in zip(axes, ["MD", "MMD"], [mg.MirrorDescent(0.3), mmd], strict=True):
        draw.field(game, solver, ax=ax, magnet=magnet)
        states = mg.iterate(game, solver, policy=start, magnet=magnet)
        run = list(islice(states, 301))
        stars = {"Nash equilibrium": nash.probs[0]}
        draw.simplex({name: run}, ax=ax, points=stars, corners="ABC")
        ax.set_title(name, loc="center", pad=32)
plt.show()
assert np.abs(run[-1].policy.probs - qre.probs).max() < 1e-6

# %% [markdown]
# The disc, where MMD ends, is neither the star (the Nash equilibrium) nor the diamond (the magnet). It
# is the **regularised equilibrium** (a logit quantal response equilibrium, QRE), the equilibrium of
# the game whose players pay $\alpha\,\mathrm{KL}(\text{own policy}\,\|\,\rho)$: the fixed point
#
# $$p \propto \rho\; e^{q(p)/\alpha}.$$
#
# For large $\alpha$ it is the magnet, for small $\alpha$ it nears the Nash equilibrium. `mg.exact.qre`
# computes it by Newton's method, which shares no code with the solver:

# %%
alphas = np.geomspace(10, 0.001, 40)
corner = game.policy([0.8, 0.1, 0.1])  # a magnet far off, to see the whole way
way = np.array([mg.exact.qre(game, a, corner).policy.probs[0] for a in alphas])
with draw.theme():
    figure = plt.figure(figsize=(4.6, 3.9))
    ax = figure.add_subplot(projection="ternary")
    stars = {"Nash equilibrium": nash.probs[0]}
    draw.simplex({"MMD": way}, ax=ax, points=stars, magnets=corner.probs, corners="ABC")
    for a in (1.0, 0.3, 0.1):
        nearest = way[np.abs(alphas - a).argmin()]
        ax.plot(*nearest[:, None], "o", color=draw.BLUE, markersize=6)
        ax.text(*(nearest + [0.0, 0.05, -0.05]), f"α = {a:g}", ha="right", va="center")
plt.show()
assert game.duality_gap(game.policy(way[-1] / way[-1].sum())) < 0.01

# %% [markdown]
# ## The rate, before and after
#
# **Theorem** (Sokota et al. 2023). Let $L$ be the largest payoff (here $|P - \frac12| \le 0.4$). For
# $\eta \le \alpha/L^2$ every single step satisfies
#
# $$\mathrm{KL}(p^*_\alpha\|p_{t+1}) \;\le\; \frac{1}{1+\eta\alpha}\;\mathrm{KL}(p^*_\alpha\|p_t).$$
#
# *Why.* Write $D_t = \mathrm{KL}(p^*_\alpha\|p_t)$. The three-point inequality of a mirror step gives
#
# $$(1+\eta\alpha)\, D_{t+1} = D_t - \mathrm{KL}(p_{t+1}\|p_t) - \eta\alpha\,\mathrm{KL}(p_{t+1}\|p^*_\alpha) + \eta\langle F(p_t) - F(p_{t+1}),\,p_{t+1}-p^*_\alpha\rangle$$
#
# (the game itself contributes nothing: it is zero-sum). The scalar product is at most
# $L\,\|p_t - p_{t+1}\|_1\,\|p_{t+1} - p^*_\alpha\|_1$; by Young's and Pinsker's inequalities the two KL
# terms pay for it exactly when $\eta L^2\le\alpha$.
#
# Beside the bound there is an exact prediction: near the end the step is linear, and its spectral
# radius squared is the factor of the KL. Let us see all three.

# %%
alpha = 0.2
eta = mg.theory.largest_step(game, alpha)
print(f"largest step of the theorem: {eta:.2f}")

target = mg.exact.qre(game, alpha, start).policy
record = {"kl": mg.metrics.DivergenceTo(target)}
solver = mg.MMD(eta, alpha)
solution = mg.solve(game, solver, 60, policy=start, metrics=record, at=range(61))
kl, steps = solution.trace["kl"], solution.trace["step"]

bound = mg.theory.rate_bound(eta, alpha)
local = mg.theory.local_rate(game, target, eta=eta, alpha=alpha) ** 2
measured = mg.theory.fit_rate(steps, kl).factor
with draw.theme():
    figure, ax = plt.subplots(figsize=(5.8, 3.6))
    ax.semilogy(steps, kl, color=draw.BLUE)
    ax.semilogy(steps, kl[0] * bound**steps, color=draw.GREY, ls=(0, (5, 2)))
    ax.set(xlabel="step", ylabel="KL(regularised eq. || policy)", ylim=(1e-13, 1))
    ax.text(33, 1e-4, f"theorem: × {bound:.3f} a step", color=draw.GREY)
    ax.text(1, 1e-12, f"measured: × {measured:.3f}\nexact local rate: {local:.3f}", color=draw.BLUE)
plt.show()
assert mg.theory.bound_ratio(kl, eta, alpha) <= 1.0  # at every step
assert abs(measured - local) < 0.01

# %% [markdown]
# The bound holds at every step; the truth is faster. Too large a step is not slow, it circles again:
# above `mg.theory.stability_limit` the arrows win over the magnet. With a weak magnet that limit is
# soon met.

# %%
weak = 0.05
goal = mg.exact.qre(game, weak, start).policy
limit = mg.theory.stability_limit(game, goal, weak)
print(f"alpha = {weak}: stable below eta = {limit:.2f}")
record = {"kl": mg.metrics.DivergenceTo(goal)}
below, above = (
    mg.solve(game, mg.MMD(factor * limit, weak), 4000, policy=start, metrics=record).trace["kl"]
    for factor in (0.9, 1.1)
)
assert below[-1] < 1e-10
assert above[-1] > 1e-4

# %% [markdown]
# ## The dilemma
#
# A strong magnet is fast and wrong, a weak one slow and nearly right:

# %%
with draw.theme():
    figure, ax = plt.subplots(figsize=(5.8, 3.4))
    for a, shade in zip([0.5, 0.1, 0.02], [0.4, 0.7, 1.0], strict=True):
        eta = min(mg.theory.largest_step(game, a), 1.0)
        run = mg.solve(game, mg.MMD(eta, a), 3000, policy=start)
        ax.loglog(run.trace["step"][1:], run.trace["gap"][1:], color=draw.BLUE, alpha=shade)
        ax.text(3400, run.gap, f"α = {a:g}", color=draw.BLUE, va="center", alpha=shade)
    ax.set(xlabel="step", ylabel="duality gap", ylim=(3e-3, 1), xlim=(1, 3000))
plt.show()
gaps = [float(game.duality_gap(mg.exact.qre(game, a, start).policy)) for a in (0.5, 0.1, 0.02)]
print("gaps of the regularised equilibria", np.round(gaps, 4))
assert gaps[0] > gaps[1] > gaps[2] > 0.005

# %% [markdown]
# ## Try it
#
# With a running kernel the next cell gives sliders for $\eta$ and $\alpha$.

# %% tags=["live"]
try:
    from ipywidgets import FloatLogSlider, interact
except ImportError:
    print("For sliders: pip install ipywidgets")
else:

    @interact(
        eta=FloatLogSlider(0.3, min=-1.5, max=1, step=0.1),
        alpha=FloatLogSlider(0.1, min=-3, max=0.5, step=0.1),
    )
    def explore(eta, alpha):
        """One run, drawn."""
        run = list(islice(mg.iterate(game, mg.MMD(eta, alpha), policy=start), 301))
        ax = draw.simplex({"MMD": run}, points={"": nash.probs[0]}, corners="ABC")
        ax.set_title(f"gap {game.duality_gap(run[-1].policy):.2g}", loc="center", pad=22)
        plt.show()


# %% [markdown]
# Without one, these are nine of its pictures (300 steps each):

# %%
with draw.theme():
    figure, axes = plt.subplots(3, 3, figsize=(6.6, 6.6), subplot_kw={"projection": "ternary"})
    for row, eta in zip(axes, [0.1, 0.5, 3.0], strict=True):
        for ax, alpha in zip(row, [0.01, 0.1, 0.5], strict=True):
            run = mg.iterate(game, mg.MMD(eta, alpha), policy=start)
            stars = {"": nash.probs[0]}
            draw.simplex({"MMD": run}, ax=ax, points=stars, corners="   ", steps=300)
            ax.set_title(f"η = {eta:g}, α = {alpha:g}", loc="center", pad=2)
plt.show()

# %% [markdown]
# ## Take with you
#
# - The magnet turns circles into a spiral: linear convergence of the *last* iterate.
# - The step size may not exceed $\alpha/L^2$ for the theorem, nor the stability limit for anything.
# - It arrives at the regularised equilibrium. That is RLHF's usual compromise, and it is not the von
#   Neumann winner.
#
# Next: [4. Moving the magnet](04_moving_the_magnet.ipynb), fast *and* right.
#
# ## Exercises
#
# **1.** Show that for a preference game $\eta \le 4\alpha$ always suffices.
#
# <details><summary>Solution</summary>
#
# Payoffs are $P - \frac12 \in [-\frac12, \frac12]$, so $L \le \frac12$ and
# $\alpha/L^2 \ge 4\alpha$.
#
# ```python
# certain = mg.load("condorcet", n=3)
# assert np.isclose(mg.theory.largest_step(certain, 0.3), 4 * 0.3)
# ```
# </details>
#
# **2.** Which step size gives the smallest local rate? Compare with the theorem's.
#
# <details><summary>Solution</summary>
#
# The radius $\sqrt{1+\eta^2\omega^2}/(1+\eta\alpha)$ is smallest at $\eta = \alpha/\omega^2$: the
# theorem's step with the local frequency $\omega$ in place of $L$. Since $\omega\le L$ it is larger.
#
# ```python
# target = mg.exact.qre(game, 0.2, start).policy
# omega = mg.theory.frequency(game, target)
# etas = np.linspace(0.1, 10, 1000)
# rates = [mg.theory.local_rate(game, target, eta=e, alpha=0.2) for e in etas]
# assert abs(etas[np.argmin(rates)] - 0.2 / omega**2) < 0.02
# assert 0.2 / omega**2 > mg.theory.largest_step(game, 0.2)
# ```
# </details>
#
# **3.** Put the KL into the reward instead: follow $q - \alpha\log(p/\rho)$ by plain mirror descent
# (that is what RLHF does, and `mg.MPO_RT`). Show that in a table it is MMD at another step size.
#
# <details><summary>Solution</summary>
#
# $p\,e^{\eta(q-\alpha\log(p/\rho))} = p^{1-\eta\alpha}\rho^{\eta\alpha}e^{\eta q}$, which is MMD's
# step at $\eta/(1-\eta\alpha)$.
#
# ```python
# from mpo_games.choices.pull import in_reward
#
# rewarded = mg.solve(game, mg.MMD(0.5, 0.2, pull=in_reward), 50, policy=start)
# matched = mg.solve(game, mg.MMD(0.5 / (1 - 0.5 * 0.2), 0.2), 50, policy=start)
# assert np.allclose(rewarded.policy.probs, matched.policy.probs)
# ```
# </details>
#
# **4.** Let $\alpha$ fall over time (`mg.AnnealedMMD`). How far does it get in 3000 steps?
#
# <details><summary>Solution</summary>
#
# Nearer than any fixed weight of the figure, but slowly: what falls like $t^{-1/2}$ has no linear rate.
#
# ```python
# annealed = mg.solve(game, mg.AnnealedMMD(eta=1.0, alpha=1.0), 3000, policy=start)
# print(annealed.gap)
# assert 1e-4 < annealed.gap < gaps[2]
# ```
# </details>

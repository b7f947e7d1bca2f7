# %% [markdown]
# # 5. Poker
#
# So far one decision was everything. In poker decisions follow one another and cards are hidden; the
# same line of code still applies, once a strategy is written in the right coordinates. This notebook
# needs OpenSpiel (`pip install "mpo-games[openspiel]"`) from Kuhn poker on.

# %%
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np

import mpo_games as mg
from mpo_games import plot as draw
from mpo_games.games.tree_builder import Chance, Decision, Payoff

# %% [markdown]
# ## The smallest bluff
#
# Both players put a coin into the pot. Ann gets a good or a bad card. She checks, and the cards
# decide, or she bets a second coin; then Bob, who does not see her card, folds or calls.


# %%
def after_bet(showdown):
    """Bob's move: he sees the bet and nothing else."""
    return Decision(1, "bet", {"fold": Payoff(1), "call": Payoff(2 * showdown)})


def ann(card, showdown):
    """Ann's move: she sees her card."""
    return Decision(0, card, {"check": Payoff(showdown), "bet": after_bet(showdown)})


bluff = mg.build_tree(Chance([(0.5, ann("good", +1)), (0.5, ann("bad", -1))]))
nash = mg.exact.nash(bluff)
print(f"worth {nash.value:.4f} coins to Ann")
draw.strategy(nash.policy, states={"good": "Ann, good", "bad": "Ann, bad", "bet": "Bob, a bet"})
plt.show()

strategy = nash.policy.table()
print(strategy)
optimal = {(row["state"], row["action"]): row["probability"] for row in strategy}
assert np.isclose(nash.value, 1 / 3)
assert np.isclose(optimal["bad", "bet"], 1 / 3, atol=1e-3)  # Ann bluffs one time in three
assert np.isclose(optimal["bet", "call"], 2 / 3, atol=1e-3)

# %% [markdown]
# With a bad card Ann must bet one time in three. Less, and Bob could safely fold; more, and he would
# always call. Self-play meets that as a circle, and a moving magnet arrives:

# %%
moves = list(optimal)
shown = [2 + moves.index(("bad", "bet")), 2 + moves.index(("bet", "call"))]  # after two empty ones
paths = {}
for name, solver in {"MD": mg.MirrorDescent(0.05), "MPO": mg.MPO(0.05, 0.2, 300)}.items():
    states = islice(mg.iterate(bluff, solver), 3000)
    paths[name] = np.array([state.policy.probs[shown] for state in states])
with draw.theme():
    _, ax = plt.subplots(figsize=(4.6, 4.2))
    for name, path in paths.items():
        ax.plot(*path.T, color=draw.style(name).color, lw=1.6, label=name)
    ax.plot(1 / 3, 2 / 3, "*", color=draw.BLACK, markersize=14, ls="none", label="equilibrium")
    ax.set(xlabel="Ann bluffs", ylabel="Bob calls", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.legend(loc="lower right")
plt.show()
assert np.abs(paths["MPO"][-1] - [1 / 3, 2 / 3]).max() < 0.01
assert np.abs(paths["MD"][-1] - [1 / 3, 2 / 3]).max() > 0.05

# %% [markdown]
# ## The right coordinates
#
# Utilities are not linear in the probabilities of single moves: a late move matters only if the earlier
# ones were made. They *are* linear in the **realisation plan**, the product of one's own probabilities
# along a sequence of moves (von Stengel 1996). Feedback is then again a matrix times the opponent's plan,
# and the KL becomes the **dilated** KL: the KL of each decision, weighted by one's own plan of
# reaching it,
#
# $$D(z\,\|\,z') = \sum_{\text{states } j} w_j\; z_{\text{way to } j}\;
#   \mathrm{KL}\big(\pi_j \,\|\, \pi'_j\big).$$
#
# The step still has a closed form, solved from the last decision to the first, and the linear rate of
# the magnet is a theorem here too. Nothing else changes.
#
# ## Kuhn poker
#
# Three cards, one bet: 12 information states, value $-1/18$ for the first player.

# %%
kuhn = mg.load("kuhn_poker")
truth = mg.exact.nash(kuhn)
print(f"{kuhn.tree.states} information states, {kuhn.tree.sequences} sequences")
assert np.isclose(truth.value, -1 / 18)

contest = {
    "MD": mg.MirrorDescent(0.5),
    "MMD": mg.MMD(0.5, 0.05),
    "MPO": mg.MPO(0.5, 0.05, 100),
    "AutoMPO": mg.AutoMPO(),
    "CFR+": mg.CFRPlus(),
}
result = mg.compare(contest, {"Kuhn poker": kuhn}, budget=3000, progress=False)
result.plot(floor=1e-16)
plt.show()
print(result)
final = {name: result.gaps(name)[-1, 0] / 2 for name in contest}  # exploitability
assert final["MD"] > 0.01
assert final["MMD"] > 1e-3
assert final["MPO"] < 1e-8
assert final["AutoMPO"] < 1e-13
assert 1e-8 < final["CFR+"] < 1e-3

# %% [markdown]
# CFR+ (Tammelin 2014), the workhorse of poker programs, hands out its *average*; the others their last
# iterate. What do they play? Kuhn's equilibria (Kuhn 1950) are known: bet a jack with some
# probability $b\le 1/3$, a king with $3b$, a queen never.

# %%
policy = mg.solve(kuhn, contest["MPO"], 3000).policy
cards = {"0": "jack", "1": "queen", "2": "king"}
draw.strategy(policy, states=cards)
plt.show()
moves = {(row["state"], row["action"]): row["probability"] for row in policy.table()}
first = {card: moves[state, "Bet"] for state, card in cards.items()}
print({card: round(p, 3) for card, p in first.items()})
assert first["jack"] <= 1 / 3 + 1e-3
assert np.isclose(first["king"], 3 * first["jack"], atol=1e-3)
assert first["queen"] < 1e-3

# %% [markdown]
# ## Leduc poker
#
# Six cards, two rounds, raises: 936 information states, and hard on plain magnets. Two things help, and
# are values of the same fields: weights $w_j$ of the dilated KL that know **how much money is at
# stake** below a state, and a **floor** that keeps a little uniform play in the magnet, so that dead
# actions can come back.

# %%
leduc = mg.load("leduc_poker")
print(f"{leduc.tree.states} information states, {leduc.tree.sequences} sequences")
weighted = leduc.with_dilation(mg.dilation.payoff_scaled)
floored = mg.MMD(0.5, 0.02, mg.Every(100, floor=1e-3), feedback=mg.optimistic)
plain = mg.solve(leduc, mg.MPO(0.1, 0.1, 100), 3000).gap / 2
scaled = mg.solve(weighted, floored, 3000).gap / 2
print(f"exploitability: plain weights {plain:.3f}, at stake and floored {scaled:.4f}")
assert scaled < 0.01 < plain

# %%
leaders = {"Optimistic MPO": floored, "AutoMPO": mg.AutoMPO(), "CFR+": mg.CFRPlus()}
result = mg.compare(leaders, {"Leduc poker": weighted}, budget=3000, progress=False)
result.plot(floor=1e-16)
plt.show()
print(result)
final = {name: result.gaps(name)[-1, 0] / 2 for name in leaders}
assert final["AutoMPO"] < 1e-5 < final["CFR+"]

# %% [markdown]
# ## Take with you
#
# - In realisation plans a tree is a matrix game again, with the dilated KL for the KL.
# - On Kuhn poker MPO's last iterate is exact. On Leduc the geometry decides; `AutoMPO` chooses it.
# - For a tree of this size a linear programme takes a tenth of a second. First-order methods are for what
#   comes after: larger trees, samples, networks.
#
# Next: [6. From tables to tokens](06_from_tables_to_tokens.ipynb).
#
# ## Exercises
#
# **1.** Let the good card come two times in three. How often does Ann bluff now?
#
# <details><summary>Solution</summary>
#
# Bob is indifferent if $\frac13 b \cdot 2 - \frac23\cdot 2 = -(\frac13 b+\frac23)$, so $b = 2/3$.
#
# ```python
# richer = mg.build_tree(Chance([(2 / 3, ann("good", +1)), (1 / 3, ann("bad", -1))]))
# rows = mg.exact.nash(richer).policy.table()
# bluffs = {(row["state"], row["action"]): row["probability"] for row in rows}["bad", "bet"]
# assert np.isclose(bluffs, 2 / 3, atol=1e-3)
# ```
# </details>
#
# **2.** Measure the linear rate of MMD on Kuhn: record the dilated divergence to
# `mg.exact.qre(kuhn, 0.1, kuhn.initial_policy())`.
#
# <details><summary>Solution</summary>
#
# ```python
# target = mg.exact.qre(kuhn, 0.1, kuhn.initial_policy()).policy
# d = {"d": mg.metrics.DivergenceTo(target)}
# trace = mg.solve(kuhn, mg.MMD(0.1, 0.1), 2000, metrics=d, at=range(2001)).trace
# rate = mg.theory.fit_rate(trace["step"], trace["d"])
# print(rate)
# assert rate.factor < mg.theory.rate_bound(0.1, 0.1)
# assert rate.r_squared > 0.95
# ```
# </details>
#
# **3.** Which magnet period works on Kuhn? Try 1, 10, 100 and 1000 in 3000 evaluations.
#
# <details><summary>Solution</summary>
#
# ```python
# by = {k: mg.solve(kuhn, mg.MPO(0.5, 0.05, k), 3000).gap for k in (1, 10, 100, 1000)}
# print(by)
# assert min(by, key=by.get) == 100
# ```
# </details>
#
# **4.** OpenSpiel has many more games: `mg.load("liars_dice", dice_sides=3)`. Does `AutoMPO` solve it?
#
# <details><summary>Solution</summary>
#
# ```python
# dice = mg.load("liars_dice", dice_sides=3)
# solved = mg.solve(dice, mg.AutoMPO(), 1500)
# print(dice.tree.states, solved.gap)
# assert solved.gap < 1e-10
# ```
# </details>

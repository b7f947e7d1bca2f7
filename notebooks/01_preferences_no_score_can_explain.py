# %% [markdown]
# # 1. Preferences that no score can explain
#
# Reward models give every answer a score, and the higher score wins. Here we meet preferences for
# which no such score exists, see what a reward model does to them, and find what to aim for
# instead.
#
# You need a little Python and a little probability. Every claim below is asserted: if one stopped
# being true, this notebook would fail.

# %%
import matplotlib.pyplot as plt
import numpy as np

import mpo_games as mg
from mpo_games import plot as draw

# %% [markdown]
# ## Three friends, three films
#
# Each friend has a perfectly sensible ranking. They vote on each pair of films.

# %%
films = ["Alien", "Brazil", "Casablanca"]
ballots = [
    ["Alien", "Brazil", "Casablanca"],
    ["Brazil", "Casablanca", "Alien"],
    ["Casablanca", "Alien", "Brazil"],
]
friends = mg.builders.from_ballots(ballots, films)
print(friends.preferences[0].round(2))  # row i, column j: the share of friends who rank i above j


# %%
with draw.theme():
    figure, ax = plt.subplots(figsize=(5, 3.6))
    draw.preferences(friends, ax=ax)
    ax.set_title("Whatever they watch, two of three would rather see another", loc="center")
plt.show()

# %% [markdown]
# An arrow points from winner to loser. Two of three prefer *Alien* to *Brazil*, two of three *Brazil*
# to *Casablanca*, and two of three *Casablanca* to *Alien*. This is Condorcet's paradox (1785): each
# voter is consistent, the majority is not.
#
# ## What a score makes of it
#
# A Bradley-Terry reward model gives each film a score $s$ and predicts
# $P(i \succ j) = \sigma(s_i - s_j)$. Fit the best scores there are:

# %%
scores = mg.cyclicity.fit_bradley_terry(friends.preferences[0])
print("scores", scores.round(6) + 0.0)
assert np.allclose(scores, 0.0, atol=1e-6)

# %% [markdown]
# All scores are equal, so the model predicts 50 % for every pair. It has learnt nothing, and it
# could not have: a score can only express a ranking.
#
# When the cycle is lopsided the model does learn something, and that is worse. These are the
# preferences used by Liu et al. (COMAL, 2024); they will stay with us through all notebooks.

# %%
game = mg.load("comal")
P = game.preferences[0]
print(P)

report = mg.cyclicity.report(game).contexts[0]
best = report.reward_winner
print("scores", report.scores.round(3), "-> the reward model answers", "ABC"[best])
print(
    "yet",
    "ABC"[P[:, best].argmax()],
    "is preferred to it",
    f"{P[:, best].max():.0%}",
    "of the time",
)
assert "ABC"[best] == "C" and P[0, 2] == 0.8

# %%
fitted = 1 / (1 + np.exp(report.scores - report.scores[:, None]))
pairs = [(1, 0), (2, 1), (0, 2)]
with draw.theme():
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.2), width_ratios=[1, 0.9])
    draw.preferences(P, "ABC", ax=left)
    y = np.arange(3)
    right.barh(y + 0.19, [P[p] for p in pairs], 0.36, color=draw.BLUE, label="measured")
    right.barh(y - 0.19, [fitted[p] for p in pairs], 0.36, color=draw.ORANGE, label="best score")
    right.axvline(0.5, color=draw.BLACK, lw=1)
    right.set_yticks(y, [f"{'ABC'[i]} beats {'ABC'[j]}" for i, j in pairs])
    right.set(xlim=(0, 1), xticks=[0, 0.5, 1], xlabel="probability")
    right.grid(False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)
plt.show()

# %% [markdown]
# Left: *B* beats *A* 90 %, *C* beats *B* 90 %, *A* beats *C* 80 %. Right: the best score gets
# the direction of at least one pair wrong, since no ranking has all three.

# %%
wrong = [(fitted[p] - 0.5) * (P[p] - 0.5) <= 0 for p in pairs]
print("pairs on the wrong side of 1/2:", sum(wrong))
assert any(wrong)

# %% [markdown]
# ## What to aim for instead
#
# Make it a game. Two players each submit an answer; whoever is preferred wins. Whatever single answer
# you submit can be beaten, so submit a *random* one. A **von Neumann winner** is a distribution over
# answers that no answer beats more than half of the time. It is the Nash equilibrium of this
# symmetric zero-sum game, so by von Neumann's theorem (1928) it always exists.

# %%
nash = mg.exact.nash(game)
print("play", nash.policy.probs[0].round(4), "=", np.array([4, 3, 4]), "/ 11")
assert np.allclose(nash.policy.probs[0], np.array([4, 3, 4]) / 11)

always_best = game.policy(np.eye(3)[best])
uniform = game.initial_policy()
with draw.theme():
    figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.9), sharey=True)
    for ax, (title, policy) in zip(
        axes,
        {
            f"always {'ABC'[best]}": always_best,
            "uniform": uniform,
            "equilibrium": nash.policy,
        }.items(),
        strict=True,
    ):
        against = 0.5 + game.feedback(policy)[0]  # how often each answer beats the policy
        colors = [draw.VERMILLION if p > 0.5 + 1e-9 else draw.BLUE for p in against]
        ax.bar(list("ABC"), against, color=colors)
        ax.axhline(0.5, color=draw.BLACK, lw=1)
        ax.set_title(f"{title}\ngap {game.duality_gap(policy):.2f}", loc="center")
        ax.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        ax.grid(False)
    axes[0].set_ylabel("wins against it")
plt.show()

# %% [markdown]
# How often each answer beats what is played: red bars are ways to exploit it. The reward model's
# favourite is exploited badly, uniform play a little, the equilibrium not at all. The number in the
# title is the **duality gap**, both players' best gains added: it is 0 at an equilibrium and nowhere
# else, so it tells how far a policy is from one.

# %%
assert game.duality_gap(nash.policy) < 1e-12
assert game.duality_gap(always_best) > 0.5 > game.duality_gap(uniform) > 0.05

# %% [markdown]
# ## How often does it happen?
#
# Let answers be judged by five criteria (correct, kind, short, ...), and let the majority of criteria
# decide. Each criterion is a ranking; here the rankings are drawn at random.

# %%
rng = np.random.default_rng(0)
answers = [2, 3, 5, 8, 12]
beaten = []
for n in answers:
    judges = [mg.builders.majority_of(rng.normal(size=(5, n))) for _ in range(100)]
    gaps = [mg.cyclicity.report(judge).reward_gap for judge in judges]
    beaten.append(np.mean(np.array(gaps) > 1e-9))
with draw.theme():
    figure, ax = plt.subplots(figsize=(5.4, 3.2))
    bars = ax.bar([str(n) for n in answers], beaten, color=draw.ORANGE)
    ax.bar_label(bars, [f"{share:.0%}" for share in beaten])
    ax.set(xlabel="answers to choose from", yticks=[], ylim=(0, 0.7))
    ax.set_title("Share of random judges whose best score can be beaten", loc="center")
    ax.spines["left"].set_visible(False)
    ax.grid(False)
plt.show()
assert beaten[0] == 0.0 < beaten[1] < beaten[-1]

# %% [markdown]
# Two answers cannot cycle. The more answers there are, the likelier a cycle at the top. Real judges
# are less cyclic than random ones; `mg.cyclicity.report(game)` tells how cyclic yours is.
#
# ## Take with you
#
# - A score can only rank. Majorities and mixtures of criteria need not.
# - Maximising the best-fitting score can be beaten 80 % of the time.
# - The von Neumann winner is beaten by nothing, always exists, and has a measurable distance: the
#   duality gap.
#
# Next: [2. Why self-play circles](02_why_self_play_circles.ipynb), the obvious way to find it,
# and why it fails.
#
# ## Exercises
#
# **1.** Rock, paper, scissors, lizard, Spock: each of five beats the next two. What is the
# equilibrium? (`mg.load("condorcet", n=5)`)
#
# <details><summary>Solution</summary>
#
# By symmetry it is uniform; a linear programme agrees.
#
# ```python
# five = mg.exact.nash(mg.load("condorcet", n=5)).policy.probs[0]
# assert np.allclose(five, 1 / 5)
# ```
# </details>
#
# **2.** A *Condorcet winner* beats every other answer by a majority. Show that then the equilibrium
# plays it alone, and check it on `mg.load("bradley_terry")`.
#
# <details><summary>Solution</summary>
#
# If $w$ beats all others, then against "always $w$" no answer wins more than half of the time: it
# is an equilibrium. Against any policy that plays something else with probability $m > 0$, the
# answer $w$ wins more than half, so there is no other.
#
# ```python
# transitive = mg.cyclicity.report(mg.load("bradley_terry")).contexts[0]
# assert transitive.condorcet_winner is not None
# assert transitive.support == (transitive.condorcet_winner,)
# assert transitive.reward_gap < 1e-9  # here the score is right
# ```
# </details>
#
# **3.** *Clones.* Add a second copy of *A* to the COMAL preferences (the two are tied). How much does
# the equilibrium play both together? Which answer has the best average win rate (Borda) before and
# after?
#
# <details><summary>Solution</summary>
#
# Together they are played as often as *A* was, $4/11$: copies gain nothing. The average win rate is
# not so robust: whoever beats the copied answer comes out first.
#
# ```python
# copies = [0, 0, 1, 2]
# cloned = mg.PreferenceGame(P[np.ix_(copies, copies)])
# both = mg.exact.nash(cloned).policy.probs[0][:2].sum()
# assert np.isclose(both, 4 / 11)
# assert mg.cyclicity.report(game).contexts[0].borda_winner == 2  # C
# assert mg.cyclicity.report(cloned).contexts[0].borda_winner == 2  # now B, which beats A
# ```
# </details>
#
# **4.** Write a judge of your own, a function of two texts that returns a probability, and ask
# `mg.builders.from_function` for its game. Try "closer to ten characters, more vowels, earlier in the
# alphabet, by majority".
#
# <details><summary>Solution</summary>
#
# ```python
# def judge(a, b):
#     better = lambda f: np.sign(f(a) - f(b))
#     votes = (
#         better(lambda t: -abs(len(t) - 10)),
#         better(lambda t: sum(c in "aeiou" for c in t)),
#         better(lambda t: -ord(t[0])),
#     )
#     return 0.5 + 0.5 * np.sign(sum(votes))
#
#
# texts = ["a cat", "my dog sleeps", "no", "every audio queue", "blackbirds"]
# own = mg.builders.from_function(judge, texts)
# print(mg.cyclicity.report(own))
# assert mg.exact.nash(own).gap < 1e-12
# ```
# </details>

# %% [markdown]
# # 8. A language model learns to bluff
#
# Language models now play games of hidden information against themselves: poker, negotiation. How far are
# they from equilibrium? Mostly nobody knows, and win rates against a few fixed opponents are reported.
# Here a transformer learns Kuhn poker in a minute, and after every step its exploitability is *exact*.
# It needs PyTorch and OpenSpiel (`pip install "mpo-games[llm,openspiel]"`).

# %%
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import torch

import mpo_games as mg
import mpo_llm as ml
from mpo_games import plot as draw
from mpo_llm.trees import TextTreeGame, compact, kuhn

torch.set_num_threads(1)  # tiny networks are fastest so

# %% [markdown]
# ## A game told in words
#
# Two players ante one coin and get one of three cards each. A player may pass or bet a coin; who faces a
# bet passes (and loses the ante) or bets too (a call), and the higher card wins. An **information state**
# is all that a player knows. For a language model it is a prompt, and an action is an answer:

# %%
tree = mg.load("kuhn_poker")
for label in ("0", "1pb", "2p"):
    print(f"{label:4}", kuhn().describe(label), "->", [kuhn().say(label, a) for a in (0, 1)])

# %% [markdown]
# In these words SmolLM2 learns the game too (`make llm-poker`, some minutes). For a notebook we take a
# transformer of one layer, and tokens of its own: `compact` tells each state in a few of them. One network
# plays both seats. `TextTreeGame` asks it for its answer at all twelve states, and its play is then a
# point of the *tree* of notebook 5, whose best responses are compiled code.

# %%
words = compact(tree, tuple)
torch.manual_seed(0)
module = ml.SmallTransformer(words.vocabulary, words.context, width=16, layers=1)
network = ml.PlainNetwork(module, context=words.context, prefixes=True)
start = ml.TokenPolicy.of(network, words.decoding)
game = TextTreeGame(tree, start, words.describe, words.say)

weights = sum(p.numel() for p in module.parameters())
print(
    f"{weights} weights, prompts such as {words.describe('1pb')}, answers {words.say('1pb', '0')}"
)
print(
    f"exploitability before: {float(game.duality_gap(game.initial_policy())) / 2:.3f} coins a game"
)

# %% [markdown]
# ## The step
#
# The solver is the one of all notebooks before. The network's step is made of two parts. First the tree's
# own closed form (notebook 5), from what the network *plays*, gives a target for every state. Then the
# network is fitted to it by cross-entropy: sixteen gradients of Adam. What it plays after that is asked
# anew, so the solver never takes for played what only should have been.


# %%
def trained(played, solver, steps, seed=0):
    """All states of a run."""
    rng = np.random.default_rng(seed)
    return list(islice(mg.iterate(played, solver, rng=rng), steps + 1))


ours = trained(game, mg.AutoMPO(), 80)
final = ours[-1].policy
exploitability = [float(game.duality_gap(state.policy)) / 2 for state in ours]
print(f"after {ours[-1].evaluations:.0f} evaluations: {exploitability[-1]:.4f} coins a game")
assert exploitability[-1] < 0.01

# %% [markdown]
# What does **policy gradient** do, with which such models are trained? Its purest form is a table of
# logits with exact gradients, and no network at all to blame: `mg.GradientAscent`. With the entropy bonus
# that everybody adds it becomes a pull to uniform play that never ends.

# %%
table = mg.BehaviouralGame(tree)
ascent = trained(table, mg.GradientAscent(0.3), 1500)
pulled = trained(table, mg.MMD(0.3, 0.1), 1500)
curves = {
    "AutoMPO": ([s.evaluations for s in ours], exploitability),
    "GDA": (
        [s.evaluations for s in ascent],
        [float(table.duality_gap(s.policy)) / 2 for s in ascent],
    ),
    "MMD": (
        [s.evaluations for s in pulled],
        [float(table.duality_gap(s.policy)) / 2 for s in pulled],
    ),
}
names = {
    "AutoMPO": "transformer, AutoMPO",
    "GDA": "table, policy gradient",
    "MMD": "table, entropy bonus",
}
with draw.theme():
    _, ax = plt.subplots(figsize=(5.6, 3.8))
    for name, (at, gap) in curves.items():
        look = draw.style(name)
        ax.loglog(np.maximum(at, 1), gap, color=look.color, ls=look.dash)
    ax.set(xlabel="evaluations", ylabel="exploitability, coins a game")
    draw.label_ends(
        ax, [(names[n], gap[-1], draw.style(n).color) for n, (_, gap) in curves.items()]
    )
plt.show()
ends = {name: gap[-1] for name, (_, gap) in curves.items()}
print({name: round(gap, 4) for name, gap in ends.items()})
late = curves["GDA"][1][500:]
print(f"policy gradient, after 500 evaluations: {min(late):.3f} to {max(late):.3f}")
assert ends["AutoMPO"] < 0.01 < ends["MMD"] < ends["GDA"]
assert min(late) > 0.05

# %% [markdown]
# Policy gradient goes round, as self-play did in notebook 2. The bonus stops it, at the distance that its
# weight costs; less weight would be nearer, and slower. The transformer with a moving magnet arrives, in a
# fraction of the evaluations.
#
# ## Bluffs and traps
#
# All equilibria of Kuhn poker are known (Kuhn 1950). They are a family: the first player *bluffs*, that is
# bets a jack, with a probability $a$ of at most 1/3; then it must bet a king with $3a$, and pass it
# otherwise, which is a *trap*. All else follows. Every probability is a number plus a multiple of $a$:

# %%
family = {
    "0": ("first: bets a jack (a bluff)", 0.0, 1.0),
    "1": ("first: bets a queen", 0.0, 0.0),
    "2": ("first: bets a king (else a trap)", 0.0, 3.0),
    "0pb": ("first: calls with a jack", 0.0, 0.0),
    "1pb": ("first: calls with a queen", 1 / 3, 1.0),
    "2pb": ("first: calls with a king", 1.0, 0.0),
    "0p": ("second: bets a jack (a bluff)", 1 / 3, 0.0),
    "1p": ("second: bets a queen", 0.0, 0.0),
    "2p": ("second: bets a king", 1.0, 0.0),
    "0b": ("second: calls with a jack", 0.0, 0.0),
    "1b": ("second: calls with a queen", 1 / 3, 0.0),
    "2b": ("second: calls with a king", 1.0, 0.0),
}


def member(label, a):
    """How often the equilibrium with `a` bets at a state."""
    _, base, slope = family[label]
    return base + slope * a


def bets(play):
    """How often a point of the tree bets at each state; a bet is the second action everywhere."""
    last = tree.tree.offset[1:] - 1
    return dict(zip(tree.tree.labels, play.probs[last].tolist(), strict=True))


before, after = bets(ours[0].policy.play), bets(final.play)
a = min(after["0"], 1 / 3)
with draw.theme():
    _, ax = plt.subplots(figsize=(5.6, 4.6))
    for y, label in enumerate(family):
        spread = member(label, 0.0), member(label, 1 / 3)
        ax.plot(spread, [y, y], color=draw.GREY, lw=7, alpha=0.4, solid_capstyle="round")
        ax.plot(member(label, a), y, "|", color=draw.BLACK, ms=13)
        ax.plot(before[label], y, "o", color=draw.ORANGE, mfc="none")
        ax.plot(after[label], y, "o", color=draw.WINE)
    ax.plot([], [], color=draw.GREY, lw=7, alpha=0.4, label="all equilibria")
    ax.plot([], [], "|", color=draw.BLACK, ms=13, ls="none", label="the one with its bluffs")
    ax.plot([], [], "o", color=draw.ORANGE, mfc="none", label="before")
    ax.plot([], [], "o", color=draw.WINE, label="after")
    ax.set(xlabel="probability of a bet", xlim=(-0.03, 1.03))
    ax.set_yticks(range(len(family)), [name for name, *_ in family.values()])
    ax.invert_yaxis()
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2)
plt.show()
apart = {label: abs(after[label] - member(label, a)) for label in family}
print(f"bluffs {after['0']:.3f}, so a king {3 * a:.3f}: it bets {after['2']:.3f}")
assert max(apart.values()) < 0.1
assert 0.02 < after["0"] < 0.4

# %% [markdown]
# Nobody showed it a bluff. It learned to bluff because an opponent who folds to every bet can be robbed,
# and not too often because one who calls punishes it. On the way, in the plane of bluffs and kings:

# %%
with draw.theme():
    _, ax = plt.subplots(figsize=(4.8, 4.2))
    ax.plot([0, 1 / 3], [0, 1], color=draw.GREY, lw=7, alpha=0.4, label="all equilibria")
    for name, states, play in (
        ("GDA", ascent, lambda policy: table.treeplex(policy)),
        ("AutoMPO", ours, lambda policy: policy.play),
    ):
        path = np.array([(b["0"], b["2"]) for b in (bets(play(s.policy)) for s in states)])
        look = draw.style(name)
        ax.plot(*path.T, color=look.color, lw=1.4, label=names[name])
        ax.plot(*path[-1], "o", color=look.color)
    ax.set(xlabel="bets a jack", ylabel="bets a king", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## From samples
#
# Exact feedback looks at all cards. A player sees a game's end and what it paid. With `episodes` the
# network plays so many games against itself in every step, and learns from all that were played so far:
# afterwards it is known what was dealt, so deals are counted, and a payoff counts once it was seen. The
# exact exploitability is for us alone.

# %%
sampled = TextTreeGame(tree, start, words.describe, words.say, episodes=64)
learned = trained(sampled, mg.AutoMPO(), 80)
print(f"after {64 * learned[-1].evaluations:.0f} episodes:", end=" ")
print(f"{float(sampled.duality_gap(learned[-1].policy)) / 2:.4f} coins a game")
assert float(sampled.duality_gap(learned[-1].policy)) / 2 < 0.05

# %% [markdown]
# And it *is* a language model: it can be asked, and draws its answer, token by token.

# %%
asked = ["0", "2", "1pb"]
answers = {words.say("0", action): name for action, name in (("0", "pass"), ("1", "bet"))}
drawn = ml.sample(
    learned[-1].policy.tokens[0],
    [words.describe(label) for label in asked],
    400,
    np.random.default_rng(0),
)
for i, label in enumerate(asked):
    said = [answers.get(tuple(drawn.ids(400 * i + k)), "illegal") for k in range(400)]
    print(f"{family[label][0]:34}", {word: said.count(word) / 400 for word in sorted(set(said))})

# %% [markdown]
# ## Take with you
#
# - A game of hidden information is a tree, and a language model's play is a point of it: its distance to
#   equilibrium is exact.
# - The step is the tree's closed form, and the network is fitted to it. All five choices of a solver mean
#   what they meant on tables.
# - Self-play policy gradient circles, even without noise and without a network. Measure exploitability
#   before you trust a win rate.
#
# How the methods of the field compare at equal numbers of episodes, and on larger games, is the figure
# `poker_network` of `experiments/index.html`.
#
# ## Exercises
#
# **1.** What does the network win in the first seat against itself, and what does the equilibrium say?
#
# <details><summary>Solution</summary>
#
# The first player loses a coin in 18 games.
#
# ```python
# value = float(game.value(final))
# print(value, -1 / 18)
# assert abs(value + 1 / 18) < 0.02
# ```
# </details>
#
# **2.** How much does the trained network win against the untrained one, in the mean over both seats? Is
# that the most that can be won?
#
# <details><summary>Solution</summary>
#
# No: an equilibrium is safe and not greedy. A best response wins all of the exploitability, and more than
# the network does.
#
# ```python
# first = ours[0].policy
# most = float(game.duality_gap(first)) / 2
# print(game.advantage(final, first), most)
# assert 0.0 < game.advantage(final, first) < most
# ```
# </details>
#
# **3.** Give each seat a network of its own. Does the solver change?
#
# <details><summary>Solution</summary>
#
# No, `start` is a pair then.
#
# ```python
# torch.manual_seed(1)
# second = ml.PlainNetwork(
#     ml.SmallTransformer(words.vocabulary, words.context, width=16, layers=1), context=words.context
# )
# pair = (start, ml.TokenPolicy.of(second, words.decoding))
# two = TextTreeGame(tree, pair, words.describe, words.say)
# apart = trained(two, mg.AutoMPO(), 15)
# gaps = [float(two.duality_gap(s.policy)) / 2 for s in (apart[0], apart[-1])]
# print(gaps)
# assert gaps[1] < 0.5 * gaps[0]
# ```
# </details>
#
# **4.** Without exploration a player never sees what it does not do. Let `explore` be 0 in self-play: how
# many of the 30 endings has it seen after 20 steps, and how many with one half?
#
# <details><summary>Solution</summary>
#
# All of them if it explores: what it has not seen counts 0, and may have been a good bluff.
#
# ```python
# from mpo_llm.trees import Log
#
# seen = {}
# for explore in (0.0, 0.5):
#     curious = TextTreeGame(tree, start, words.describe, words.say, episodes=8, explore=explore)
#     log = Log.remembered(trained(curious, mg.AutoMPO(), 20)[-1].memory)
#     seen[explore] = int((log.seen > 0).sum())
# print(seen)
# assert seen[0.0] <= seen[0.5]
# ```
# </details>

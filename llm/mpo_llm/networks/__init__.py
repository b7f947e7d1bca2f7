"""Networks: they run the weights of a policy, and hold everything else that a model needs.

Shapes in this folder: N rows while decoding, R rows of W tokens when responses are scored (each a
prompt and what follows it), X prompts of P tokens, M positions whose states are asked for, states
of d numbers, V logits. Token ids are int64; a module in half precision returns states and logits in
it.
"""

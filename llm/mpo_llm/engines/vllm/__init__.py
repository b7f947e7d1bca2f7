"""vLLM behind a policy: it runs elsewhere, gets the policy's weights, and draws by them.

`hosts.py` says what a place is asked where vLLM runs: behind HTTP (`server.py`), or in this process
(`colocated.py`). `hosted.py` decides what is sent there, and draws.
"""

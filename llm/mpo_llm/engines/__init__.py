"""Engines draw responses: the built-in one, and vLLM, which runs elsewhere.

Training, evaluation and chat draw responses by `sample`, or by the engine of a game. A
configuration names an engine by `generation.engine`.
"""

from mpo_llm.engines.autoregressive import Autoregressive as Autoregressive
from mpo_llm.engines.protocol import Drawn as Drawn
from mpo_llm.engines.protocol import Engine as Engine
from mpo_llm.engines.protocol import EngineError as EngineError
from mpo_llm.engines.protocol import Together as Together
from mpo_llm.engines.protocol import draw as draw
from mpo_llm.engines.protocol import draw_each as draw_each
from mpo_llm.engines.sampling import sample as sample
from mpo_llm.engines.vllm.colocated import Colocated as Colocated
from mpo_llm.engines.vllm.server import Server as Server

Generator = Engine
"""The engines' earlier name."""

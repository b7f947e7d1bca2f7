"""A vLLM server for a run: the model of a configuration, served until a signal comes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import sleep

import torch

from mpo_games.interrupts import CTRL_C, STOPS, Signals
from mpo_llm.config import Config
from mpo_llm.engines.protocol import EngineError
from mpo_llm.engines.vllm import launch, weights
from mpo_llm.training import assemble

LOG = "vllm.log"
"""The server's log, in the run's folder."""


def serve(
    config: Config,
    *,
    python: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    longest: int | None = None,
    rows: int = 64,
    memory: float | None = None,
    slots: int = 2,
    more: Sequence[str] = (),
    ready: Callable[[str], None] = print,
    begins: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the start model of a run by vLLM until SIGINT, SIGTERM or SIGHUP.

    `begins` is told what is done before it has started, and `ready` when it has. The other
    arguments are those of `mpo-llm serve`. `ValueError` without vLLM; `EngineError` if it does not
    start, or ends.
    """
    interpreter = launch.interpreter(python)
    if not 1 <= port <= launch.LAST_PORT:
        raise ValueError(f"`--port` must lie between 1 and {launch.LAST_PORT}, got {port}.")
    begins(f"loading {config.model.name} for the vLLM of {interpreter}")
    # Before the model is loaded, which may take minutes.
    on_cpu = launch.device_of(interpreter) == "cpu"
    device = torch.device("cpu")
    # Python ends at once by SIGTERM and SIGHUP, and would leave the model in its temporary folder.
    with (
        Signals(tuple(name for name in STOPS if name not in CTRL_C)) as early,
        tempfile.TemporaryDirectory(prefix="mpo-llm-serve-") as place,
    ):
        network, tokenizer = assemble.network(config, device)
        folder = Path(place) / "model"
        weights.write_start(folder, network, network.weights())
        tokenizer.save_pretrained(folder)
        wanted = config.prompts.max_tokens + max(config.generation.max_tokens, 256)
        settings = launch.Launch(
            interpreter,
            folder,
            config.model.dtype,
            longest or min(wanted, network.context or wanted),
            weights.rank_of(network),
            slots,
            rows,
            memory if memory is not None else 1.0 if on_cpu else 0.9,
            port,
            host,
            more,
        )
        del network
        if early.asked is not None:
            return
        log = config.output.folder / LOG
        with Signals(STOPS) as signals:

            def asked() -> bool:
                return signals.asked is not None

            begins(f"vLLM starts, which may take some minutes; its log is {log}")
            with launch.serving(settings, log, asked) as process:
                if not asked():
                    ready(
                        f"vLLM serves {config.model.name} at {settings.url} until Ctrl-C. In the "
                        "run's file: generation: {engine: vllm, options: "
                        f"{{url: {settings.url}}}}}"
                    )
                while process.poll() is None and not asked():
                    sleep(0.2)
                ended = process.poll()
            # It has been obeyed, and is not passed on.
            signals.asked = None
        if ended is not None:
            raise EngineError(f"The vLLM server has ended (status {ended}): see {str(log)!r}.")

"""Make the policy, the game and the solver of a run from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

import mpo_games as mg
from mpo_games.choices.feedback import Feedback
from mpo_games.protocol import MagnetSchedule, Solver
from mpo_games.solvers.magnetic import matched_step
from mpo_llm import factories, magnets
from mpo_llm.algorithms import PULLS, completed, known
from mpo_llm.choices import FeedbackChoice, MagnetChoice
from mpo_llm.config import (
    AgainstMixture,
    Config,
    Every,
    ModelConfig,
    SolverConfig,
    StepConfig,
    WeightEma,
    WhenGapFell,
)
from mpo_llm.engines import Autoregressive, Engine
from mpo_llm.feedback import Replayed, against_start
from mpo_llm.game import TextPreferenceGame
from mpo_llm.judges.protocol import Judge
from mpo_llm.networks import loading as model_loading
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.networks.processes import OneProcess, Processes
from mpo_llm.policy import TokenPolicy
from mpo_llm.preset import ON_TOKENS
from mpo_llm.prompts import Prompts, Room
from mpo_llm.pulls import ACCURATELY, ByNovelty
from mpo_llm.responses import Decoding, Ids
from mpo_llm.step import kl_forms
from mpo_llm.step.minimisers import LBFGS, Adam, constant, falling
from mpo_llm.step.objectives import Logistic, Objective, SequenceLevel, Squared, TokenLevel
from mpo_llm.step.proximal import Proximal
from mpo_llm.step.terms import require_compiler
from mpo_llm.templates import said
from mpo_llm.training import memory

FEEDBACKS: Mapping[str, Feedback] = {
    "current": mg.current,
    "optimistic": mg.optimistic,
    "half_step": mg.half_step,
    "against_start": against_start,
}
SCHEDULES = {"falling": falling, "constant": constant}


def start(config: Config, device: torch.device | None = None) -> tuple[TokenPolicy, Any]:
    """The policy that a run starts from, and its tokenizer.

    It is on `device`: when None, on a CUDA device if there is one, else on the CPU.
    """
    found, tokenizer = network(config, device or model_loading.device())
    return policy(config, found, tokenizer), tokenizer


def network(
    config: Config,
    device: torch.device,
    processes: Processes = OneProcess(),
    *,
    shard: bool = False,
) -> tuple[TransformersNetwork, Any]:
    """The network of the configuration's model, and its tokenizer.

    With `shard` the processes share its weights, not only the work.
    """
    settings = config.model
    if settings.compile:
        require_compiler(device)
    model, tokenizer = model_loading.load(settings, config.seed)
    multiply(settings, device)
    offload = settings.offload
    found = TransformersNetwork(
        model.to(device),
        offload=bool(offload),
        compiled=settings.compile,
        processes=processes,
    )
    if shard:
        found.shard(found.layers)
    # All do the same, even if another program takes the memory of one device.
    if offload is None and any(processes.gather(memory.exceeds(config, found, device))):
        found.offload_policies()
    return found, tokenizer


def multiply(settings: ModelConfig, device: torch.device) -> None:
    """Set how a CUDA device multiplies float32 matrices, for all that the process runs."""
    if settings.tf32 and device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def policy(config: Config, network: TransformersNetwork, tokenizer: Any) -> TokenPolicy:
    """The policy of a network, with the decoding and the mirror step of the configuration.

    `ValueError` for an end that the tokenizer or the model does not have, and if there is no end.
    """
    used = set(tokenizer.get_vocab().values())
    # Models pad their embeddings: ids beyond the tokenizer's have a logit but no text. They are
    # left out of the distribution, in drawing and scoring alike, and so are gaps between the ids.
    vocabulary = min(max(used, default=-1) + 1, _embedded(network))
    decoding = Decoding(
        config.generation.max_tokens,
        eos=_ends(config, network, tokenizer),
        temperature=config.generation.temperature,
        vocabulary=vocabulary,
        unused=tuple(sorted(set(range(vocabulary)) - used)),
    )
    return TokenPolicy.of(network, decoding, solved(config))


def room(policy: TokenPolicy) -> Room:
    """What the model of a policy leaves for prompts."""
    network = policy.network
    assert isinstance(network, TransformersNetwork)
    return Room(network.context, policy.decoding.max_tokens, _embedded(network))


def answer(policy: TokenPolicy, tokenizer: Any, ids: Ids, opened: str = "") -> str:
    """The text of a response, without thoughts, its end and special tokens.

    `opened` is `Prompts.opened`, the mark by which its prompt has opened thoughts.
    """
    # The end is taken off by its id, since it need not be a special token.
    return said(tokenizer, policy.decoding.content(ids), opened).answer


def _embedded(network: TransformersNetwork) -> int:
    """Ids below it have an embedding."""
    return int(network.config.get_text_config().vocab_size)


def _ends(config: Config, network: TransformersNetwork, tokenizer: Any) -> tuple[int, ...]:
    """The ids that end a response: of `generation.end`, or else of tokenizer and model."""
    asked = config.generation.end
    words = tokenizer.get_vocab()
    names = (asked,) if isinstance(asked, str) else asked or ()
    unknown = [name for name in names if name not in words]
    if unknown:
        raise ValueError(f"The tokenizer has no token {unknown[0]!r} to end with.")
    own = tokenizer.eos_token_id
    found = [words[name] for name in names] or ([] if own is None else [own])
    for end in found:
        _require_embedding(end, network, tokenizer)
    said = network.generation_ends
    odd = next((end for end in said if not isinstance(end, int)), None)
    if odd is not None:
        raise ValueError(
            f"The model {config.model.name!r} has {odd!r} among its `eos_token_id` "
            "(`generation_config.json`), where token ids belong."
        )
    # Chat models end a turn by another token than a text, and list both here. A single end that
    # nobody wrote down is the default of a class, so the tokenizer's goes first.
    if not names and not (found and network.generation_is_default and len(said) == 1):
        found += [end for end in said if end < _embedded(network) and end in words.values()]
    if not found:
        raise ValueError(
            f"Neither the tokenizer nor the model {config.model.name!r} has an end-of-sequence "
            "token: name the token that ends a response by `generation.end`."
        )
    return tuple(found)


def _require_embedding(end: int, network: TransformersNetwork, tokenizer: Any) -> None:
    if end >= _embedded(network):
        token = tokenizer.convert_ids_to_tokens(end)
        raise ValueError(
            f"Responses would end with {token!r}, but its id {end} is beyond the model's "
            f"{_embedded(network)} embeddings: name another end by `generation.end`, or resize the "
            "embeddings, `model.resize_token_embeddings(len(tokenizer))`."
        )


VLLM = "mpo_llm.engines.vllm.factory:engine"
"""The factory that `generation.engine: vllm` stands for."""


def engine(config: Config) -> Engine:
    """The engine that draws responses, in training and after it.

    `ValueError` for a factory that cannot be found or called.
    """
    settings = config.generation
    if not settings.engine:
        return Autoregressive(settings.batch)
    named = ("generation.engine", "generation.options")
    factory = VLLM if settings.engine == "vllm" else settings.engine
    found: Engine = factories.make(
        "an engine", factory, settings.options, config, named=named, known=("vllm",)
    )
    return found


def own_engine(config: Config) -> Config:
    """The configuration with the built-in engine, whatever drew in training."""
    return replace(config, generation=replace(config.generation, engine="", options={}))


def game(
    config: Config,
    start: TokenPolicy,
    tokenizer: Any,
    prompts: Prompts,
    judge: Judge,
    engine: Engine,
) -> TextPreferenceGame:
    """The game that a run is trained on.

    `ValueError` for more prompts in a step than there are, and for a magnet that needs the exact
    duality gap.
    """
    if isinstance(config.solver.magnet, WhenGapFell):
        raise ValueError(
            f"`solver.magnet: {{when_gap_fell: {config.solver.magnet.ratio}}}` needs the exact "
            "duality gap, which is unknown where responses are sampled: use `{every: 50}`, for "
            "example."
        )
    # The game checks this as well, but does not know the name of the setting.
    at_once, truncation = config.solver.prompts, completed(config).solver.truncation
    if at_once is not None and at_once > len(prompts):
        raise ValueError(f"`solver.prompts` is {at_once}, but there are {len(prompts)} prompts.")
    return TextPreferenceGame(
        prompts.ids,
        start,
        judge,
        decoder(prompts, tokenizer),
        config.solver.samples,
        at_once,
        # `auto` has no use for it.
        **({} if truncation is None else {"truncation": truncation}),
        engine=engine,
    )


def decoder(prompts: Prompts, tokenizer: Any) -> Callable[[Ids], str]:
    """The function from token ids to the text that a judge reads: of a response, its answer."""
    # A decoded prompt would show the chat template to the judge, not the user's words alone. It is
    # known by the object, which is kept here, because a response may have the same ids.
    asked = {id(p): (p, text) for p, text in zip(prompts.ids, prompts.texts, strict=True)}

    def decode(ids: Ids) -> str:
        _, text = asked.get(id(ids), (ids, None))
        return said(tokenizer, ids, prompts.opened).answer if text is None else text

    return decode


def chosen(config: Config) -> Solver:
    """The solver that the configuration chooses."""
    settings = completed(config).solver
    return ON_TOKENS if settings.algorithm == "auto" else solver(settings)


def solver(settings: SolverConfig) -> mg.MMD:
    """Magnetic mirror descent, with a value for each choice of the configuration.

    Settings left open are those of the named algorithm, and without a name those of `mmd`.
    """
    name = settings.algorithm or "mmd"
    # Some objectives need all responses at the same time, and how many is not asked here.
    whole = Config(solver=replace(settings, algorithm=name), step=StepConfig(micro_batch=None))
    settings = completed(whole).solver
    eta, alpha = known(settings.eta), known(settings.alpha)
    choice: FeedbackChoice = known(settings.feedback)
    pull_name = known(settings.pull)
    if isinstance(choice, AgainstMixture):
        feedback: Feedback = mg.AgainstMixture(choice.weight)
    elif choice == "against_mixture":
        feedback = mg.AgainstMixture(eta * alpha)
    else:
        feedback = FEEDBACKS[choice]
    # `in_reward` takes Nash-MD's step at Nash-MD's own step size, `proximal` at a larger one.
    if settings.mixes and pull_name == "proximal":
        eta = matched_step(eta, alpha)
    if settings.pool:
        feedback = Replayed(feedback, settings.pool)
    return mg.MMD(eta, alpha, magnet(known(settings.magnet)), feedback, PULLS[pull_name])


def magnet(choice: MagnetChoice) -> MagnetSchedule:
    """The schedule that moves the magnet."""
    match choice:
        case Every(period):
            return mg.Every(period)
        case WeightEma(rate):
            return magnets.WeightEma(rate)
        case WhenGapFell(ratio):
            return mg.WhenGapFell(ratio)
        case "fixed":
            return mg.Fixed()


def solved(config: Config) -> Proximal:
    """How the mirror step of the chosen solver is solved by gradient."""
    config = completed(config)
    step = config.step
    if config.game.name:
        # The game's fit has the rest.
        return Proximal(micro_batch=step.micro_batch, micro_tokens=step.micro_tokens)
    if config.solver.algorithm != "auto":
        return proximal(step)
    return Proximal(
        ACCURATELY.objective,
        ACCURATELY.minimise,
        micro_batch=step.micro_batch,
        micro_tokens=step.micro_tokens,
        guard=ACCURATELY.guard,
    )


def gradients(config: Config, unseen: float) -> int:
    """The most gradients of a mirror step, beside those that measure a rate in the first one.

    `unseen` is the chance that the next response is a new one, on which `auto` depends.
    """
    config = completed(config)
    if config.solver.algorithm == "auto":
        found = ByNovelty().of(unseen).count(unseen)
        assert found is not None
        return found
    return known(config.step.epochs) * known(config.step.minibatches)


def proximal(settings: StepConfig) -> Proximal:
    """How the mirror step is solved by gradient, all settings given."""
    objectives: dict[str, Objective] = {
        # The setting has the names of the functions, so a new form needs no entry here.
        "token": TokenLevel(getattr(kl_forms, known(settings.kl))),
        "sequence": SequenceLevel(),
        "squared": Squared(),
        "logistic": Logistic(),
    }
    minimise = (
        LBFGS(known(settings.epochs))
        if settings.minimiser == "lbfgs"
        else Adam(
            known(settings.epochs),
            known(settings.rate),
            SCHEDULES[known(settings.schedule)],
            known(settings.betas),
            clip=settings.clip,
            keep_first=known(settings.keep_first),
        )
    )
    return Proximal(
        objectives[known(settings.objective)],
        minimise,
        known(settings.minibatches),
        settings.micro_batch,
        settings.micro_tokens,
    )

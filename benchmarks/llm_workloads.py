"""How much work a step is in the contest of language models, and the prompts that are answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

QUESTIONS = (
    "How do I stay motivated while learning to code?",
    "What should I cook for dinner tonight?",
    "Explain why the sky is blue.",
    "Give me advice for a job interview.",
    "How can I sleep better?",
    "What is a good way to learn French?",
    "How do plants make food?",
    "How should I start saving money?",
)
"""About 37 tokens each with SmolLM2's template."""
LETTERS = (
    "I have been teaching myself to program for about three months, mostly in the evenings after "
    "work. The first weeks were fun, because every lesson ended with something that ran. Now the "
    "exercises take me several hours, I often copy the answer without understanding it, and I "
    "have started to skip days. I do not want to give up, because I would like to write a small "
    "program for my sports club. How do I stay motivated, and what should I change about the way "
    "I learn?",
    "Tonight four friends come to dinner, and one of them eats neither meat nor fish. I have two "
    "aubergines, a tin of tomatoes, some rice, a bag of lentils, three onions, garlic, a lemon "
    "and half a block of feta. The oven works, but only one of the hobs does, and I have about an"
    " hour and a half before they ring the bell. What should I cook, in which order should I do "
    "things, and what can I prepare before they arrive?",
    "My daughter is six and asked me yesterday why the sky is blue at noon and red in the "
    "evening. I told her that it has to do with the air and the light, and of course she asked "
    "how air can have a colour when the air in her room has none. I remember something about "
    "waves from school, but I could not put it into words that she would understand. Please "
    "explain it to both of us: first in a few sentences for her, then a little more exactly for "
    "me.",
    "On Thursday I have an interview for a job at a public library. I have worked in a bookshop "
    "for nine years, so I know books and customers well, but I have never worked with a "
    "catalogue, and the advertisement asks for experience with events for children. I get nervous"
    " when several people ask questions in turn, and then I talk too much. Give me advice on how "
    "to prepare in the two evenings that I have, and on how to answer when they ask for something"
    " I have not done.",
    "For some weeks I have been waking up at four in the morning and then lying awake until the "
    "alarm rings at seven. I go to bed at eleven, I drink two cups of coffee before noon and none"
    " later, and my room is dark and quiet. During the day I sit at a desk, and in the evening I "
    "read the news on my phone. I do not want to take any pills. How can I sleep better, which of"
    " these habits should I change first, and after how long should I expect to notice a "
    "difference?",
    "In September I am moving to Lyon for a year, and the French that I had at school is twenty "
    "years old. I can read a menu and ask for the way, but as soon as somebody answers at normal "
    "speed I am lost. I have half an hour on the train every morning, another half hour on the "
    "way back, and most of Sunday. What is a good way to learn enough French until then to talk "
    "with my colleagues over lunch, and what would a week look like?",
    "I teach biology to a class of twelve-year-olds, and next week we begin with photosynthesis. "
    "Last year most of them could repeat that plants make food from light, water and air, but in "
    "the test many wrote that the roots suck food out of the soil. I have a window, a dozen pots "
    "of cress, some iodine and one lesson of forty-five minutes. How do plants make food, told so"
    " that this mistake does not happen, and which simple experiment would show it to the "
    "children themselves?",
    "I am twenty-four, I have just started my first full-time job, and after rent, food and a "
    "loan for my studies I have about three hundred euros left in a month. So far it disappears, "
    "and I could not say on what. My parents say that I should buy a flat as soon as possible, a "
    "friend says that I should put everything into shares, and my bank offers an account with "
    "almost no interest. How should I start saving money, in which order, and what can safely "
    "wait for later?",
)
"""About 130 tokens each with SmolLM2's template."""


@dataclass(frozen=True)
class Size:
    """How much work a step is."""

    prompts: int
    samples: int
    tokens: int
    rows: int
    dtype: Literal["float32", "bfloat16"]
    checkpointing: bool
    peers: tuple[str, ...] = ("grpo", "grpo_mixed")


SIZES: Mapping[str, Size] = {
    "small": Size(4, 8, 64, 8, "float32", False, ("grpo", "online_dpo", "nash_md")),
    "short": Size(4, 2, 32, 16, "float32", False, ("grpo", "online_dpo", "nash_md")),
    "tiny": Size(4, 2, 8, 4, "bfloat16", False, ("grpo", "grpo_mixed", "online_dpo", "nash_md")),
    "1.5B": Size(64, 8, 64, 32, "bfloat16", False),
    "7B": Size(16, 8, 64, 16, "bfloat16", True),
}
"""`small` and `short` are SmolLM2-135M; the others are `random_models`, for tests and for a GPU."""
PROMPTS: Mapping[str, tuple[str, ...]] = {"small": LETTERS, "short": QUESTIONS}
"""The other sizes have prompts of random words."""
AIMS: Mapping[str, tuple[float, float]] = {"small": (0.55, 0.7), "short": (0.85, 1.0)}
"""Our time a completion and our memory are at most so many times those of the best peer, which is
the one that needs the least time."""

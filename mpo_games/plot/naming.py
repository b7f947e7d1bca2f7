"""The name in figures of a solver that is spelled out, as a solution's provenance has it.

`MMD(eta=0.3, alpha=0.1, magnet=Every(period=50, floor=0.0), ...)` is MPO, with three settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

PLAIN = {"FictitiousPlay": "Fictitious play", "GradientAscent": "GDA"}
"""Names of classes that figures call otherwise."""

FED = {
    "optimistic": ("Optimistic MD", "Optimistic MPO"),
    "half_step": ("Extragradient", "EGPO"),
}
"""By feedback: the name without a pull to a magnet, and with one."""

PULLED = {"in_reward": "MPO-RT", "squared": "APMD", "mutation": "M2WU"}
"""By the pull of the magnet."""


def named(spelled: str) -> tuple[str, tuple[str, ...]]:
    """The name in figures of a solver, and its settings in words.

    >>> named("MMD(eta=0.3, alpha=0.0, magnet=Fixed(), feedback=current, pull=proximal)")
    ('MD', ('eta 0.3',))
    """
    kind, settings = _call(spelled)
    if kind == "MMD":
        return _mirror(settings)
    if kind == "RegretMatching":
        return _matching(settings), _said(settings, "alpha", "floor")
    if kind in ("Averaged", "Restarted", "PlayedAverage"):
        inner, said = named(settings.get("solver", ""))
        wrap = {"Averaged": _averaged, "Restarted": _restarted}.get(kind)
        return inner if wrap is None else wrap(inner, settings), said
    return PLAIN.get(kind, kind), _said(settings, "eta", "alpha", "period")


def _mirror(settings: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """A method that is `MMD` with some of its choices."""
    magnet, moves = _call(settings.get("magnet", "Fixed()"))
    feedback, _ = _call(settings.get("feedback", "current"))
    pull = settings.get("pull", "proximal")
    pulls = settings.get("alpha") not in ("0.0", "0")
    said = _said(settings, "eta", "alpha" if pulls else "") + _said(moves, "period", "rate")
    if pull in PULLED:
        name = PULLED[pull]
    elif feedback == "AgainstMixture":
        name = "Nash-MD"
    elif magnet == "Ema":
        name = "EMA magnet"
    elif feedback == "optimistic" and pulls and magnet != "Every":
        # Without a name of its own.
        name = "MMD"
    elif feedback in FED:
        name = FED[feedback][pulls]
    elif magnet == "Every":
        name = "MPO"
    elif not pulls:
        name = "MD"
    elif settings.get("alpha", "").startswith("Decaying"):
        name = "Annealed MMD"
    else:
        name = "MMD"
    return name, said


def _matching(settings: Mapping[str, str]) -> str:
    """A variant of regret matching, by its last iterate."""
    has = {key for key, value in settings.items() if value == "True"}
    alternates = "alternating" in has
    if settings.get("floor", "0.0") not in ("0.0", "0"):
        return "ExRM+" if "half_step" in has else "Smooth PRM+"
    if settings.get("alpha", "0.0") not in ("0.0", "0"):
        return "RT-CFR+" if alternates else "RT-RM+"
    base = ("P" if "predictive" in has else "") + ("CFR" if alternates else "RM")
    if settings.get("discount", "None") != "None":
        base = "DCFR" if "predictive" not in has else "PDCFR"
    plus = "+" if "plus" in has else ""
    return f"{base}{plus}{', last' if alternates else ''}"


def _averaged(inner: str, settings: Mapping[str, str]) -> str:
    scheduled = "LinearSchedule" in settings.get("degree", "")
    if inner.endswith(", last"):
        return ("HS-" if scheduled else "") + inner.removesuffix(", last")
    return "SPO/SPPO" if inner == "MD" else f"{inner}, average"


def _restarted(inner: str, _: Mapping[str, str]) -> str:
    base = inner.removesuffix(", average").removesuffix(", last")
    return f"{'EG' if base == 'Extragradient' else base} restarted"


def _said(settings: Mapping[str, str], *names: str) -> tuple[str, ...]:
    """The settings of these names in words, without functions and what is 0."""
    known = ((name, settings.get(name, "")) for name in names)
    return tuple(f"{name} {float(value):.4g}" for name, value in known if _number(value))


def _number(text: str) -> bool:
    try:
        return float(text) != 0.0
    except ValueError:
        return False


def _call(text: str) -> tuple[str, dict[str, str]]:
    """The function of a call that is spelled out, and its arguments by name."""
    name, _, rest = text.partition("(")
    pairs = (part.partition("=") for part in _parts(rest[:-1]))
    return name.strip(), {key.strip(): value.strip() for key, _, value in pairs}


def _parts(text: str) -> Iterator[str]:
    """The parts between the commas that stand in no brackets."""
    depth, start = 0, 0
    for i, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0:
            yield text[start:i]
            start = i + 1
    if text[start:].strip():
        yield text[start:]

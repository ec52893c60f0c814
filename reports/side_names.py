"""How sides and devices are named and coloured in what people read."""

from collections.abc import Iterable, Sequence

FLASHDREAMS_COLOUR = "#76B900"
_OFFICIAL_COLOUR, _OTHER_COLOUR = "#3b82f6", "#f59e0b"
"""The two baseline colours of the charts that FlashDreams publishes."""

_NAMES = {
    "flashdreams": "FlashDreams",
    "official": "Official runner",
    "self_forcing": "Official Self-Forcing",
    "causal_forcing": "Official Causal-Forcing",
    "wan21": "Official Wan2.1",
    "fastvideo": "FastVideo runner",
    "lightx2v": "LightX2V runner",
    "fastvideo_af2ee9c": "FastVideo 0.1.7 (af2ee9c)",
    "diffusers": "diffusers",
    "watched": "FlashDreams, watched",
}


def display_side(side: str) -> str:
    """A side as readers know it, its overrides kept."""
    environment, brace, overrides = side.partition("{")
    return _NAMES.get(environment, environment) + brace + overrides


def pair_names(references: Iterable[str]) -> tuple[str, str]:
    """What the two sides of pairs are called in a sentence: none is upstream of itself."""
    is_own = {reference.partition("{")[0] for reference in references} == {"flashdreams"}
    return ("reference", "candidate") if is_own else ("upstream", "FlashDreams")


def sentence_case(text: str) -> str:
    """Text that begins with a capital."""
    return text[:1].upper() + text[1:]


def pair_colours(reference: str, candidate: str) -> tuple[str, str]:
    """Colours of a pair; FlashDreams held against itself has one of them in another's colour."""
    colours = side_colour(reference), side_colour(candidate)
    return (_OTHER_COLOUR, colours[1]) if colours[0] == colours[1] else colours


def side_colour(side: str) -> str:
    """Colour of a side in every chart; green means FlashDreams and nothing else."""
    environment = side.partition("{")[0]
    if environment == "flashdreams":
        return FLASHDREAMS_COLOUR
    is_official = display_side(environment).startswith("Official")
    return _OFFICIAL_COLOUR if is_official else _OTHER_COLOUR


def display_device(device: str) -> str:
    """A device key as the seed prints it."""
    return device.upper()


def display_place(device: str, gpus: int, scene: str) -> str:
    """How many of which device, and the scene if there is one."""
    many = f"{gpus}×{display_device(device)}" if gpus > 1 else display_device(device)
    return f"{many} {scene}" if scene else many


def listed(words: Sequence[str]) -> str:
    """Words joined as in a sentence."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"

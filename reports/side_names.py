"""How sides and devices are named and coloured in what people read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from harness.plan.published import load_published
from harness.plan.titles import Titled, declared_titles
from harness.records import Role
from harness.store.run_record import EnvironmentRecord

CANDIDATE_COLOUR = "#76B900"
_OFFICIAL_COLOUR, _OTHER_COLOUR = "#3b82f6", "#f59e0b"
"""The two baseline colours of the charts that FlashDreams publishes."""


@dataclass(frozen=True)
class SideNames:
    """Environments by the names that sides have, each with its title and its role."""

    titled: Mapping[str, Titled]

    def display(self, side: str) -> str:
        """A side as readers know it, its overrides kept."""
        environment, brace, overrides = side.partition("{")
        known = self.titled.get(environment)
        return (known.title if known and known.title else environment) + brace + overrides

    def is_candidate(self, side: str) -> bool:
        """Whether a side's environment is one that upstream is compared with."""
        known = self.titled.get(environment_of(side))
        return known is not None and known.role == Role.CANDIDATE

    def pair(self, references: Iterable[str], candidates: Iterable[str]) -> tuple[str, str]:
        """What the two sides of pairs are called in a sentence: none is upstream of itself."""
        against = set(references)
        if against and all(map(self.is_candidate, against)):
            return "reference", "candidate"
        titles = {self.display(environment_of(candidate)) for candidate in candidates}
        return "upstream", titles.pop() if len(titles) == 1 else "candidate"

    def colours(self, reference: str, candidate: str) -> tuple[str, str]:
        """Colours of a pair; a candidate held against another has one of them in another's."""
        colours = self.colour(reference), self.colour(candidate)
        return (_OTHER_COLOUR, colours[1]) if colours[0] == colours[1] else colours

    def colour(self, side: str) -> str:
        """Colour of a side in every chart; green means a candidate and nothing else."""
        if self.is_candidate(side):
            return CANDIDATE_COLOUR
        is_official = self.display(environment_of(side)).startswith("Official")
        return _OFFICIAL_COLOUR if is_official else _OTHER_COLOUR


@cache
def known_names() -> SideNames:
    """Names of published sides and of the environments that are declared here."""
    published = {
        side: Titled(title=title, role=Role.REFERENCE.value)
        for side, title in load_published().names.items()
    }
    return SideNames(published | declared_titles())


def names_of(environments: Mapping[str, EnvironmentRecord]) -> SideNames:
    """The same with what a run's own environments were called in it."""
    own = {
        name: Titled(title=one.title, role=one.role)
        for name, one in environments.items()
        if one.role and "@" not in name  # an earlier state of an environment that is there too
    }
    return SideNames({**known_names().titled, **own})


def environment_of(side: str) -> str:
    """A side's environment, without its overrides."""
    return side.partition("{")[0]


def sentence_case(text: str) -> str:
    """Text that begins with a capital."""
    return text[:1].upper() + text[1:]


def display_device(device: str) -> str:
    """A device key as the seed prints it."""
    return device.upper()


def display_place(device: str, gpus: int, scene: str) -> str:
    """How many of which device, and the scene if there is one."""
    many = f"{gpus}×{display_device(device)}" if gpus > 1 else display_device(device)
    return f"{many} {scene}" if scene else many

"""Names: the companies of a world, and the words that its pages are made of."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


def words(text: str) -> tuple[str, ...]:
    """Split a text at its white space."""
    return tuple(text.split())


FIRST_WORDS = words(
    "Amber Arctic Autumn Bright Bronze Cedar Clear Cobalt Copper Coral Crystal Dawn Ember Forest "
    "Frost Garden Golden Granite Harbor Hidden Iron Ivory Jade Linen Lunar Marble Meadow Noble Ocean "
    "Olive Pearl Polar Quiet Rapid River Scarlet Silver Solar Summer Velvet"
)
SECOND_WORDS = words(
    "Anchor Arrow Badger Beacon Bridge Candle Canyon Castle Comet Compass Eagle Falcon Feather Fox "
    "Gate Heron Hammer Kettle Lantern Leaf Lion Lynx Maple Mill Orchard Otter Owl Panther Pine Raven "
    "Robin Sail Shield Sparrow Spring Stone Tiger Tower Wagon Wolf"
)
YEARS = tuple(range(2015, 2025))
DEPARTMENTS = words(
    "Finance Marketing Logistics Research Design Legal Support Security Training Purchasing "
    "Analytics Payroll Quality Engineering Insurance Translation Recruiting Maintenance"
)
REGIONS = words("North South East West Coast Highland Island Lake Capital Valley")
PRODUCT_LINES = words("Orbit Nimbus Delta Prisma Vertex Aurora Tempo Atlas Fjord Matrix Sonata Kinetic")
CITIES = words(
    "Aarhus Athens Basel Bergen Bilbao Bremen Brno Calgary Cardiff Cologne Cork Dakar Denver Dublin "
    "Geneva Genoa Ghent Gdansk Hanoi Kigali Krakow Kyoto Leeds Lima Lisbon Lyon Malaga Nairobi "
    "Nantes Osaka Oslo Ottawa Padua Perth Porto Quito Riga Seville Sofia Tallinn Tampere Tunis Turin "
    "Utrecht Valencia Vienna Vilnius Zagreb"
)
GIVEN_NAMES = words("Ada Boris Clara Daniel Elena Farid Greta Hugo Ines Jonas Kamala Leo Mira Nils Olga Pablo")
FAMILY_NAMES = words("Abara Bergman Castell Dorn Eriksen Fontana Garcia Huang Ivanov Jansen Keller Lindt Moreau")


@dataclass(frozen=True)
class Company:
    """The subject of one document.

    Attributes:
        first: First word of the name.
        second: Second word of the name.
        year: The year that its document reports on.
    """

    first: str
    second: str
    year: int

    @property
    def short(self) -> str:
        """The name without the year, as sentences use it."""
        return f"{self.first} {self.second}"

    @property
    def name(self) -> str:
        """The full name, unique in its world."""
        return f"{self.short} {self.year}"

    @property
    def slug(self) -> str:
        """The name as part of ids and file names."""
        return self.name.lower().replace(" ", "-")


def draw_companies(count: int, rng: random.Random) -> list[Company]:
    """Draw the companies of a world.

    The words come from pools just large enough that each serves several companies: a company of the test
    split is then a new combination of words that occur in training, and a search for one of its words alone
    finds others too.

    Args:
        count: How many.
        rng: Source of randomness.

    Returns:
        Companies with distinct names; with distinct word pairs, too, as long as there are enough.
    """
    size = min(max(3, math.ceil(count / 4), math.ceil(math.sqrt(count))), len(FIRST_WORDS))
    first, second = rng.sample(FIRST_WORDS, size), rng.sample(SECOND_WORDS, size)
    pairs = [(a, b) for a in first for b in second]
    years = list(YEARS)
    rng.shuffle(pairs)
    rng.shuffle(years)
    # Round r gives pair i the year i + r: no name comes twice.
    return [
        Company(*pairs[i % len(pairs)], years[(i % len(pairs) + i // len(pairs)) % len(years)]) for i in range(count)
    ]


def choose_test(companies: list[Company], share: float, rng: random.Random) -> set[int]:
    """Choose the documents of the test split.

    Args:
        companies: All companies of the world.
        share: Share of them to choose, rounded to whole documents.
        rng: Source of randomness.

    Returns:
        Positions in ``companies``. As far as the number allows, each word of a chosen company also occurs in
        one that was not chosen.
    """
    order = list(range(len(companies)))
    rng.shuffle(order)
    wanted = round(share * len(companies))
    left: dict[str, int] = {}
    for company in companies:
        for word in (company.first, company.second):
            left[word] = left.get(word, 0) + 1
    chosen: set[int] = set()
    for needed in (2, 0):  # first those whose words stay in training, then, in tiny worlds, any
        for i in order:
            name = (companies[i].first, companies[i].second)
            if len(chosen) < wanted and i not in chosen and all(left[word] >= needed for word in name):
                chosen.add(i)
                for word in name:
                    left[word] -= 1
    return chosen

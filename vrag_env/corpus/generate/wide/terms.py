"""Terms: words in the languages of a generated world, and the names that documents carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Term = tuple[str, str]
"""The same word in English and in Chinese."""

LANGUAGES = ("en", "zh")
"""Languages of the labels and questions, by their place in a :data:`Term`."""


def terms(text: str) -> tuple[Term, ...]:
    """Read terms from a text: ``English=Chinese``, separated by commas.

    >>> terms("red=红, dark blue=深蓝")
    (('red', '红'), ('dark blue', '深蓝'))
    """
    pairs = (part.strip().split("=") for part in text.replace("\n", " ").split(","))
    return tuple((pair[0].strip(), pair[1].strip()) for pair in pairs)


FIRST = terms(
    "Amber=琥珀, Arctic=极光, Autumn=金秋, Birch=白桦, Bright=明亮, Bronze=青铜, Cedar=雪松, Clover=苜蓿, Cobalt=钴蓝, "
    "Coral=珊瑚, Crystal=水晶, Dawn=晨曦, Ember=余烬, Fern=蕨叶, Frost=霜降, Garnet=石榴, Golden=金色, Granite=花岗, "
    "Harbour=海港, Hazel=榛树, Indigo=靛青, Ivory=象牙, Jade=翡翠, Juniper=杜松, Linen=亚麻, Lunar=月光, Marble=大理, "
    "Meadow=草原, Noble=高远, Ocean=远洋, Olive=橄榄, Opal=蛋白, Pearl=珍珠, Polar=北极, Quartz=石英, River=长河, "
    "Saffron=藏红, Silver=银色, Solar=阳光, Velvet=丝绒"
)
SECOND = terms(
    "Anchor=铁锚, Arrow=飞箭, Badger=山獾, Beacon=灯塔, Bridge=石桥, Canyon=峡谷, "
    "Castle=城堡, Comet=彗星, Compass=罗盘, "
    "Crest=云峰, Eagle=雄鹰, Falcon=猎隼, Feather=羽毛, Forge=锻炉, Gate=大门, Glen=幽谷, Heron=苍鹭, Island=海岛, "
    "Kettle=铜壶, Lantern=灯笼, Leaf=绿叶, Lynx=山猫, Maple=枫树, Mill=磨坊, Orchard=果园, Otter=水獭, Owl=夜枭, "
    "Panther=黑豹, Pine=青松, Quarry=采石, Raven=渡鸦, Ridge=山脊, Sail=白帆, Shield=盾牌, Sparrow=麻雀, Spring=清泉, "
    "Stone=磐石, Tower=高塔, Wagon=马车, Willow=垂柳"
)
GIVEN = terms(
    "Ada=雅达, Boris=博瑞, Clara=可兰, Daniel=丹宁, Elena=伊莲, Farid=法立, Greta=葛瑞, Hugo=雨果, Ines=英妮, "
    "Jonas=乔南, Kamala=卡美, Leo=立奥, Mira=米拉, Nils=宁世, Olga=欧佳, Pablo=柏罗"
)
FAMILY = terms(
    "Abara=艾, Bergman=白, Castell=柯, Dorn=董, Eriksen=叶, Fontana=方, Garcia=贾, Huang=黄, Ivanov=伊, Jansen=简, "
    "Keller=凯, Lindt=林, Moreau=莫"
)
MONTHS = terms(
    "January=1月, February=2月, March=3月, April=4月, May=5月, June=6月, July=7月, August=8月, September=9月, "
    "October=10月, November=11月, December=12月"
)
ORDINALS = terms(
    "first=第一, second=第二, third=第三, fourth=第四, fifth=第五, sixth=第六, seventh=第七, eighth=第八, ninth=第九, "
    "tenth=第十, eleventh=第十一, twelfth=第十二"
)
"""How questions name an edition; pages print its code instead."""


def person(given: Term, family: Term) -> Term:
    """Return a full name.

    >>> person(("Ada", "雅达"), ("Dorn", "董"))
    ('Ada Dorn', '董雅达')
    """
    return (f"{given[0]} {family[0]}", f"{family[1]}{given[1]}")


PEOPLE: tuple[Term, ...] = tuple(person(given, family) for given in GIVEN for family in FAMILY)


@dataclass(frozen=True)
class Identity:
    """What one document is about; the documents of one family differ in ``number`` alone.

    Attributes:
        organisation: Its name, unique in the world.
        code: What pages print for the edition, such as ``P05``.
        number: Number of the edition, from 1.
        year: Its year.
        edition: What questions call the edition, such as "the fifth reporting period of 2023".
        slug: Part of file names and ids, in ASCII.
    """

    organisation: Term
    code: str
    number: int
    year: int
    edition: Term
    slug: str


def unique_name(index: int, count: int, seed: int, suffixes: Sequence[Term]) -> tuple[Term, str]:
    """Return the name of an organisation: another one for every index below the number of combinations.

    Args:
        index: Which one.
        count: How many there are at all; a divisor-free step walks through them.
        seed: Chooses where the walk starts.
        suffixes: The last word of the name.

    Returns:
        The name, and the same in lower case with hyphens.
    """
    total = len(FIRST) * len(SECOND) * len(suffixes)
    if count > total:
        raise ValueError(f"there are names for {total} organisations, not for {count}")
    place = (index * 2741 + seed * 977) % total  # 2741 is prime and divides no such total
    first, rest = FIRST[place % len(FIRST)], place // len(FIRST)
    second, suffix = SECOND[rest % len(SECOND)], suffixes[rest // len(SECOND)]
    english = f"{first[0]} {second[0]} {suffix[0]}"
    return (english, f"{first[1]}{second[1]}{suffix[1]}"), english.lower().replace(" ", "-")

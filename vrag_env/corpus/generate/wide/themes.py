"""Themes: what the organisations of a generated world report on, in their own words."""

from __future__ import annotations

from dataclasses import dataclass

from vrag_env.corpus.generate.wide.terms import Term, terms


@dataclass(frozen=True)
class Measure:
    """Something that is counted or measured.

    Attributes:
        name: What it is called.
        unit: Its unit.
        low: Smallest value, in steps.
        high: Largest value, in steps; at least 150 steps above ``low``, so that all editions can differ.
        decimals: 0: a step is 1; 1: a step is 0.1.
    """

    name: Term
    unit: Term
    low: int
    high: int
    decimals: int

    def text(self, steps: int) -> str:
        """Write a value.

        >>> Measure(("a", "a"), ("b", "b"), 0, 200, 1).text(123)
        '12.3'
        """
        return f"{steps / 10:.1f}" if self.decimals else str(steps)


def _measures(text: str) -> tuple[Measure, ...]:
    """Read measures: one a line, ``name=name | unit=unit | low high decimals``."""
    found = []
    for line in text.strip().splitlines():
        name, unit, numbers = line.split("|")
        low, high, decimals = map(int, numbers.split())
        found.append(Measure(terms(name)[0], terms(unit)[0], low, high, decimals))
    return tuple(found)


@dataclass(frozen=True)
class Theme:
    """One subject.

    Attributes:
        name: Its key.
        title: What documents of it are called.
        suffixes: Last words of the names of its organisations, four.
        code: Letters of the code of an edition.
        edition: What questions call an edition, after its ordinal.
        item: What the rows of its tables are.
        items: Twelve of them; a document has eight.
        series: Two halves into which charts split a measure.
        columns: Six points in time.
        measures: At least six.
    """

    name: str
    title: Term
    suffixes: tuple[Term, ...]
    code: str
    edition: Term
    item: Term
    items: tuple[Term, ...]
    series: tuple[Term, ...]
    columns: tuple[Term, ...]
    measures: tuple[Measure, ...]


_MONTH_COLUMNS = terms("Jan=1月, Feb=2月, Mar=3月, Apr=4月, May=5月, Jun=6月")
_DAYS = terms("Mon=周一, Tue=周二, Wed=周三, Thu=周四, Fri=周五, Sat=周六")

THEMES: tuple[Theme, ...] = (
    Theme(
        "results",
        ("Trading statement", "经营报告"),
        terms("Foods=食品公司, Textiles=纺织公司, Motors=汽车公司, Paper=纸业公司"),
        "P",
        ("reporting period", "报告期"),
        ("region", "地区"),
        terms(
            "North=北区, South=南区, East=东区, West=西区, Coast=沿海, Highland=高原, Lakeside=湖滨, Capital=首都, "
            "Valley=河谷, Midland=中部, Border=边境, Delta=三角洲"
        ),
        terms("Domestic=国内, Abroad=国外"),
        _MONTH_COLUMNS,
        _measures("""
            revenue=营收 | million euros=百万欧元 | 180 960 1
            costs=成本 | million euros=百万欧元 | 160 880 1
            investment=投资额 | million euros=百万欧元 | 150 820 1
            headcount=员工数 | people=人 | 210 980 0
            orders=订单量 | orders=份 | 320 990 0
            returns=退货量 | parcels=件 | 160 790 0
            stock=库存 | pallets=托盘 | 190 970 0
        """),
    ),
    Theme(
        "survey",
        ("Survey report", "调查报告"),
        terms("Institute=研究所, Polling=民调中心, Panel=调研社, Insight=洞察社"),
        "W",
        ("survey wave", "轮调查"),
        ("town", "城镇"),
        terms(
            "Ashford=艾什镇, Brookfield=溪田镇, Calder=考德镇, Dunmore=登莫镇, Elmstead=榆园镇, Fairview=美景镇, "
            "Glenwood=幽林镇, Hartley=哈特镇, Kingsbury=金堡镇, Langton=朗顿镇, Milford=米福镇, Norwell=诺威镇"
        ),
        terms("Women=女性, Men=男性"),
        _MONTH_COLUMNS,
        _measures("""
            respondents=受访人数 | people=人 | 210 990 0
            refusals=拒访人数 | people=人 | 150 760 0
            interview length=访谈时长 | minutes=分钟 | 180 880 1
            travel time=通勤时间 | minutes=分钟 | 170 860 1
            satisfaction score=满意度得分 | points=分 | 190 970 1
            trust score=信任度得分 | points=分 | 180 940 1
            postal replies=邮寄回复 | letters=封 | 160 840 0
        """),
    ),
    Theme(
        "weather",
        ("Weather bulletin", "气象公报"),
        terms("Observatory=天文台, Weather=气象站, Climate=气候中心, Meteo=气象社"),
        "CW",
        ("calendar week", "个日历周"),
        ("station", "站点"),
        terms(
            "Pier=码头站, Airfield=机场站, Summit=山顶站, Forest=森林站, Marsh=湿地站, "
            "Quayside=岸边站, Vineyard=葡园站, "
            "Plateau=台地站, Reservoir=水库站, Lighthouse=灯塔站, Orchard=果园站, Village=村庄站"
        ),
        terms("Daytime=白天, Night=夜间"),
        _DAYS,
        _measures("""
            rainfall=降雨量 | millimetres=毫米 | 160 940 1
            evaporation=蒸发量 | millimetres=毫米 | 150 860 1
            sunshine=日照时间 | minutes=分钟 | 180 860 0
            fog duration=雾时长 | minutes=分钟 | 160 800 0
            gust speed=阵风速度 | km/h=公里/时 | 210 980 1
            wind speed=平均风速 | km/h=公里/时 | 170 880 1
            visibility=能见度 | kilometres=公里 | 180 900 1
        """),
    ),
    Theme(
        "sports",
        ("League report", "联赛报告"),
        terms("League=联赛, Athletics=田径会, Rowing=赛艇会, Cycling=自行车会"),
        "MD",
        ("matchday", "个比赛日"),
        ("club", "俱乐部"),
        terms(
            "Rangers=游侠队, Harriers=飞奔队, Mariners=水手队, Wanderers=漫步队, Pioneers=先锋队, Sentinels=哨兵队, "
            "Dynamos=动力队, Corsairs=海盗队, Lancers=枪骑队, Nomads=游牧队, Archers=射手队, Monarchs=君王队"
        ),
        terms("Home=主场, Away=客场"),
        _MONTH_COLUMNS,
        _measures("""
            attendance=观众人数 | people=人 | 230 990 0
            season tickets=季票持有者 | people=人 | 170 860 0
            distance covered=跑动距离 | kilometres=公里 | 180 920 1
            travel distance=客场行程 | kilometres=公里 | 160 880 1
            passes=传球次数 | passes=次 | 210 960 0
            possession time=控球时间 | minutes=分钟 | 190 900 1
            ticket income=门票收入 | thousand euros=千欧元 | 180 940 1
        """),
    ),
    Theme(
        "products",
        ("Product guide", "产品手册"),
        terms("Tools=工具厂, Lighting=照明厂, Audio=音响厂, Cycles=单车厂"),
        "RV",
        ("revision", "次修订"),
        ("model", "型号"),
        terms(
            "Orbit=轨道型, Nimbus=雨云型, Prisma=棱镜型, Vertex=顶点型, Aurora=极光型, Tempo=节拍型, Atlas=地图型, "
            "Fjord=峡湾型, Matrix=矩阵型, Sonata=奏鸣型, Kinetic=动能型, Zenith=天顶型"
        ),
        terms("Standard=标准版, Premium=高级版"),
        _MONTH_COLUMNS,
        _measures("""
            weight=重量 | grams=克 | 220 980 0
            packaging weight=包装重量 | grams=克 | 160 820 0
            battery life=电池续航 | minutes=分钟 | 210 940 0
            charging time=充电时间 | minutes=分钟 | 160 840 0
            list price=标价 | euros=欧元 | 190 960 1
            repair cost=维修费 | euros=欧元 | 160 860 1
            units sold=销量 | units=台 | 230 990 0
        """),
    ),
    Theme(
        "building",
        ("Facility report", "设施报告"),
        terms("Towers=大厦, Campus=园区, Arcade=商场, Hospital=医院"),
        "FL",
        ("floor", "层"),
        ("department", "部门"),
        terms(
            "Finance=财务部, Marketing=市场部, Logistics=物流部, Research=研究部, Design=设计部, Legal=法务部, "
            "Support=客服部, Training=培训部, Payroll=薪资部, Quality=质检部, Archive=档案部, Reception=接待处"
        ),
        terms("Weekdays=工作日, Weekend=周末"),
        _DAYS,
        _measures("""
            visitors=访客数 | people=人 | 220 990 0
            occupancy=在岗人数 | people=人 | 160 830 0
            floor area=面积 | square metres=平方米 | 190 940 1
            window area=窗户面积 | square metres=平方米 | 160 860 1
            power use=用电量 | kilowatt hours=千瓦时 | 220 980 1
            heating use=供暖用量 | kilowatt hours=千瓦时 | 180 900 1
            water use=用水量 | litres=升 | 210 970 0
        """),
    ),
    Theme(
        "project",
        ("Project report", "项目报告"),
        terms("Rail=铁路项目, Harbours=港口项目, Networks=网络项目, Bridges=桥梁项目"),
        "ST",
        ("stage", "阶段"),
        ("work package", "工作包"),
        terms(
            "Surveying=测绘, Earthworks=土方, Drainage=排水, Concrete=混凝土, Steelwork=钢结构, Cabling=布线, "
            "Signals=信号, Paving=铺装, Lighting=照明, Fencing=围栏, Planting=绿化, Handover=移交"
        ),
        terms("Planned=计划, Actual=实际"),
        _MONTH_COLUMNS,
        _measures("""
            budget=预算 | thousand euros=千欧元 | 210 980 1
            spending=支出 | thousand euros=千欧元 | 180 920 1
            working hours=工时 | hours=小时 | 220 990 0
            overtime=加班 | hours=小时 | 160 820 0
            material=材料用量 | tonnes=吨 | 180 940 1
            spoil=弃土 | tonnes=吨 | 160 860 1
            inspections=检查次数 | inspections=次 | 190 880 0
        """),
    ),
    Theme(
        "energy",
        ("Energy review", "能源评估"),
        terms("Power=电力公司, Hydro=水电公司, Wind=风电公司, Heat=热力公司"),
        "RD",
        ("reading round", "轮抄表"),
        ("plant", "电站"),
        terms(
            "Alder=桤木站, Basin=盆地站, Cliff=悬崖站, Dune=沙丘站, Estuary=河口站, Ford=浅滩站, "
            "Grove=树林站, Heath=荒原站, "
            "Inlet=海湾站, Knoll=小丘站, Ledge=岩架站, Moor=沼地站"
        ),
        terms("Winter=冬季, Summer=夏季"),
        _MONTH_COLUMNS,
        _measures("""
            output=发电量 | megawatt hours=兆瓦时 | 220 980 1
            losses=损耗 | megawatt hours=兆瓦时 | 160 840 1
            downtime=停机时间 | hours=小时 | 180 900 1
            maintenance=维护时间 | hours=小时 | 160 860 1
            emissions=排放量 | tonnes=吨 | 210 970 1
            water flow=水流量 | cubic metres=立方米 | 230 990 0
            alarms=报警次数 | alarms=次 | 160 790 0
        """),
    ),
)
"""All themes; family ``i`` of a world has number ``i`` modulo their count."""

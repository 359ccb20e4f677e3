"""What 1,000 slides would cost: factors with their origin, hours on named machines with the arithmetic, disk, money."""

from lib.study.book.parts.tables import pipe_table
from lib.study.book.records import Records
from lib.study.cost_estimate import MACHINES, disk_gb, factors, money, steps


def estimate(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """The estimate for the number of slides in ``data/assumptions/cost.csv``; what is missing where it cannot be made."""
    try:
        factor = factors(records.root)
    except FileNotFoundError as error:
        return f"No estimate in this copy: {error}.\n", {}
    slides, types = factor["slides"].value, factor["cancer_types"].value
    found = {machine: steps(factor, machine) for machine in MACHINES}
    rows = [
        [step.name, *(_hours(found[machine][at].hours) for machine in MACHINES)]
        for at, step in enumerate(found[MACHINES[0]])
    ]
    hours = [sum(step.hours for step in found[machine]) for machine in MACHINES]
    rows.append(["**all, one after the other**", *(_hours(each) for each in hours)])
    rows.append(["a slide", *(f"{60 * each / slides:,.1f} min" for each in hours)])
    shown = pipe_table(
        {"Step": "l", **dict.fromkeys((machine.name for machine in MACHINES), "r")},
        rows,
        f"{slides:,.0f} slides of {types:g} cancer types, from the archive to one trained model: an estimate, never run. "
        "Every step is proportional to the number of slides.",
        "tbl-estimate",
        wide=True,
    )
    arithmetic = pipe_table(
        {"Step": "l", "Machine": "l", "Arithmetic": "l"},
        [[step.name, machine.name, step.arithmetic] for machine in MACHINES for step in found[machine]],
        "How the hours come about. What is divided by is cores times the share of ideal; steps are slides × (folds − 1) × "
        "epochs × seeds × models; every slide is held out once in each epoch of each seed.",
        "tbl-estimate-arithmetic",
        wide=True,
    )
    space = disk_gb(factor)
    stored = ", ".join(f"{name} {count:,.0f} GB" for name, count in space.items())
    price = factor["price_machine_hour"].value
    paid = "; ".join(
        f"{machine.name}: {money(factor, each):,.0f}" for machine, each in zip(MACHINES, hours, strict=True)
    )
    words = (
        f"**Disk.** {stored}: {sum(space.values()) / 1e3:.2f} TB; slides may go once their features are there, which leaves "
        f"{(sum(space.values()) - space['slides']) / 1e3:.2f} TB.\n\n"
        "**Money** = hours × price of a machine hour + TB × price of a TB and month × months. Prices differ by place and "
        f"year, so none is stated here: put in yours. An example, no price: with {price:g} an hour and "
        f"{factor['price_tb_month'].value:g} a TB and month, {paid}.\n\n"
        "```bash\n"
        f"python -m lib.study.cost_estimate slides={slides:.0f} price_machine_hour=1\n"
        "```\n"
    )
    origins = pipe_table(
        {"Factor": "l", "Value": "r", "Unit": "l", "Certainty": "l", "Source": "l"},
        [
            [f"`{name}`", f"{each.value:,.6g}", each.unit, each.certainty, each.source]
            for name, each in factor.items()
        ],
        "Every factor of the estimate: `data/assumptions/cost.csv`, and what was measured.",
        "tbl-estimate-factors",
        wide=True,
    )
    return "\n".join([shown, words, arithmetic, origins]), {}


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours < 100 else f"{hours:,.0f} h"

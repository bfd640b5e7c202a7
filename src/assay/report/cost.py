"""The page of `assay cost`, and the rows that it shares with the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report.format import count, duration, memory, scientific, significant
from assay.report.instrument import Section, Table, write_page
from assay.runs import read_json

__all__ = ["DATA", "FILE", "assumption_rows", "inference_rows", "memory_rows", "training_rows", "write_cost"]

DATA, FILE = "cost.json", "report.html"
Row = list[str]


def span(seconds: float) -> str:
    """A time in the unit that people would use: days and years too."""
    for size, unit in ((365.25 * 86400, "years"), (86400, "days")):
        if seconds >= 2 * size:
            return f"{significant(seconds / size)} {unit}"
    return duration(seconds) if seconds >= 1 else f"{significant(1000 * seconds)} ms"


def hours(value: float) -> str:
    """Device-hours, few ones with their fraction."""
    return count(value) if value >= 100 else significant(value)


def energy(kwh: float) -> str:
    """Kilowatt-hours, from a thousand on as MWh; very little as Wh."""
    if kwh >= 1000:
        return f"{significant(kwh / 1000, 4)} MWh"
    return f"{significant(kwh)} kWh" if kwh >= 1 else f"{significant(1000 * kwh)} Wh"


def mass(kg: float) -> str:
    """Kilograms, from a thousand on as tonnes; very little as grams."""
    if kg >= 1000:
        return f"{significant(kg / 1000)} t"
    return f"{significant(kg)} kg" if kg >= 1 else f"{significant(1000 * kg)} g"


def dollars(value: float) -> str:
    """Money."""
    return f"${count(value)}" if value >= 100 else f"${significant(value)}"


def training_rows(data: dict[str, Any]) -> list[Row]:
    """What training costs: name, value, remark; empty where none was asked for."""
    found = data["training"]
    rows = [["parameters", count(data["parameters"]["total"]), _parts(data["parameters"])]]
    if data["active_parameters"] != data["parameters"]["total"]:
        rows.append(["active parameters", count(data["active_parameters"]), "of a mixture's experts the active ones"])
    if found is None:
        return rows
    ratio = found["rule_of_thumb"] / found["flops"]
    by_part = found["flops_per_token"]
    whole = sum(by_part.values())
    shares = ", ".join(f"{name.replace('_', ' ')} {100 * value / whole:.0f}%" for name, value in by_part.items())
    length = f"{data['length']}" + (f" + {data['decoder_length']}" if data["decoder_length"] else "")
    return [
        *rows,
        ["tokens", count(found["tokens"]), f"in sequences of {length}"],
        ["FLOPs, exact", scientific(found["flops"]), shares],
        ["FLOPs by 6 N D", scientific(found["rule_of_thumb"]), f"{ratio:.2f} of the exact count"],
        ["device-hours", hours(found["device_hours"]), "exact FLOPs over peak times utilisation"],
        ["time", span(found["seconds"]), f"on {data['devices']:,} device{'s' * (data['devices'] != 1)}"],
        ["energy", energy(found["energy_kwh"]), "device-hours x power x PUE"],
        ["CO2e", mass(found["co2_kg"]), "energy x the grid's"],
        ["money", dollars(found["money"]), "device-hours x price"],
    ]


def _parts(parameters: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count(n)}" for name, n in parameters.items() if name != "total")


def memory_rows(data: dict[str, Any]) -> list[Row]:
    """Memory by part: name, value, remark."""
    found, dtype = data["memory"], data["dtype"]
    if data["training"] is None:
        rows = [["weights", memory(found["weights"]), dtype]]
    else:
        number = found["sequences"]
        each = f"of {number} sequence{'s' * (number != 1)} of {data['length']} tokens"
        rows = [
            ["weights", memory(found["weights"]), dtype],
            ["gradients", memory(found["gradients"]), dtype],
            ["optimizer", memory(found["optimizer"]), _optimizer(dtype)],
            ["activations", memory(found["activations"]), each],
            ["  with checkpointing", memory(found["activations_checkpointed"]), "each layer's input kept"],
        ]
    if found["cache"]:
        rows.append(["key-value cache", memory(found["cache_per_token"]), "a token"])
        rows.append(["", memory(found["cache"]), f"of a sequence of {data['decoder_length'] or data['length']} tokens"])
    return rows


def _optimizer(dtype: str) -> str:
    return "AdamW: two float32 moments" + ("" if dtype in ("float32", "float64") else " and float32 weights")


def inference_rows(data: dict[str, Any]) -> list[Row]:
    """What answering costs: name, value, remark; empty for an encoder."""
    found = data["inference"]
    if found is None:
        return []
    total = found["prefill_seconds"] + found["new"] * found["seconds_per_token"]
    each = f"{found['batch']} x {found['prompt']} prompt + {found['new']} new tokens on {found['devices']} device"
    return [
        ["request", "", each + "s" * (found["devices"] != 1)],
        ["prompt", span(found["prefill_seconds"]), f"{scientific(found['prefill_flops'])} FLOPs"],
        [
            "a new token",
            span(found["seconds_per_token"]),
            f"bound by {found['bound']}: {memory(found['bytes_per_step'])} read a step",
        ],
        ["whole answer", span(total), f"{significant(found['batch'] * found['new'] / total)} tokens/s"],
        ["energy", energy(found["energy_kwh"]), f"CO2e {mass(found['co2_kg'])}, money {dollars(found['money'])}"],
    ]


def assumption_rows(data: dict[str, Any]) -> list[Row]:
    """What was assumed: name, value with unit, source."""
    return [
        [a["name"].replace("_", " "), f"{scientific(a['value'])} {a['unit']}".strip(), a["source"]]
        for a in data["assumptions"]
    ]


def write_cost(folder: str | Path) -> Path:
    """Write `report.html` beside `cost.json`, from it alone; its path.

    Raises:
        UserError: there is no such file, or the disk is full.
    """
    folder = Path(folder)
    held = read_json(folder / DATA)
    if not isinstance(held, dict) or held.get("kind") != "cost":
        raise UserError(f"{folder / DATA}: holds no estimate of assay cost.")
    data = held["cost"]
    found = data["training"]
    finding = [f"{count(data['parameters']['total'])} parameters."]
    if found is not None:
        finding = [
            f"Training on {count(found['tokens'])} tokens takes {scientific(found['flops'])} FLOPs: "
            f"{hours(found['device_hours'])} hours of one {data['hardware']}, {energy(found['energy_kwh'])}, "
            f"{mass(found['co2_kg'])} of CO2e and {dollars(found['money'])}, under the assumptions below."
        ]
    sections = [
        Section(title, tables=[Table(heads, rows)])
        for title, heads, rows in (
            ("Training", ["", "", ""], training_rows(data)),
            ("Memory", ["", "", ""], memory_rows(data)),
            ("Inference", ["", "", ""], inference_rows(data)),
            ("What is assumed", ["Assumption", "Value", "Source"], assumption_rows(data)),
        )
        if rows
    ]
    write_page(
        folder / FILE,
        title=f"Cost of {data['model']}",
        kicker=f"assay cost · {held['provenance']['time'][:10]}",
        finding=finding,
        said=data["notes"],
        sections=sections,
        provenance=held["provenance"],
        settings={"devices": data["devices"], "hardware of the estimate": data["hardware"], "type": data["dtype"]},
        source=DATA,
    )
    return folder / FILE

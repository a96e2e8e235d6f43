"""NAMES OF DEVICES -> WHAT THEY HOLD AND COMPUTE, as their makers' data sheets say it (products without sparsity)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from uniperceiver.errors import UserError, nearest

_PER_MACHINE = 8  # devices of a machine, where more are asked for and nothing else is said
_NETWORK = 12.5e9  # bytes per second and device between machines: 100 Gbit/s
_MOST = 100_000  # devices


@dataclass(frozen=True, kw_only=True)
class Device:
    """An accelerator, as its maker's data sheet describes it.

    Sheets count GB as 10⁹ or 2³⁰ bytes; here it is the smaller.
    """

    memory: float  # bytes
    half: float  # FLOP per second of matrix products in 16 bits, added up in 32
    single: float  # FLOP per second in float32
    link: float  # bytes per second that it sends to others of its machine
    bfloat16: bool = True  # whether its 16 bits may be that; else they are float16

    def peak(self, precision: str) -> float:
        """FLOP per second of products of that type, such as "bfloat16"."""
        return self.half if precision == "float16" or (precision == "bfloat16" and self.bfloat16) else self.single


# Sheets give links in both directions together; half of that is sent. PCIe: 32 GB/s both ways of the third generation
# with 16 lanes, 64 of the fourth.
DEVICES: Mapping[str, Device] = {
    # NVIDIA V100 data sheet, SXM2: 32 GB, 125 (float16), 15.7, NVLink 300 GB/s
    "V100": Device(memory=32e9, half=125e12, single=15.7e12, link=150e9, bfloat16=False),
    # NVIDIA T4 data sheet: 16 GB, 65 (float16), 8.1, PCIe 3
    "T4": Device(memory=16e9, half=65e12, single=8.1e12, link=16e9, bfloat16=False),
    # NVIDIA A10 data sheet: 24 GB, 125 (250 with sparsity), 31.2, PCIe 4
    "A10": Device(memory=24e9, half=125e12, single=31.2e12, link=32e9),
    # NVIDIA A100 data sheet, SXM4: 80 or 40 GB, 312 (624 with sparsity), 19.5, NVLink 600 GB/s
    "A100": Device(memory=80e9, half=312e12, single=19.5e12, link=300e9),
    "A100-40GB": Device(memory=40e9, half=312e12, single=19.5e12, link=300e9),
    # NVIDIA L4 data sheet: 24 GB, 242 with sparsity, 30.3, PCIe 4
    "L4": Device(memory=24e9, half=121e12, single=30.3e12, link=32e9),
    # NVIDIA L40S data sheet: 48 GB, 362.05 (733 with sparsity), 91.6, PCIe 4
    "L40S": Device(memory=48e9, half=362.05e12, single=91.6e12, link=32e9),
    # NVIDIA Ampere GA102 white paper, appendix A: 24 GB, 71 (added up in float32; in float16 142), 35.6, PCIe 4
    "RTX3090": Device(memory=24e9, half=71e12, single=35.6e12, link=32e9),
    # NVIDIA Ada white paper, appendix A: 24 GB, 165.2 (added up in float32; in float16 330.3), 82.6, PCIe 4
    "RTX4090": Device(memory=24e9, half=165.2e12, single=82.6e12, link=32e9),
    # NVIDIA H100 and H200 data sheets, SXM5: 80 and 141 GB, 1,979 with sparsity, 67, NVLink 900 GB/s
    "H100": Device(memory=80e9, half=989e12, single=67e12, link=450e9),
    "H200": Device(memory=141e9, half=989e12, single=67e12, link=450e9),
    # NVIDIA HGX B200 platform: 1,440 GB, 36 PFLOP/s with sparsity and 600 TFLOP/s of eight, NVLink 1.8 TB/s of each
    "B200": Device(memory=180e9, half=2250e12, single=75e12, link=900e9),
    # AMD Instinct MI300X data sheet: 192 GB, 1,307.4, 163.4 (matrix), seven links of 128 GB/s to the others
    "MI300X": Device(memory=192e9, half=1307.4e12, single=163.4e12, link=448e9),
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """So many devices of one kind, a process on each."""

    name: str
    device: Device
    machines: int
    per_machine: int

    @property
    def size(self) -> int:
        """Processes."""
        return self.machines * self.per_machine

    @property
    def bandwidth(self) -> float:
        """Bytes per second and process over the slowest link between them."""
        return self.device.link if self.machines == 1 else min(self.device.link, _NETWORK)


def read_devices(text: str) -> Cluster:
    """Read `8xH100`, or `4x8xH100` for four machines of eight; more than eight without that are machines of eight.

    Raises:
        UserError: no such device, with the nearest names; a number that is none, or does not fill machines.
    """
    *numbers, wish = re.split(r"[x×*]", text)
    names = {name.lower(): name for name in DEVICES}
    name = names.get(wish.lower().replace(" ", ""))
    if name is None:
        raise UserError(f"--devices {text}: no device {wish!r}; {nearest(wish.upper(), DEVICES)}")
    if len(numbers) > 2 or not all(number.isdecimal() and 0 < int(number) <= _MOST for number in numbers):
        raise UserError(f"--devices {text}: give a number and a device, as 8xH100, or machines too, as 4x8xH100")
    counts = [int(number) for number in numbers]
    if len(counts) == 2:
        machines, per_machine = counts
    else:
        count = counts[0] if counts else 1
        per_machine = min(count, _PER_MACHINE)
        machines = count // per_machine
        if count % per_machine:
            raise UserError(
                f"--devices {text}: {count} are no whole machines of {per_machine}; say how many machines of how many "
                f"devices, as 2x6x{name}"
            )
    return Cluster(name=name, device=DEVICES[name], machines=machines, per_machine=per_machine)


def amount(value: float, unit: str = "B") -> str:
    """A number of bytes or FLOP with the prefix that makes it short: 8.40 GB."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1e3
    return f"{value:.4g} P{unit}"

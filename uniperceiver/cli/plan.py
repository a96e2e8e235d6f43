"""The command that tells what a recipe will need."""

from pathlib import Path
from typing import Annotated

from uniperceiver.cli.options import arg
from uniperceiver.cli.output import print_json
from uniperceiver.cli.process import settle
from uniperceiver.cli.runs import AsJson, Overrides
from uniperceiver.errors import UserError


def plan(
    recipe: Annotated[Path, arg(metavar="RECIPE.yaml")],
    overrides: Overrides,
    *,
    devices: Annotated[
        str | None, arg("what it will run on, as 8xH100, or 4x8xH100: a process on each", metavar="NxNAME")
    ] = None,
    mfu: Annotated[float, arg("share of a device's products that a step reaches (default: %(default)s)")] = 0.4,
    bandwidth: Annotated[
        float | None, arg("GB per second that a process sends (default: as the devices do)", metavar="GB")
    ] = None,
    simulate: Annotated[
        int | None, arg("also make a step as one of W processes, the others being none, and count", metavar="W")
    ] = None,
    json: AsJson = False,
) -> int | None:
    """Tell what a recipe needs before it is trained: memory, work, what processes send, and what to change first."""
    from uniperceiver.config import read_overrides, read_recipe
    from uniperceiver.runs.plan.advice import misfit
    from uniperceiver.runs.plan.devices import read_devices
    from uniperceiver.runs.plan.page import as_json, as_text
    from uniperceiver.runs.plan.plan import plan as plan_of
    from uniperceiver.runs.plan.simulate import simulated

    if not 0 < mfu <= 1:
        raise UserError(f"--mfu {mfu:g}: is a share; give a number above 0 and up to 1")
    if bandwidth is not None and bandwidth <= 0:
        raise UserError(f"--bandwidth {bandwidth:g}: give GB per second, more than 0")
    if simulate is not None and simulate < 2:
        raise UserError(f"--simulate {simulate}: one process sends nothing; give 2 or more")
    cluster = None if devices is None else read_devices(devices)
    values = read_recipe(recipe, read_overrides(overrides))
    settle(values)
    rate = None if bandwidth is None else bandwidth * 1e9
    planned = plan_of(values, recipe.parent, cluster, mfu=mfu, bandwidth=rate, quiet=False)
    counted = None if simulate is None else simulated(values, recipe.parent, simulate)
    if json:
        print_json({**as_json(planned), **({} if counted is None else {"simulated": counted.to_json()})})
    else:
        print("\n".join([*as_text(planned), *([] if counted is None else counted.as_text())]))
    if (wrong := misfit(planned)) is not None:
        raise UserError(f"{recipe}: {wrong}")
    return None

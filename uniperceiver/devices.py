"""Where to compute."""

import torch

from uniperceiver.errors import UserError


def device_of(name: str) -> torch.device:
    """Find the device of that name; "auto" is the first accelerator, or the CPU.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r}: {reason}; use device=cpu, or auto") from None

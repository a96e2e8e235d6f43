"""Where to compute."""

import torch

from uniperceiver.errors import UserError


def refuse_other_default() -> None:
    """Refuse to train or measure where a program has made another type than float32 torch's default.

    Raises:
        UserError: it has.
    """
    name = str(torch.get_default_dtype())
    if name != "torch.float32":
        raise UserError(
            f"torch's default type is {name}, in which figures would be others; call "
            "torch.set_default_dtype(torch.float32) first"
        )


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

"""Where to compute, and what that is."""

import platform

import torch

from uniperceiver.errors import UserError
from uniperceiver.version import VERSION


def refuse_other_defaults() -> None:
    """Refuse to train or measure where a program has changed how torch computes everywhere.

    Raises:
        UserError: another default type or device, or autocast.
    """
    name, device = str(torch.get_default_dtype()), torch.get_default_device()
    if name != "torch.float32":
        raise UserError(
            f"torch's default type is {name}, in which figures would be others; call "
            "torch.set_default_dtype(torch.float32) first"
        )
    if device.type != "cpu":
        raise UserError(
            f"torch's default device is {device}, but batches are made on the CPU; call "
            "torch.set_default_device('cpu') first, and say with device where to compute"
        )
    accelerator = torch.accelerator.current_accelerator() or device
    if any(map(torch.is_autocast_enabled, (device.type, accelerator.type))):
        raise UserError(
            "torch.autocast is on, in which figures would be others; call this outside of it, and say with "
            "optimiser.precision what is computed in 16 bits"
        )


def refuse_without_gradients() -> None:
    """Refuse to train, or to compare gradients, where a program has switched them off.

    Raises:
        UserError: it has.
    """
    if not torch.is_grad_enabled():
        raise UserError(
            "gradients are switched off, so nothing would be learnt; call this outside of torch.no_grad() and "
            "torch.inference_mode()"
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


def dtype_of(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Find the type that a device computes in; "auto" is bfloat16 where the device has instructions for it.

    Raises:
        UserError: it is another than float32, bfloat16 and float16.
    """
    if dtype == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    name = str(dtype).removeprefix("torch.")
    if name not in types:
        raise UserError(f"dtype {name!r}: is none that a model computes in; use {', '.join(types)} or auto")
    return types[name]


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for products of bfloat16.

    A CPU without takes many times as long for them as for those of float32 (docs/performance.md).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    return any(value is True and "bf16" in name for name, value in able.items())


def machine_facts(device: torch.device) -> dict[str, str]:
    """Describe what computes: the device by its own name, the system, and the versions of what matters for figures.

    Args:
        device: an accelerator, or the CPU with as many threads as torch has now.
    """
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} thread{'s' * (threads != 1)}"
    return {
        "device": f"{device}, {name}" if device.type in ("cuda", "cpu") else str(device),
        "system": f"{platform.system()} {platform.machine()}",
        "uniperceiver": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }

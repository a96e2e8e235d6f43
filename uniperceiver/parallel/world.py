"""WHO COMPUTES TOGETHER, and the small agreements between them.

Every function is the identity for one process: it makes no collective, and nobody else has to ask how many there are.
All processes must call the same functions in the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from uniperceiver.parallel.environment import AGREED
from uniperceiver.parallel.packing import pack, unpack

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a run, as one of them sees them; made by `parallel.start.joined`."""

    rank: int = 0  # of this process
    size: int = 1  # processes
    local_size: int = 1  # processes on this machine
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))  # where agreements are computed
    store: distributed.Store | None = None  # of the launcher, which outlives a process
    attempt: int = 0  # how often all were started anew
    names: tuple[str, ...] = ()  # host and pid of each process, for who reads that it is lost

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def largest(self, values: Sequence[int]) -> list[int]:
        """The largest of all processes' numbers at each place."""
        if self.size == 1:
            return list(values)
        value = torch.tensor(list(values), dtype=torch.int64, device=self.device)
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return value.tolist()

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up a tensor of one shape over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor, distributed.ReduceOp.SUM)
        return tensor

    def gather(self, record: Any) -> list[Any]:
        """What every process has, in their order, for each of them: plain values and tensors, see `packing`."""
        if self.size == 1:
            return [record]
        mine = pack(record)
        lengths = [int(length) for length in self._all_gather(torch.tensor([len(mine)], dtype=torch.int64))]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        return [
            unpack(content[:length].numpy().tobytes())
            for content, length in zip(self._all_gather(padded), lengths, strict=True)
        ]

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, for all of them: plain values and tensors, see `packing`."""
        if self.size == 1:
            return make()
        mine = pack(make()) if self.is_first else b""
        length = self._sent(torch.tensor([len(mine)], dtype=torch.int64))
        content = torch.zeros(int(length), dtype=torch.uint8)
        if self.is_first:
            content.copy_(torch.frombuffer(bytearray(mine), dtype=torch.uint8))
        result: T = unpack(self._sent(content).numpy().tobytes())
        return result

    @contextmanager
    def together(self, *kinds: type[BaseException]) -> Iterator[None]:
        """What one process raises in the block, all raise at its end; of several the kind that stands last.

        Args:
            kinds: of errors that are agreed on; any other ends the process, which the others will notice.
        """
        if self.size == 1:
            yield
            return
        own: BaseException | None = None
        try:
            yield
        except kinds as error:
            own = error
        code = 0 if own is None else 1 + next(n for n, kind in enumerate(kinds) if isinstance(own, kind))
        (agreed,) = self.largest([code])
        if agreed:
            texts = self.gather(str(own) if code == agreed else None)
            shared = own if own is not None and code == agreed else kinds[agreed - 1](next(filter(None, texts), ""))
            shared.add_note(AGREED)
            raise shared

    def tell(self, what: str) -> None:
        """Leave word for the others outside of any agreement."""
        if self.store is not None:
            self.store.set(f"told/{what}", "1")

    def was_told(self, what: str) -> bool:
        """Whether any process has left that word."""
        return self.store is not None and self.store.check([f"told/{what}"])

    def _all_gather(self, tensor: Tensor) -> list[Tensor]:
        tensor = tensor.to(self.device)
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(parts, tensor)
        return [part.cpu() for part in parts]

    def _sent(self, tensor: Tensor) -> Tensor:
        """The first process's tensor."""
        tensor = tensor.to(self.device)
        distributed.broadcast(tensor, src=0)
        return tensor.cpu()

"""Engine that runs on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cvx_engine import Engine, Listener, Work
from cvx_engine.pool import DecoderPool, FailedItem

from cvx_core import CvxError, OptionError
from cvx_core.plugins import REPORT
from cvx_ray import actors
from cvx_ray.cluster import connected, imported
from cvx_ray.pool import Pool
from cvx_ray.scheduler import Scheduler
from cvx_ray.serialization import pack, pack_work

DECODERS_OF_A_MODEL = 16
"""Processes that decode for one that explains, at most, unless more are asked for."""

PROOFS = 8
"""Items that are tried to find one that can be decoded here."""


@dataclass(frozen=True)
class Ray(Engine):
    """Runs on the cluster at RAY_ADDRESS, or on one begun on this machine.

    Parameters
    ----------
    models
        Processes that explain, each with the model; none: one on each GPU, or where there are none
        one for each of three CPUs in four.
    decoders
        Processes that decode; none: one for each CPU that is left, 16 for each that explains at
        most.
    device
        ``"cuda"`` to explain on GPUs, ``"cpu"`` not to; none: on GPUs if the cluster has any.
    wait
        Seconds to wait for free resources in the cluster.

    Raises
    ------
    OptionError
        If one is outside its range.
    """

    models: int | None = None
    decoders: int | None = None
    device: str | None = None
    wait: float = 300.0

    def __post_init__(self) -> None:
        for name in ("models", "decoders"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise OptionError(f"{name} must be a positive integer, got {value!r}.")
        if self.device not in (None, "cpu", "cuda"):
            raise OptionError(f"device must be cpu or cuda, got {self.device!r}.")
        if not isinstance(self.wait, int | float) or not self.wait > 0:
            raise OptionError(f"wait must be a number of seconds above 0, got {self.wait!r}.")

    def run(self, work: Work[Any, Any, Any], listener: Listener) -> None:
        """Do all blocks that are pending."""
        if not work.pending():
            return
        ray = imported()
        decoder, whole = pack(work.decoder()), pack_work(work)
        with connected(ray):
            share = _Share.of(ray.cluster_resources(), self.models, self.decoders, self.device)
            several = sum(node["Alive"] for node in ray.nodes()) > 1
            proof = _proof(work) if several else None
            with _decoders(ray, work, decoder, share, proof, self.wait) as decoders:  # noqa: SIM117
                with _models(ray, whole, share, self.wait) as models:
                    scheduler = Scheduler(ray, work, listener, decoders, models)
                    scheduler.run()
        _reconcile(work, scheduler.tracker.begun, listener)


@dataclass(frozen=True)
class _Share:
    """How the cluster is shared between those that decode and those that explain.

    All of them together never ask for more CPUs than there are: one that is waited for in vain
    would keep the run waiting for ever.
    """

    models: int
    decoders: int
    cpus: float
    gpu: bool

    @classmethod
    def of(
        cls,
        resources: dict[str, float],
        models: int | None,
        decoders: int | None,
        device: str | None,
    ) -> _Share:
        cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0.0))
        gpu = device == "cuda" or (device is None and gpus > 0)
        models = models or (max(1, gpus) if gpu else max(1, int(cpus * 3 // 4)))
        decoders = decoders or max(1, min(int(cpus) - models, DECODERS_OF_A_MODEL * models))
        # Ray counts in ten-thousandths.
        each = min(1.0, int(cpus / (models + decoders) * 10_000) / 10_000)
        return cls(models, decoders, each, gpu)


def _decoders(
    ray: Any,
    work: Work[Any, Any, Any],
    packed: bytes,
    share: _Share,
    proof: Any,
    wait: float,
) -> Pool:
    kept = ray.put(packed)
    cls = ray.remote(actors.Decoding)

    def begin(place: bool) -> tuple[Any, Any]:
        asked = {"num_cpus": share.cpus if place else 0, "scheduling_strategy": "SPREAD"}
        handle = cls.options(**asked).remote(kept, work.timeout)
        return handle, handle.hello.remote(proof)

    return Pool(ray, "decodes", share.decoders, begin, wait)


def _models(ray: Any, packed: bytes, share: _Share, wait: float) -> Pool:
    kept = ray.put(packed)
    cls = ray.remote(actors.Explaining)

    def begin(place: bool) -> tuple[Any, Any]:
        asked = {"num_cpus": share.cpus if place else 0, "num_gpus": int(share.gpu)}
        handle = cls.options(**asked).remote(kept, "cuda" if share.gpu else "cpu")
        return handle, handle.hello.remote()

    return Pool(ray, "explains", share.models, begin, wait)


def _proof(work: Work[Any, Any, Any]) -> Any:
    """Return an item that can be decoded on this machine; None if the first ones can't.

    On a machine that doesn't see the inputs, all would become bad ones.
    """
    items = work.items(work.pending()[0])[:PROOFS]
    with DecoderPool(work.decoder(), work.timeout, 1) as decoders:
        for item in items:
            decoders.submit([item])
            if not isinstance(decoders.take(item), FailedItem):
                return item
    return None


def _reconcile(work: Work[Any, Any, Any], begun: list[int], listener: Listener) -> None:
    pending = set(work.pending())
    lost = pending.intersection(begun) or (set() if listener.stop else pending)
    if lost:
        raise CvxError(f"{len(lost)} blocks have no rows, the first of them {min(lost)}.", REPORT)

"""The part of the ledger where workers report what they have and do, and learn of cancelled jobs."""

from dataclasses import asdict

import msgpack

from img2img_shared.errors import Refused
from img2img_shared.ledger.connect import reading
from img2img_shared.ledger.part import LedgerPart
from img2img_shared.ledger.replies import worker_status
from img2img_shared.records import Heard, WorkerInfo, WorkerOrder, WorkerReport, WorkerStatus

#: workers that one call to Redis gives
WORKERS = 100


class WorkerRecords(LedgerPart):
    """Workers, and the checkpoints that their models' names stand for."""

    def has_served(self, model: str) -> bool:
        """Whether a worker for `model` has ever been ready."""
        return self._redis.call("HGET", self._redis.key("models"), model) is not None

    def check_model(self, model: str, identity: str) -> None:
        """Check that the name of `model` does not stand for another checkpoint.

        Raises:
            Refused: it does.
        """
        bound = self._redis.call("HGET", self._redis.key("models"), model)
        if bound is not None and bound != identity.encode():
            raise _other_checkpoint(model, identity, str(bound, "utf-8"))

    def known_hashes(self) -> dict[str, str]:
        """For each model that was ever loaded, the SHA-256 of its checkpoint."""
        found = self._redis.call("HGETALL", self._redis.key("models"))
        pairs = dict(zip(found[::2], found[1::2], strict=True)) if isinstance(found, list) else found
        return {str(model, "utf-8"): str(each, "utf-8").partition(" ")[0] for model, each in pairs.items()}

    def bind_model(self, model: str, identity: str, *, rebind: bool = False) -> None:
        """Bind the name of `model` to that checkpoint, until it is bound anew.

        Two checkpoints with one name would render different pictures from one seed.

        Args:
            identity: see `img2img_shared.checkpoints.identity`.
            rebind: bind it whatever it stands for now; workers with that checkpoint end at their next `beat`.

        Raises:
            Refused: it stands for another one.
        """
        bound = str(self._redis.run("bind", model, identity, int(rebind)), "utf-8")
        if bound != identity:
            raise _other_checkpoint(model, identity, bound)

    def beat(self, info: WorkerInfo, report: WorkerReport | None = None) -> Heard:
        """Report that a worker is alive, every quarter lease; after half a lease without, it is dead."""
        report = report or WorkerReport()
        data = msgpack.packb({**asdict(info), "report": asdict(report)})
        own, claims = info.identity or "", int(report.trouble is None)
        lifetime = self._lease_ms // 2
        bound, order, outdone = self._redis.run(
            "beat", info.id, data, lifetime, info.model, own, claims, *info.others
        )
        return Heard(
            is_replaced=bool(own) and bound != own.encode(),
            order=None if order is None else WorkerOrder(str(order, "utf-8")),
            outdone=int(outdone),
        )

    def order(self, worker: str, order: WorkerOrder | None, by: str = "") -> bool:
        """Give a worker an order, to be read with its next beat; None: cancel its order.

        False: there is no such worker.
        """
        return bool(self._redis.run("order", worker, "" if order is None else str(order), by))

    def leave(self, worker: str) -> None:
        """Report that a worker ends, so that nobody waits for it until its last beat expires."""
        self._redis.run("leave", worker)

    def cancels(self, after: str) -> tuple[set[str], str]:
        """The jobs cancelled since a call returned `after`, and the value for the next call; "0" at first.

        About the last 1000 are known. `renew` says the same, later.
        """
        found = self._redis.call("XREAD", "COUNT", 1000, "STREAMS", self._redis.key("cancels"), after)
        entries = found[0][1] if found else []
        jobs = {str(fields[b"job"], "utf-8") for _, fields in entries}
        return jobs, str(entries[-1][0], "utf-8") if entries else after

    def served(self) -> list[str]:
        """The models of live workers, in order."""
        return sorted(str(model, "utf-8") for model in self._redis.run("served"))

    def workers(self) -> list[WorkerStatus]:
        """All live workers."""
        names = self._redis.call("ZRANGE", self._redis.key("workers"), 0, -1)
        shares = [names[start : start + WORKERS] for start in range(0, len(names), WORKERS)]
        answers = [answer for share in shares for answer in self._redis.run("workers", *share)]
        found: list[WorkerStatus] = []
        for name, *facts in answers:
            with reading(self._redis.key("worker", str(name, "utf-8", "replace"))):
                found.append(worker_status(name, *facts))
        return found


def _other_checkpoint(model: str, identity: str, bound: str) -> Refused:
    return Refused(
        "model",
        model,
        f"this farm knows another checkpoint by that name, of SHA-256 {bound}; this one has {identity}. "
        "Give it another name, or start its worker with --rebind to take the name over",
    )

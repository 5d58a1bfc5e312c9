"""The part of the ledger that hands out images: claims, their leases and ends, and tickets."""

from collections.abc import Sequence

from img2img_shared.errors import Refused, one_line
from img2img_shared.job import ImageState
from img2img_shared.ledger import keys
from img2img_shared.ledger.connect import reading
from img2img_shared.ledger.part import LedgerPart
from img2img_shared.records import Claim, Demand, ExpiredLeases, Lost, Urgent

#: characters of a failure's reason that are kept
REASON = 1000
#: seconds for which tickets are kept that no janitor asks about
TICKETS_KEPT = 60
#: seconds a janitor stays elected without a round, where that is not longer than a quarter lease
TERM = 3.0
#: seconds after which an image is looked at again whose tiles have not ended
WAIT = 3600.0
#: what becomes of an image that is given back, as the scripts answer
_GIVEN_BACK = {1: ImageState.PENDING, 2: ImageState.FAILED}


class ImageClaims(LedgerPart):
    """Claims of images, by model."""

    def claim(
        self, model: str, worker: str, nonce: str, *, idle: bool, above: int | None = None
    ) -> Claim | None:
        """The next image of `model` for `worker`, or None when there is none for it now.

        The highest priority goes first, then the tenant that got least, then that tenant's job that got
        least. Callers draw a new `nonce` for each image. With the nonce of a claim that is still held, that
        claim is returned again, so that a lost reply can be recovered.

        `idle` says that nothing is running or being prepared in the worker. Only then may it get a suspect
        (``alone=True``), and it gets nothing else until that one is finished, failed or released. While a
        suspect waits, one busy worker is given nothing until it is idle.

        With `above`, only an image of a higher priority is given.
        """
        least = "" if above is None else above
        answer = self._redis.run("claim", model, worker, nonce, self._lease_ms, int(idle), least)
        if answer is None:
            return None
        job_id, tenant, index, attempt, alone, waited, priority = answer
        return Claim(
            job_id=str(job_id, "utf-8"),
            tenant=str(tenant, "utf-8"),
            index=index,
            attempt=attempt,
            model=model,
            worker=worker,
            nonce=nonce,
            alone=bool(alone),
            waited=waited / 1000,
            priority=priority,
        )

    def most_urgent(self, model: str) -> int | None:
        """The highest priority among the images of `model` that could be claimed now, or None."""
        first = self._redis.call("ZRANGE", self._redis.key("model", "tenants", model), 0, 0)
        return int(first[0].split()[0]) if first else None

    def hear_urgent(self, model: str, after: str, seconds: float) -> tuple[Urgent | None, str]:
        """Wait up to `seconds` for an image that is more urgent than all others of `model` that wait.

        Args:
            after: what the last call returned; "0" at first.

        Returns:
            what is told of it, or None, and the value for the next call.
        """
        key, milliseconds = self._redis.key("model", "urgent", model), max(1, round(1000 * seconds))
        found = self._redis.call("XREAD", "BLOCK", milliseconds, "STREAMS", key, after)
        if not found:
            return None, after
        with reading(key):
            heard, fields = found[0][1][-1]
            is_only = fields.get(b"only") == b"1"  # an older version told of no such image
            return Urgent(priority=int(fields[b"priority"]), is_only=is_only), str(heard, "utf-8")

    def renew(self, claims: Sequence[Claim]) -> list[Lost]:
        """Renew `claims` (of one model) for another lease; returns those that must stop now, or soon."""
        if not claims:
            return []
        models = {claim.model for claim in claims}
        if len(models) > 1:
            raise Refused("claims", sorted(models), "renew the claims of one model at a time")
        nonces = [claim.nonce for claim in claims]
        answers = self._redis.run("renew", models.pop(), self._lease_ms, *nonces)
        return [
            Lost(claim=claim, cancelled=answer == 2, interrupted=answer == 3)
            for claim, answer in zip(claims, answers, strict=True)
            if answer != 0
        ]

    def finish(self, claim: Claim, *, tiles: str | None = None) -> bool:
        """Report that the picture is in the store.

        False: the attempt was not the current one, and nothing happened.

        Args:
            tiles: the job of its tiles, which nobody needs any longer.
        """
        return bool(self._redis.run("finish", claim.model, claim.nonce, *([] if tiles is None else [tiles])))

    def fail(self, claim: Claim, reason: str) -> bool:
        """Report that the image cannot be rendered; the user sees `reason` (cut at 1000 characters).

        False: the attempt was not the current one, and nothing happened.
        """
        return bool(self._redis.run("fail", claim.model, claim.nonce, _shorten(reason)))

    def release(self, claim: Claim, delay: float = 0.0, trouble: str = "") -> ImageState | None:
        """Give the image back unfinished, to be claimed again at once or after `delay` seconds.

        `trouble` is what keeps this worker from rendering it now. The delay doubles each time, for as long
        again only other workers may claim the image, and the fifth time it fails with that reason.

        Returns:
            whether it is pending or failed; None: the attempt was not the current one, and nothing happened.
        """
        answer = self._redis.run("release", claim.model, claim.nonce, round(delay * 1000), _shorten(trouble))
        return _GIVEN_BACK.get(answer)

    def wait_for(self, claim: Claim, job_id: str) -> ImageState | None:
        """Give the image back until the job of its tiles has ended; returns the same as `release`."""
        answer = self._redis.run("release", claim.model, claim.nonce, round(WAIT * 1000), "", job_id)
        return _GIVEN_BACK.get(answer)

    def doubt(self, claim: Claim, reason: str) -> ImageState | None:
        """Give the image back because of an error that may be its fault, or this worker's.

        For a quarter lease, longer each time, only other workers may claim it. It fails with `reason` when a
        second worker doubts it, when no other worker is alive, or the fifth time.

        Returns:
            whether it is pending or failed; None: the attempt was not the current one, and nothing happened.
        """
        turn = round(self._lease_ms / 4)
        answer = self._redis.run("doubt", claim.model, claim.nonce, turn, _shorten(reason))
        return _GIVEN_BACK.get(answer)

    def pass_on(self, claim: Claim, others: Sequence[str], *, whole_job: bool = False) -> ImageState | None:
        """Give the image back because `others` have a file that is lacking here; only they may claim it now.

        That holds for a lease, and only while one of them has the model loaded and claims its images. Then
        this worker may claim it once more.

        Args:
            whole_job: the same holds for all images of its job.

        Returns:
            whether it is pending; None: the attempt was not the current one, and nothing happened.
        """
        answer = self._redis.run("pass_on", claim.model, claim.nonce, self._lease_ms, int(whole_job), *others)
        return _GIVEN_BACK.get(answer)

    def take_back(self, model: str, worker: str) -> ExpiredLeases | None:
        """The janitor's round, about once a second: take back the leases that have expired.

        None: another worker is the janitor. After half a lease without any round (because Redis was away),
        nothing is taken back for one lease, so that holders can renew first. An image whose worker does not
        `beat` any more is a suspect; after the third such death it fails.
        """
        term = round(min(TERM, self.lease / 4) * 1000)
        counts = [0, 0, 0]
        is_more = True
        while is_more:
            answer = self._redis.run("take_back", model, worker, self._lease_ms, term)
            if answer is None:
                return None
            *found, is_more = answer
            counts = [count + more for count, more in zip(counts, found, strict=True)]
        handed_back, suspects, failed = counts
        return ExpiredLeases(handed_back=handed_back, suspects=suspects, failed=failed)

    def waiting(self, model: str, limit: int) -> int:
        """How many images of `model` could be claimed now, counted up to `limit`."""
        return int(self._redis.run("waiting", model, limit))

    def demand(self) -> list[Demand]:
        """How much there is to do, by model, including models of live workers without work."""
        answers = self._redis.run("demand")
        return [
            Demand(model=str(model, "utf-8"), waiting=waiting, later=later, running=running)
            for model, waiting, later, running in sorted(answers)
        ]

    def unfinished(self) -> dict[str, int]:
        """The number of unfinished images, by tenant."""
        key = self._redis.key("under_way")
        answer = self._redis.call("HGETALL", key)
        counts = dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else answer
        with reading(key):
            return {str(tenant, "utf-8"): int(count) for tenant, count in counts.items()}

    def missing_tickets(self, model: str, limit: int) -> int:
        """How many tickets the queue of `model` lacks to hold one per waiting image, or `limit`.

        Surplus tickets are removed, all of them if nobody serves the model. Tickets expire after a minute
        without this call, so that they do not outlive the workers.
        """
        queue = keys.queue_key(self._redis.prefix, model)
        return int(self._redis.run("tickets", model, queue, limit, 1000 * TICKETS_KEPT))

    def keep_tickets(self, model: str) -> None:
        """Have the tickets that were just published expire like the others."""
        self._redis.call("EXPIRE", keys.queue_key(self._redis.prefix, model), TICKETS_KEPT)

    def tickets(self, model: str) -> int:
        """How many tickets are in the queue of `model`."""
        return int(self._redis.call("LLEN", keys.queue_key(self._redis.prefix, model)))


def _shorten(reason: str) -> bytes:
    """A reason, shortened and made printable: it may quote users or damaged files, and goes to terminals."""
    return one_line(reason[:REASON])[:REASON].encode()

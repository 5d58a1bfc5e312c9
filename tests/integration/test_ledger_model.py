"""The ledger on a real Redis does what a plain Python one does, whatever is called in whatever order."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from img2img_shared.errors import NotFound, Refused
from img2img_shared.job import ImageState, Job, JobState
from img2img_shared.ledger import FarmRedis, Ledger
from img2img_shared.params import Params
from img2img_shared.placement import ModelDemand, Placement
from img2img_shared.records import Claim, ExpiredLeases, WorkerInfo, WorkerReport
from tests.integration.plain_ledger import PlainJob, PlainLedger

MODELS = ("a", "b {c}")
WORKERS = ("w0", "w 1", "w2")
TENANTS = ("t1", "t2")
#: seconds; time is moved by hand below, by rewriting what the clock is compared with
LEASE = 3600.0
FARM = "{img2img}"
#: of each job key: whether it expires, whether all keys that begin with it do, and its last event
LOOK = """
local found = {}
for i, job in ipairs(ARGV) do
  local all_expire = 1
  for _, key in ipairs(redis.call('KEYS', job .. '*')) do
    if redis.call('PTTL', key) <= 0 then all_expire = 0 end
  end
  local last = redis.call('XREVRANGE', job .. ':events', '+', '-', 'COUNT', 1)
  found[i] = {redis.call('PTTL', job) > 0 and 1 or 0, all_expire, last[1][2]}
end
return found
"""

models = st.sampled_from((MODELS[0], MODELS[0], MODELS[1]))
workers = st.sampled_from(WORKERS)
picks = st.integers(min_value=0, max_value=10_000)
priorities = st.integers(min_value=-1, max_value=1)


class LedgerMachine(RuleBasedStateMachine):
    redis: redis.Redis
    farm_redis: FarmRedis

    @initialize()
    def start(self) -> None:
        #: for what the ledger has no call for: moving time
        self.raw: Any = self.redis
        self.raw.flushall()
        self.look = self.raw.register_script(LOOK)
        self.ledger = Ledger(self.farm_redis, lease=LEASE)
        self.plain = PlainLedger()
        self.claims: dict[str, Claim] = {}
        self.forgotten: list[PlainJob] = []
        self.numbers = iter(range(10_000))
        self.placement = Placement([])
        self.seen: dict[str, int] = {}
        for model in MODELS:
            self.ledger.take_back(model, "janitor")
            self.raw.hset(f"{FARM}:model:tick:{model}", "grace", 0)
        for model in (*MODELS, MODELS[0]):
            self.submit_as("t1", model, 6, 0, None)

    # What users do.

    @rule(
        tenant=st.sampled_from(TENANTS),
        model=models,
        n=st.integers(min_value=1, max_value=4),
        priority=priorities,
        once=st.sampled_from((None, None, "x", "y")),
    )
    def submit(self, tenant: str, model: str, n: int, priority: int, once: str | None) -> None:
        self.submit_as(tenant, model, n, priority, once)

    def submit_as(self, tenant: str, model: str, n: int, priority: int, once: str | None) -> None:
        # ids in no order, since equal virtual times are told apart by id
        number = next(self.numbers)
        job = Job(
            id=f"{number * 7 % 10}-job-{number:04}",
            model=model,
            params=Params(seed=1, subseed=1),
            n_inputs=n,
            tenant=tenant,
            priority=priority,
            idempotency_key=once,
        )
        first = self.ledger.submit(job)
        assert first == self.plain.submit(PlainJob(job.id, tenant, model, n, priority, once))
        if first == job.id:
            assert self.ledger.submit(job) == job.id

    @precondition(lambda self: self.plain.jobs)
    @rule(
        pick=picks,
        verb=st.sampled_from(("pause", "resume", "retry", "cancel", "interrupt", "set_priority")),
        priority=priorities,
    )
    def control(self, pick: int, verb: str, priority: int) -> None:
        job = self.job(pick)
        arguments = (priority,) if verb == "set_priority" else ()
        self.changed(job, verb, lambda: getattr(self.plain, verb)(job, *arguments), *arguments)

    @precondition(lambda self: self.plain.jobs)
    @rule(pick=picks)
    def a_hash_is_deleted_by_hand(self, pick: int) -> None:
        job = self.job(pick)
        self.raw.delete(f"{FARM}:job:{job.id}")
        self.plain.delete(job)
        assert job.id not in {status.id for status in self.ledger.jobs(job.tenant, limit=10_000)}
        self.forgotten.append(job)

    @precondition(lambda self: self.plain.jobs)
    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        job = self.job(pick)
        if not job.ended:
            with pytest.raises(Refused):
                self.ledger.remove(job.id, job.tenant)
            return
        self.ledger.remove(job.id, job.tenant)
        self.plain.delete(job)
        self.forgotten.append(job)

    @precondition(lambda self: any(job.failed for job in self.plain.jobs.values()))
    @rule()
    def retry_all(self) -> None:
        for job in self.plain.jobs.values():
            self.changed(job, "retry", partial(self.plain.retry, job))

    def changed(self, job: PlainJob, verb: str, wanted: Callable[[], int], *arguments: int) -> None:
        call = getattr(self.ledger, verb)
        other = "t1" if job.tenant == "t2" else "t2"
        with pytest.raises(NotFound):
            call(job.id, other, *arguments)
        if job.cancelled and verb not in ("cancel", "interrupt"):
            with pytest.raises(Refused):
                call(job.id, job.tenant, *arguments)
        else:
            assert call(job.id, job.tenant, *arguments) == wanted()

    # What workers do.

    @rule(model=models, worker=workers, idle=st.booleans(), count=st.integers(min_value=1, max_value=5))
    def claim(self, model: str, worker: str, idle: bool, count: int) -> None:
        for _ in range(count):
            self.claim_as(f"nonce-{next(self.numbers)}", model, worker, idle)

    @precondition(lambda self: self.claims)
    @rule(pick=picks, idle=st.booleans())
    def claim_again(self, pick: int, idle: bool) -> None:
        claim = self.picked(pick)
        self.claim_as(claim.nonce, claim.model, claim.worker, idle)

    def claim_as(self, nonce: str, model: str, worker: str, idle: bool) -> str | None:
        claim = self.ledger.claim(model, worker, nonce, idle=idle)
        plain = self.plain.claim(model, worker, nonce, idle)
        if claim is None or plain is None:
            assert claim is None
            assert plain is None
            return None
        assert claim == Claim(
            job_id=plain.job.id,
            tenant=plain.job.tenant,
            index=plain.index,
            attempt=plain.attempt,
            model=model,
            worker=worker,
            nonce=nonce,
            alone=plain.alone,
        )
        self.claims[nonce] = claim
        return nonce

    @precondition(lambda self: self.claims)
    @rule(pick=picks, how=st.sampled_from(("finish", "fail", "release", "release later", "trouble")))
    def end(self, pick: int, how: str) -> None:
        self.end_as(self.picked(pick), how)

    @rule(model=models, worker=workers, how=st.sampled_from(("finish", "finish", "fail")))
    def work_until_nothing_is_left(self, model: str, worker: str, how: str) -> None:
        while (nonce := self.claim_as(f"nonce-{next(self.numbers)}", model, worker, idle=True)) is not None:
            self.end_as(self.claims[nonce], how)

    def end_as(self, claim: Claim, how: str) -> None:
        if how == "finish":
            assert self.ledger.finish(claim) == self.plain.finish(claim.nonce)
        elif how == "fail":
            assert self.ledger.fail(claim, "no picture") == self.plain.fail(claim.nonce, "no picture")
        else:
            delayed, trouble = how != "release", "no memory" if how == "trouble" else ""
            released = self.ledger.release(claim, 1000.0 if delayed else 0.0, trouble)
            assert bool(released) == self.plain.release(claim.nonce, delayed=delayed, trouble=trouble)

    @precondition(lambda self: self.claims)
    @rule(pick=picks, others=st.sets(workers, min_size=1, max_size=2), flags=st.tuples(*3 * [st.booleans()]))
    def pass_on_and_ask_for_the_next(self, pick: int, others: set[str], flags: tuple[bool, ...]) -> None:
        claim, (whole_job, are_there, idle) = self.picked(pick), flags
        for other in sorted(others) if are_there else ():
            self.beat(other, claim.model, None)
        passed = self.ledger.pass_on(claim, sorted(others), whole_job=whole_job)
        assert bool(passed) == self.plain.pass_on(claim.nonce, others, whole_job=whole_job)
        self.claim_as(f"nonce-{next(self.numbers)}", claim.model, claim.worker, idle)

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        """What a worker holds, and one that it perhaps held once."""
        one = self.picked(pick)
        held = {n for n, claim in self.plain.claims.items() if claim.worker == one.worker} | {one.nonce}
        claims = [claim for n, claim in self.claims.items() if n in held and claim.model == one.model]
        self.renewed(claims)

    def renewed(self, claims: list[Claim]) -> None:
        told = self.ledger.renew(claims)
        lost = [(each.claim.nonce, each.cancelled, each.interrupted) for each in told]
        assert lost == self.plain.renew([claim.nonce for claim in claims])

    # What time does.

    @precondition(lambda self: self.plain.claims)
    @rule(pick=picks, then=st.sampled_from(("nothing", "renew", "sweep", "sweep")))
    def a_lease_runs_out(self, pick: int, then: str) -> None:
        nonces = sorted(self.plain.claims)
        claim = self.claims[nonces[pick % len(nonces)]]
        self.run_out(claim)
        if then == "renew":
            self.renewed([claim])
        if then != "nothing":
            self.sweep(claim.model)

    @precondition(lambda self: self.plain.claims)
    @rule(pick=picks)
    def a_worker_dies(self, pick: int) -> None:
        self.dies(self.picked(pick).worker)

    @rule(model=models, count=st.integers(min_value=1, max_value=3))
    def new_workers_die_of_their_first_images(self, model: str, count: int) -> None:
        for _ in range(count):
            number = next(self.numbers)
            self.claim_as(f"nonce-{number}", model, f"new-{number}", idle=True)
            self.dies(f"new-{number}")

    @rule(worker=workers, model=models, trouble=st.sampled_from((None, None, "no store")))
    def beat(self, worker: str, model: str, trouble: str | None) -> None:
        info = WorkerInfo(id=worker, model=model, device="cpu", slots=4)
        self.ledger.beat(info, WorkerReport(trouble=trouble))
        self.plain.beat(worker, model, trouble)

    @rule()
    def a_worker_looks_what_waits(self) -> None:
        """What workers decide by which model they load."""
        self.raw.delete(f"{FARM}:board")
        self.placement = self.ledger.placement()
        for model in MODELS:
            demand = self.placement.demands.get(model, ModelDemand(model=model))
            self.seen[model] = demand.workers
            if model in self.placement.demands:  # else nothing waits for it, and nobody has said to serve it
                assert demand.workers == len(self.plain.loaded[model])
            waiting = {(each.priority, each.tenant): each.images for each in demand.waiting}
            assert waiting == self.plain.waits(model)

    @precondition(lambda self: self.seen)
    @rule(worker=workers, to=models, has_one=st.booleans())
    def move(self, worker: str, to: str, has_one: bool) -> None:
        """By what was seen then, whoever has moved since."""
        model = next((each for each in MODELS if each != to), None) if has_one else None
        moved = self.ledger.move(worker, model, to, self.placement)
        assert moved == self.plain.move(worker, model, to, self.seen)

    @precondition(lambda self: any(job.troubles for job in self.plain.jobs.values()))
    @rule()
    def the_turn_of_others_is_over(self) -> None:
        for job in self.plain.jobs.values():
            for index, (tries, _) in job.troubles.items():
                job.troubles[index] = (tries, None)
                text = self.raw.hget(f"{FARM}:job:{job.id}:troubles", index).split(b" ", 2)
                self.raw.hset(f"{FARM}:job:{job.id}:troubles", index, b"%s 0 %s" % (text[0], text[2]))

    @precondition(lambda self: any(job.lacking for job in self.plain.jobs.values()))
    @rule()
    def who_lacks_something_may_look_again(self) -> None:
        for job in self.plain.jobs.values():
            job.lacking.clear()
            self.raw.delete(f"{FARM}:job:{job.id}:lacking")

    @rule(model=models, worker=workers, idle=st.booleans())
    def time_passes(self, model: str, worker: str, idle: bool) -> None:
        """Backoffs and reservations end, and finished jobs are forgotten."""
        delayed = f"{FARM}:model:delayed:{model}"
        for member in self.raw.zrange(delayed, 0, -1):
            self.raw.zadd(delayed, {member: 0})
        self.plain.fall_due(model)
        for name in MODELS:
            self.raw.delete(f"{FARM}:model:reserved:{name}")
        for key in self.raw.scan_iter(f"{FARM}:worker:*:reserved"):
            self.raw.delete(key)
        self.plain.reserved.clear()
        self.plain.reserved_for.clear()
        self.claim_as(f"nonce-{next(self.numbers)}", model, worker, idle)

        self.forgotten = [job for job in self.plain.jobs.values() if job.ended]
        for key in self.raw.scan_iter(f"{FARM}:*"):
            name = key.decode()
            if (":job:" in name or ":once:" in name) and self.raw.pttl(key) > 0:
                self.raw.delete(key)
        self.plain.forget()

    def run_out(self, claim: Claim) -> None:
        self.raw.zadd(f"{FARM}:model:leases:{claim.model}", {claim.nonce: 1})
        self.plain.expired.add(claim.nonce)

    def sweep(self, model: str) -> None:
        handed_back, suspects, failed = self.plain.take_back(model)
        swept = ExpiredLeases(handed_back=handed_back, suspects=suspects, failed=failed)
        assert self.ledger.take_back(model, "janitor") == swept
        assert self.ledger.take_back(model, "another") is None

    def dies(self, worker: str) -> None:
        """The worker is not heard of any more, and all its leases run out."""
        self.raw.delete(f"{FARM}:worker:{worker}")
        self.plain.alive.discard(worker)
        for claim in self.plain.claims.values():
            if claim.worker == worker:
                self.run_out(self.claims[claim.nonce])
        for model in MODELS:
            self.sweep(model)

    # What holds at any time.

    @invariant()
    def every_job_and_image_stands_where_it_should(self) -> None:
        listed = {status.id: status for each in TENANTS for status in self.ledger.jobs(each, limit=10_000)}
        assert listed.keys() == self.plain.jobs.keys()
        kept = self.kept()
        for job in self.plain.jobs.values():
            status = listed[job.id]
            states = [job.image(index) for index in range(job.n)]
            counted = (status.pending, status.running, status.done, status.failed, status.cancelled)
            assert counted == tuple(
                states.count(state)
                for state in (
                    ImageState.PENDING,
                    ImageState.RUNNING,
                    ImageState.DONE,
                    ImageState.FAILED,
                    ImageState.CANCELLED,
                )
            )
            assert status.state == job.state
            assert status.priority == job.priority
            assert (status.finished is not None) == job.ended
            expires, is_all_to_expire, event = kept[job.id]
            assert expires == is_all_to_expire == job.ended
            images = self.ledger.images(job.id, job.tenant)
            assert [image.state for image in images] == states
            assert [image.attempt for image in images] == [job.attempts.get(i, 0) for i in range(job.n)]
            assert {i.index: i.reason for i in images if i.reason} == job.failed
            held = {claim.index: claim.worker for claim in self.plain.claims.values() if claim.job is job}
            assert {i.index: i.worker for i in images if i.worker} == held
            assert status.tenant == job.tenant
            # "failed" is a reader's word for it
            written = JobState.DONE if job.state is JobState.FAILED else job.state
            assert event[b"job"].decode() == written
            assert [int(event[name]) for name in (b"done", b"failed", b"running")] == [
                status.done,
                status.failed,
                status.running,
            ]

    @invariant()
    def nothing_is_kept_of_claims_that_ended(self) -> None:
        claims = self.plain.claims.values()
        for model in MODELS:
            held = [claim for claim in claims if claim.job.model == model]
            with self.raw.pipeline(transaction=False) as asked:
                asked.zcard(f"{FARM}:model:leases:{model}")
                asked.hlen(f"{FARM}:model:claims:{model}")
                assert asked.execute() == [len(held), len(held)]
        keys = self.raw.keys(f"{FARM}:worker:*:holding")
        holding = {key.decode().split(":")[2]: self.raw.hgetall(key) for key in keys}
        counts = {worker: int(held[b"claims"]) for worker, held in holding.items()}
        assert counts == Counter(claim.worker for claim in claims)
        alone = {worker: held[b"alone"].decode() for worker, held in holding.items() if b"alone" in held}
        assert alone == {claim.worker: claim.nonce for claim in claims if claim.alone}

    @invariant()
    def sums_are_those_of_the_jobs(self) -> None:
        for model in MODELS:
            assert self.ledger.waiting(model, 10_000) == self.plain.waiting(model)
            waits = self.raw.hgetall(f"{FARM}:model:waits:{model}")
            assert {share.decode(): int(images) for share, images in waits.items()} == {
                f"{priority} {tenant}": n for (priority, tenant), n in self.plain.waits(model).items()
            }
        under_way = {tenant.decode(): int(n) for tenant, n in self.raw.hgetall(f"{FARM}:under_way").items()}
        assert under_way == {each: n for each in TENANTS if (n := self.plain.under_way(each))}
        listed = {job.id for job in self.plain.jobs.values() if job.ready or job.suspects or job.left}
        assert {job.decode() for job in self.raw.hkeys(f"{FARM}:open")} == listed

    @invariant()
    def virtual_times_are_the_plain_ones(self) -> None:
        for model in MODELS:
            tenants = self.raw.zrange(f"{FARM}:model:tenants:{model}", 0, -1)
            assert [share.decode() for share in tenants] == [
                f"{priority} {tenant}"
                for priority, tenant in sorted(self.plain.tenants[model], key=self.plain.order(model))
            ]

    @invariant()
    def what_was_forgotten_left_nothing_behind(self) -> None:
        for job in self.forgotten:
            with pytest.raises(NotFound):
                self.ledger.status(job.id, job.tenant)
            assert not self.raw.keys(f"{FARM}:job:{job.id}*")
        self.forgotten = []

    def kept(self) -> dict[str, tuple[int, int, dict[bytes, bytes]]]:
        """What `LOOK` finds, by job, in one call: a call for each would take most of the test's time."""
        jobs = list(self.plain.jobs)
        answers = self.look(args=[f"{FARM}:job:{job}" for job in jobs])
        return {
            job: (expires, all_expire, dict(zip(event[::2], event[1::2], strict=True)))
            for job, (expires, all_expire, event) in zip(jobs, answers, strict=True)
        }

    def job(self, pick: int) -> PlainJob:
        jobs = list(self.plain.jobs.values())
        return jobs[pick % len(jobs)]

    def picked(self, pick: int) -> Claim:
        """Any claim there ever was, the current ones more often."""
        claims = list(self.claims.values())
        current = [claim for claim in claims if claim.nonce in self.plain.claims]
        return (claims + 3 * current)[pick % (len(claims) + 3 * len(current))]


@pytest.mark.timeout(600)
def test_the_ledger_does_what_a_plain_one_does_in_any_order_of_calls(
    redis: redis.Redis, farm_redis: FarmRedis
) -> None:
    LedgerMachine.redis, LedgerMachine.farm_redis = redis, farm_redis
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=160,  # some 7,000 steps
            stateful_step_count=50,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

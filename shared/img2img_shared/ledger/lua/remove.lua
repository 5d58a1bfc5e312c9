-- Forgets a job that has ended, whose results are about to be removed. False: no such job of this tenant; 0: it has not ended.
local tenant, id = unpack(ARGV)
local job = owned(tenant, id)
if not job then return false end
if not job.finished then return 0 end
redis.call('SET', abandoned_key(id), 1, 'PX', KEEP) -- a client that sleeps must not wake up to submit it again
redis.call('ZREM', tenant_key(tenant), id)
if job.once ~= '' and redis.call('GET', idempotency_key(tenant, job.once)) == id then
  redis.call('DEL', idempotency_key(tenant, job.once))
end
redis.call('UNLINK', job_key(id))
forget(id)
note_change(tenant, id)
return 1

-- The user's hand on a job. False: no such job of this tenant; 'cancelled': too late; else what it changed.
local tenant, job, verb, value = unpack(ARGV)
if not owned(tenant, job) then return false end
local key = job_key(job)
local c = counts(job)

if verb == 'cancel' or verb == 'interrupt' then
  -- what was interrupted may be cancelled as well: its images, which were to end early, end now
  if verb == 'cancel' and redis.call('HDEL', key, 'interrupted') == 1 then return c.running end
  if c.cancelled or c.done + c.failed >= c.n then return 0 end
  redis.call('HSET', key, 'cancelled', 1)
  if verb == 'interrupt' then redis.call('HSET', key, 'interrupted', 1) end
  redis.call('UNLINK', job_key(job, 'back'), job_key(job, 'suspects'))
  place(job)
  event(job)
  settle(job)
  return c.n - c.done - c.failed - (verb == 'interrupt' and c.running or 0)
end

if c.cancelled then return 'cancelled' end
local changed = 0
if verb == 'pause' then
  if c.done + c.failed < c.n then changed = redis.call('HSETNX', key, 'paused', 1) end
elseif verb == 'resume' then
  changed = redis.call('HDEL', key, 'paused')
elseif verb == 'priority' then
  if hget(key, 'priority') ~= value then
    local model = hget(key, 'model')
    redis.call('ZREM', model_key(model, 'schedule'), job)
    redis.call('HDEL', key, 'vt') -- virtual times of different classes do not compare
    redis.call('HSET', key, 'priority', value)
    changed = 1
  end
elseif verb == 'retry' then
  -- a share of them, so that Redis is never held up for long
  local indexes = redis.call('HRANDFIELD', job_key(job, 'failed'), 2000)
  changed = #indexes
  for _, index in ipairs(indexes) do
    -- what killed workers before still runs alone, but has all its lives again
    if redis.call('HEXISTS', job_key(job, 'deaths'), index) == 1 then
      redis.call('HSET', job_key(job, 'deaths'), index, 0)
    end
    wait_again(job, index)
    redis.call('HDEL', job_key(job, 'failed'), index)
  end
  if changed > 0 then
    redis.call('HINCRBY', key, 'failed', -changed)
    redis.call('HDEL', key, 'finished')
    redis.call('PERSIST', key)
    for _, part in ipairs(JOB_PARTS) do redis.call('PERSIST', job_key(job, part)) end
    local once = hget(key, 'once')
    if once then redis.call('PERSIST', idempotency_key(tenant, once)) end
  end
end
if changed > 0 then
  place(job)
  event(job)
end
return changed

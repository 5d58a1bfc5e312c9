-- Third part: the schedule. A model's `tenants` are ordered by priority, then by virtual time, which grows by 1 with each
-- image that a tenant is given; likewise the tenant's `jobs` of that priority. So the next image belongs to the first job
-- of the first tenant, and neither many jobs nor many images give a tenant, or a job, more than its share. Of jobs that
-- got as many, the one that was submitted first is first: a virtual time's fraction is the job's arrival.
local CLASS = 1e12 -- room for virtual times in one class of priority; 201 classes fit a double exactly
local TOLD = 60 * 1000 -- ms for which it is kept what full workers were told; they hear it at once, or look
local ARRIVALS = 2 ^ 31 -- jobs after which arrivals are counted anew; a fraction as small stays exact for two million images

local function share_of(priority, tenant) return priority .. ' ' .. tenant end

local function lowest_of(waiting, base)
  return redis.call('ZRANGEBYSCORE', waiting, base, base + CLASS - 1, 'WITHSCORES', 'LIMIT', 0, 1)[2]
end

-- The virtual time with which one enters a class: its own, but neither before all that wait there, nor long after them.
local function entry(waiting, base, own)
  local lowest = lowest_of(waiting, base)
  if not lowest then return own end
  local highest = redis.call('ZREVRANGEBYSCORE', waiting, base + CLASS - 1, base, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return math.max(tonumber(lowest), math.min(own, tonumber(highest) + 1))
end

-- Tells full workers of a job that is about to enter, and is more urgent than all that wait. Where nothing waits (but images
-- are running), there may be workers with threads left, which take it by its ticket. Workers also look by themselves:
-- nothing may fail because of this.
local function tell(job)
  local first = redis.call('ZRANGE', model_key(job.model, 'tenants'), 0, 0)[1]
  local waiting = tonumber(string.match(first or '', '^%S+'))
  local is_only = not waiting and redis.call('EXISTS', model_key(job.model, 'leases')) == 1
  if is_only or (waiting and waiting < job.priority) then
    local urgent = model_key(job.model, 'urgent')
    try('XADD', urgent, 'MAXLEN', 1, '*', 'priority', job.priority, 'only', is_only and 1 or 0)
    try('PEXPIRE', urgent, TOLD)
  end
end

local function enter(job)
  tell(job)
  local jobs, tenants = jobs_key(job.model, job.priority, job.tenant), model_key(job.model, 'tenants')
  local share, base = share_of(job.priority, job.tenant), -job.priority * CLASS
  if not redis.call('ZSCORE', tenants, share) then
    local shares = model_key(job.model, 'shares')
    redis.call('ZADD', tenants, entry(tenants, base, tonumber(redis.call('ZSCORE', shares, share) or base)), share)
    redis.call('ZREM', shares, share)
  end
  local arrival = number(hget(job_key(job.id), 'arrival')) % ARRIVALS / ARRIVALS
  redis.call('ZADD', jobs, math.floor(entry(jobs, 0, job.vt or 0)) + arrival, job.id)
end

-- Returns the virtual time that the job had.
local function leave(id, model, priority, tenant)
  local jobs, tenants = jobs_key(model, priority, tenant), model_key(model, 'tenants')
  local vt = redis.call('ZSCORE', jobs, id)
  redis.call('ZREM', jobs, id)
  if redis.call('EXISTS', jobs) == 1 then return vt end
  local share = share_of(priority, tenant)
  local score = redis.call('ZSCORE', tenants, share)
  if not score then return vt end
  redis.call('ZREM', tenants, share)
  -- its virtual time is remembered, so that a tenant that comes back for each single image is not always first
  local shares, base = model_key(model, 'shares'), -priority * CLASS
  redis.call('ZADD', shares, score, share)
  redis.call('ZREMRANGEBYSCORE', shares, base, lowest_of(tenants, base) or base + CLASS - 1)
  return vt
end

local function add_up(sums, name, change)
  if change ~= 0 and add(sums, name, change) <= 0 then redis.call('HDEL', sums, name) end
end

-- A job's record in `open`: claimable images, suspects among them apart, unfinished images.
local function record_of(id)
  local ready, suspects, left, priority, tenant, model, once =
    string.match(hget(OPEN, id) or '', '^(%d+) (%d+) (%d+) (%S+) (%S+) ([^\n]*)\n(.*)$')
  if not ready then return {ready = 0, suspects = 0, left = 0} end
  return {
    ready = tonumber(ready), suspects = tonumber(suspects), left = tonumber(left), priority = tonumber(priority),
    tenant = tenant, model = model, once = once,
  }
end

-- Changes the number of a model's waiting images: in total, and for that priority and tenant.
local function count_waiting(model, priority, tenant, change)
  add_up(WAITING, model, change)
  add_up(model_key(model, 'waits'), share_of(priority, tenant), change)
end

-- Brings the lists that a job is in up to date with its state.
local function place(job)
  local was, ready, suspects, left = record_of(job.id), 0, 0, 0
  if not job.cancelled and not job.paused then
    ready = job.n - job.next + redis.call('ZCARD', job_key(job.id, 'back'))
    suspects = redis.call('ZCARD', job_key(job.id, 'suspects'))
  end
  if job.cancelled then left = job.running elseif not job.finished then left = job.n - job.done - job.failed end
  local is_moved = was.ready > 0 and was.priority ~= job.priority
  if was.ready > 0 and (ready == 0 or is_moved) then
    local vt = leave(job.id, job.model, was.priority, job.tenant)
    -- virtual times of different classes do not compare
    if is_moved then unset(job, 'vt') elseif vt then set(job, 'vt', tonumber(vt)) end
  end
  if ready > 0 and (was.ready == 0 or is_moved) then enter(job) end
  if suspects > 0 then
    redis.call('ZADD', model_key(job.model, 'suspected'), -job.priority, job.id)
  elseif was.suspects > 0 then
    redis.call('ZREM', model_key(job.model, 'suspected'), job.id)
  end
  if was.model and was.priority ~= job.priority then
    count_waiting(job.model, was.priority, job.tenant, -was.ready - was.suspects)
    count_waiting(job.model, job.priority, job.tenant, ready + suspects)
  else
    count_waiting(job.model, job.priority, job.tenant, ready + suspects - was.ready - was.suspects)
  end
  add_up(UNDER_WAY, job.tenant, left - was.left)
  if ready + suspects + left > 0 then
    redis.call('HSET', OPEN, job.id, string.format('%.0f %.0f %.0f %d %s %s\n%s',
      ready, suspects, left, job.priority, job.tenant, job.model, job.once))
  else
    redis.call('HDEL', OPEN, job.id)
  end
end

-- Somebody deleted a job's hash: remove everything else of it.
local function forget(id)
  local was = record_of(id)
  if was.model then
    expect_to_change(was.tenant, was.model, was.priority, was.once)
    expect('zset', tenant_key(was.tenant))
    if was.ready > 0 then leave(id, was.model, was.priority, was.tenant) end
    redis.call('ZREM', model_key(was.model, 'suspected'), id)
    count_waiting(was.model, was.priority, was.tenant, -was.ready - was.suspects)
    add_up(UNDER_WAY, was.tenant, -was.left)
    redis.call('HDEL', OPEN, id)
    redis.call('ZREM', tenant_key(was.tenant), id)
    local once = idempotency_key(was.tenant, was.once)
    if redis.call('GET', once) == id then redis.call('DEL', once) end
  end
  for part in pairs(JOB_PARTS) do redis.call('UNLINK', job_key(id, part)) end
end

-- Forgets a job that has ended, and notes that its results are to be removed.
local function remove(job)
  for _, part in ipairs(redis.call('SMEMBERS', job_key(job.id, 'parts'))) do
    local tiles = load(part)
    if tiles and tiles.finished then remove(tiles) end
  end
  redis.call('SET', abandoned_key(job.id), 1, 'PX', KEEP) -- a client that slept must not wake up and submit it again
  redis.call('ZADD', REMOVED, NOW, job.id)
  redis.call('ZREM', DUE, job.id)
  redis.call('ZREM', tenant_key(job.tenant), job.id)
  if job.once ~= '' and redis.call('GET', idempotency_key(job.tenant, job.once)) == job.id then
    redis.call('DEL', idempotency_key(job.tenant, job.once))
  end
  redis.call('UNLINK', job_key(job.id))
  forget(job.id)
  note_change(job.tenant, job.id)
end

-- How many workers have recently died while loading a model.
local function deaths_of(model)
  local loading, deaths = model_key(model, 'loading'), 0
  redis.call('ZREMRANGEBYSCORE', loading, '-inf', NOW - LOADS)
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', loading, '-inf', NOW - SILENCE)) do
    deaths = deaths + 1 - redis.call('EXISTS', worker_key(worker))
  end
  return deaths
end

-- Forgets a job whose hash is gone, and lists a job again where its record says, if somebody has removed it there.
local function mend(id)
  local job = load(id)
  if not job then return forget(id) end
  local is_listed = redis.call('ZSCORE', jobs_key(job.model, job.priority, job.tenant), id)
    and redis.call('ZSCORE', model_key(job.model, 'tenants'), share_of(job.priority, job.tenant))
  if record_of(id).ready > 0 and not is_listed then enter(job) end
end

-- Takes over jobs that an older version listed, which had no tenants here.
local function adopt(model)
  local listed = model_key(model, 'schedule')
  for _, id in ipairs(redis.call('ZRANGE', listed, 0, 49)) do
    local job = load(id)
    redis.call('ZREM', listed, id)
    if job then place(job) else forget(id) end
  end
end

-- A tenant's job, for reading; `load` it to change it.
local function owned(tenant, id)
  local job = read(id) or load(id)
  return job and job.tenant == tenant and job
end

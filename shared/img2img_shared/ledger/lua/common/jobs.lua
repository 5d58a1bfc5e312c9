-- Second part: jobs. A script loads a job once, changes it, and writes what it has changed.
local LINES = 10000 -- about how many lines of the audit are kept
local EVENTS = 1000 -- about how many events of a job are kept
local KEEP = 7 * 24 * 3600 * 1000 -- ms for which a finished job is kept that has no setting of its own
local CHANGES = 3600 * 1000 -- ms for which the time of a job's last change is known
local RECENT = 30 * 1000 -- ms after which an image's end counts 1/e in its job's rate

-- A job as a table; nil if there is none (any more), or its hash is malformed.
local function read(id)
  local h = try('HMGET', job_key(id), 'tenant', 'model', 'n', 'priority', 'next', 'done', 'failed', 'running',
    'cancelled', 'paused', 'finished', 'vt', 'once')
  if h.err or not h[1] or not h[2] or number(h[3]) < 1 or number(h[3]) % 1 > 0 then return nil end
  return {
    id = id, tenant = h[1], model = h[2], n = number(h[3]), priority = number(h[4]), next = number(h[5]),
    done = number(h[6]), failed = number(h[7]), running = number(h[8]), cancelled = h[9], paused = h[10], finished = h[11],
    vt = number(h[12]), once = h[13] or '',
  }
end

local expected = {} -- keys whose types have been checked

-- Checks the type of a key that all jobs of a tenant, a model or the farm need; if it is wrong, nothing is done.
local function expect(kind, key)
  if expected[key] then return end
  local found = type_of(key)
  if found ~= 'none' and found ~= kind then error({err = 'WRONGTYPE ' .. key}, 0) end
  expected[key] = true
end

-- Checks the keys that are written when an image of such a job begins or ends.
local function expect_to_change(tenant, model, priority, once)
  for _, part in ipairs({'tenants', 'shares', 'suspected', 'delayed', 'leases'}) do expect('zset', model_key(model, part)) end
  for _, part in ipairs({'waits', 'claims'}) do expect('hash', model_key(model, part)) end
  for _, key in ipairs({jobs_key(model, priority, tenant), changed_key(tenant), DUE}) do expect('zset', key) end
  for _, key in ipairs({OPEN, WAITING, UNDER_WAY}) do expect('hash', key) end
  if once ~= '' then expect('string', idempotency_key(tenant, once)) end
end

-- Checks the further keys that are written when a user changes a job.
local function expect_to_control(tenant)
  for _, key in ipairs({tenant_key(tenant), REMOVED}) do expect('zset', key) end
  for _, key in ipairs({CANCELS, AUDIT}) do expect('stream', key) end
end

-- Writes a line to the audit: who changed what. Without a name, it was the farm itself, and nothing is written.
local function audit(by, tenant, action, subject, detail)
  if (by or '') == '' then return end
  redis.call('XADD', AUDIT, 'MAXLEN', '~', LINES, '*',
    'by', by, 'tenant', tenant, 'action', action, 'subject', subject, 'detail', detail or '')
end

-- Moves a foreign value under a key of one job aside, so that it does not affect other jobs.
local function set_aside(id, tenant, key)
  expect('stream', AUDIT)
  redis.call('RENAME', key, FARM .. ':aside:' .. key)
  redis.call('PEXPIRE', FARM .. ':aside:' .. key, KEEP)
  audit('the farm', tenant, 'set aside', id, key)
end

local function put_right(job, part, key)
  local found = type_of(key)
  if found ~= 'none' and found ~= JOB_PARTS[part] then set_aside(job.id, job.tenant, key) end
end

-- A job that will be changed, with its keys checked; nil if there is none (any more). A malformed job is set aside.
local function load(id)
  local job = read(id)
  if not job then
    if type_of(job_key(id)) ~= 'none' then set_aside(id, '', job_key(id)) end
    return nil
  end
  expect_to_change(job.tenant, job.model, job.priority, job.once)
  local key = job_key(id) .. ':'
  for _, part in ipairs(USUAL_PARTS) do put_right(job, part, key .. part) end
  local rare = {}
  for i, part in ipairs(RARE_PARTS) do rare[i] = key .. part end
  if redis.call('EXISTS', unpack(rare)) > 0 then
    for i, part in ipairs(RARE_PARTS) do put_right(job, part, rare[i]) end
  end
  return job
end

-- Writes fields of a job: name, value, name, value, ...
local function set(job, ...)
  local fields = {...}
  for i = 1, #fields, 2 do job[fields[i]] = fields[i + 1] end
  redis.call('HSET', job_key(job.id), ...)
end

local function unset(job, field)
  job[field] = false
  return redis.call('HDEL', job_key(job.id), field)
end

local function state_of(job)
  if job.cancelled then return 'cancelled' end
  if job.done + job.failed >= job.n then return 'done' end
  if job.paused then return 'paused' end
  if job.done + job.failed + job.running > 0 then return 'running' end
  return 'pending'
end

-- Notes a job's change, for those who watch all jobs of its tenant.
local function note_change(tenant, id)
  local changed = changed_key(tenant)
  redis.call('ZADD', changed, NOW, id)
  redis.call('ZREMRANGEBYSCORE', changed, '-inf', NOW - CHANGES)
  redis.call('PEXPIRE', changed, CHANGES)
end

-- Each event carries the counters, so that a watcher needs no second call.
local function event(job, index, state, attempt, reason)
  local now = state_of(job)
  redis.call('XADD', job_key(job.id, 'events'), 'MAXLEN', '~', EVENTS, '*',
    'index', index or '', 'state', state or now, 'attempt', attempt or '', 'reason', reason or '',
    'job', now, 'n', job.n, 'done', job.done, 'failed', job.failed, 'running', job.running)
  note_change(job.tenant, job.id)
end

-- Has Redis forget a finished job `ms` from now; nil: not by itself.
local function forget_after(job, ms)
  local function apply(key)
    if ms then redis.call('PEXPIRE', key, ms) else redis.call('PERSIST', key) end
  end
  apply(job_key(job.id))
  for part in pairs(JOB_PARTS) do apply(job_key(job.id, part)) end
  if job.once ~= '' then apply(idempotency_key(job.tenant, job.once)) end
end

-- A finished job is forgotten after its time, and its results stay; or the janitor removes it with its results. A job of
-- tiles stays as long as the job that is made from it, which may need it again.
local function let_go(job)
  local h = redis.call('HMGET', job_key(job.id), 'keep', 'retain', 'whole')
  local whole = h[3] and load(string.match(h[3], '^%S+'))
  if h[3] and not whole then
    forget_after(job, nil)
    redis.call('ZADD', DUE, NOW, job.id)
  elseif whole and not whole.finished then
    forget_after(job, nil)
    redis.call('ZREM', DUE, job.id)
  elseif is_number(h[2]) then
    forget_after(job, nil)
    redis.call('ZADD', DUE, number((whole or job).finished) + number(h[2]), job.id)
  else
    redis.call('ZREM', DUE, job.id)
    forget_after(job, number(h[1], KEEP))
  end
  for _, part in ipairs(redis.call('SMEMBERS', job_key(job.id, 'parts'))) do
    local tiles = load(part)
    if tiles and tiles.finished then let_go(tiles) end
  end
end

-- When a job of tiles has ended, the image that they are for can be claimed again.
local function wake_whole(job)
  local whole = hget(job_key(job.id), 'whole')
  if whole then redis.call('ZADD', model_key(job.model, 'delayed'), 'XX', NOW, whole) end
end

-- Finishes a job of which nothing more can come.
local function settle(job)
  local is_over = job.done + job.failed >= job.n or (job.cancelled and job.running == 0)
  if job.finished or not is_over then return end
  set(job, 'finished', NOW)
  event(job)
  -- Redis allocates 4 kB for a stream to grow into, but only what is needed for a copy of it
  local events, copy = job_key(job.id, 'events'), job_key(job.id, 'events:copy')
  redis.call('COPY', events, copy, 'REPLACE')
  redis.call('RENAME', copy, events)
  let_go(job)
  wake_whole(job)
end

-- Counts the end of an image. Older ends count less, so that the sum gives the job's rate.
local function count_end(job, state)
  local h = redis.call('HMGET', job_key(job.id), 'ended', 'ended_at')
  local age = math.max(0, NOW - number(h[2], NOW))
  local ended = number(h[1]) * math.exp(-age / RECENT) + 1
  set(job, state, job[state] + 1, 'ended', string.format('%.6f', ended), 'ended_at', NOW)
end

-- The time up to which a job's clock has run: it stands after the job's end, and in a pause once nothing is in hand.
local function clock_of(job, started, ended_at)
  if job.finished then return number(job.finished, NOW) end
  if job.paused and job.running == 0 then return math.max(number(job.paused), number(started), number(ended_at)) end
  return NOW
end

-- Lets a job's clock go on, as if it had not stood: a pause says nothing about the job's rate. Called before it goes on.
local function skip_pause(job)
  local h = redis.call('HMGET', job_key(job.id), 'started', 'stood', 'ended_at')
  if not h[1] then return end
  local stood = math.max(0, NOW - clock_of(job, h[1], h[3]))
  set(job, 'stood', number(h[2]) + stood)
  if h[3] then set(job, 'ended_at', number(h[3], NOW) + stood) end
end

-- The facts from which a job's status is made.
local function standing(job)
  local h = redis.call('HMGET', job_key(job.id), 'created', 'started', 'ended', 'ended_at', 'name', 'owner', 'tags', 'retain',
    'stood')
  local function known(text, otherwise) return is_number(text) and text or otherwise end
  return {
    job.id, job.model, job.priority, state_of(job), job.n, job.running, job.done, job.failed, known(h[1], '0'),
    known(h[2], ''), known(job.finished, ''), string.format('%.0f', clock_of(job, h[2], h[4])), known(h[9], '0'),
    known(h[3], '0'), known(h[4], '0'), h[5] or '', h[6] or '', h[7] or '', known(h[8], ''),
  }
end

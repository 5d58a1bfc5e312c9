-- Second part: jobs. A script loads a job once, changes what it has in hand, and writes what it changed.
local LINES = 10000 -- about so many lines of the audit are kept
local EVENTS = 1000 -- about so many events are kept of a job
local KEEP = 7 * 24 * 3600 * 1000 -- ms for which a finished job is kept that does not say
local CHANGES = 3600 * 1000 -- ms for which it is known when something happened to a job last
local RECENT = 30 * 1000 -- ms after which an image's end counts 1/e in its job's rate

-- A job as a table; nil where there is none (any more), or what is there is none.
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

local expected = {} -- keys of which it is known that they are what they are to be

-- A key that all jobs of a tenant, a model or the farm need has its type, if it is there; else nothing is done.
local function expect(kind, key)
  if expected[key] then return end
  local found = type_of(key)
  if found ~= 'none' and found ~= kind then error({err = 'WRONGTYPE ' .. key}, 0) end
  expected[key] = true
end

-- What is written to when an image of such a job begins or ends.
local function expect_to_change(tenant, model, priority, once)
  for _, part in ipairs({'tenants', 'shares', 'suspected', 'delayed', 'leases'}) do expect('zset', model_key(model, part)) end
  for _, part in ipairs({'waits', 'claims'}) do expect('hash', model_key(model, part)) end
  for _, key in ipairs({jobs_key(model, priority, tenant), changed_key(tenant), DUE}) do expect('zset', key) end
  for _, key in ipairs({OPEN, WAITING, UNDER_WAY}) do expect('hash', key) end
  if once ~= '' then expect('string', idempotency_key(tenant, once)) end
end

-- ... and when a user has a hand in it.
local function expect_to_control(tenant)
  for _, key in ipairs({tenant_key(tenant), REMOVED}) do expect('zset', key) end
  for _, key in ipairs({CANCELS, AUDIT}) do expect('stream', key) end
end

-- Who did what: a line for each time somebody has changed something. Without a name, it was the farm itself.
local function audit(by, tenant, action, subject, detail)
  if (by or '') == '' then return end
  redis.call('XADD', AUDIT, 'MAXLEN', '~', LINES, '*',
    'by', by, 'tenant', tenant, 'action', action, 'subject', subject, 'detail', detail or '')
end

-- What lies under a key of one job and is none of the farm's keeps nobody from the others: it goes out of the way.
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

-- A job that is to be changed, of which all is as it is to be; nil where there is none (any more). What is there and
-- is no job is set aside.
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

-- For whoever watches all jobs of a tenant: something happened to this one.
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

-- Redis forgets a finished job by itself, `ms` from now; nil: it does not.
local function forget_after(job, ms)
  local function apply(key)
    if ms then redis.call('PEXPIRE', key, ms) else redis.call('PERSIST', key) end
  end
  apply(job_key(job.id))
  for part in pairs(JOB_PARTS) do apply(job_key(job.id, part)) end
  if job.once ~= '' then apply(idempotency_key(job.tenant, job.once)) end
end

-- A finished job is forgotten after its time, and its results stay; or goes with them, when the janitor removes it.
-- One that rendered tiles stays as long as the job that is made from them, which may want them yet, or again.
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

-- The image whose tiles a job renders is given out again as soon as that has ended.
local function wake_whole(job)
  local whole = hget(job_key(job.id), 'whole')
  if whole then redis.call('ZADD', model_key(job.model, 'delayed'), 'XX', NOW, whole) end
end

-- A job of which nothing more can come is finished.
local function settle(job)
  local is_over = job.done + job.failed >= job.n or (job.cancelled and job.running == 0)
  if job.finished or not is_over then return end
  set(job, 'finished', NOW)
  event(job)
  -- Redis gives a stream 4 kB to grow into, and a copy of it what it needs
  local events, copy = job_key(job.id, 'events'), job_key(job.id, 'events:copy')
  redis.call('COPY', events, copy, 'REPLACE')
  redis.call('RENAME', copy, events)
  let_go(job)
  wake_whole(job)
end

-- One more image of a job has ended: the ends are counted, older ones for less, so that they tell its rate.
local function count_end(job, state)
  local h = redis.call('HMGET', job_key(job.id), 'ended', 'ended_at')
  local age = math.max(0, NOW - number(h[2], NOW))
  local ended = number(h[1]) * math.exp(-age / RECENT) + 1
  set(job, state, job[state] + 1, 'ended', string.format('%.6f', ended), 'ended_at', NOW)
end

-- What a job's status is made from.
local function standing(job)
  local h = redis.call('HMGET', job_key(job.id), 'created', 'started', 'ended', 'ended_at', 'name', 'owner', 'tags', 'retain')
  local function known(text, otherwise) return is_number(text) and text or otherwise end
  return {
    job.id, job.model, job.priority, state_of(job), job.n, job.running, job.done, job.failed, known(h[1], '0'),
    known(h[2], ''), known(job.finished, ''), known(h[3], '0'), known(h[4], '0'), h[5] or '', h[6] or '', h[7] or '',
    known(h[8], ''),
  }
end
